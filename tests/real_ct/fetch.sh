#!/usr/bin/env bash
# Fetches real CT through package managers, outside the repository, and builds the cases of tests/real_ct*.rs from it.
# Prints the folder for MEDDINO_REAL_CT on stdout. Files that are already there are not fetched again.
#
#   Debian     invesalius-examples   a head CT
#   PyPI       totalsegmentator      a CT atlas of the brain (only the wheel, without its dependencies)
#   PyPI       pydicom, pydicom-data, nibabel, …   CT files of many codecs, and the readers to compare with (see
#                                                  requirements.txt)
#   npm        ami.js                CT files in big endian and lossy JPEG 2000; skipped where npm is missing
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../debian.sh"
root=${MEDDINO_REAL_CT_CACHE:-$here/../../target/real-ct}
mkdir -p "$root/packages"
cd "$root"
root=$PWD

say() { echo "real CT: $*" >&2; }
need() { command -v "$1" >/dev/null || { say "$1 is needed to get $2"; exit 1; }; }

# The hash of the scripts that make the cases: cases are made again when the scripts change.
made_by=$(cat "$here"/*.py "$here"/requirements.txt "$here"/fetch.sh | sha256sum)
if [ "$(cat cases/made_by 2>/dev/null)" = "$made_by" ]; then
    echo "$root/cases"
    exit
fi

need python3 "the readers to compare with"
# An environment that was moved names its old place.
if ! venv/bin/pip --version >/dev/null 2>&1; then
    say "making a Python environment"
    if ! python3 -m venv --clear venv >/dev/null 2>&1; then
        debian_install python3-venv || { say "python3 makes no environment: install python3-venv"; exit 1; }
        python3 -m venv --clear venv >&2
    fi
fi
venv/bin/pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2

head=packages/invesalius-examples
if [ ! -d $head ]; then
    say "fetching the head CT (19 MB)"
    need apt-get "Debian's invesalius-examples"
    need dpkg-deb "Debian's invesalius-examples"
    (
        cd packages
        rm -f invesalius-examples_*.deb
        apt-get download -qq invesalius-examples >&2 || { as_root apt-get update -qq >&2 && apt-get download -qq invesalius-examples >&2; }
        dpkg-deb -x invesalius-examples_*.deb invesalius-examples.part
        mv invesalius-examples.part invesalius-examples
    )
fi

atlas=2.18.0
if ! compgen -G "packages/totalsegmentator-$atlas-*.whl" >/dev/null; then
    say "fetching the atlas"
    venv/bin/pip download --quiet --disable-pip-version-check --no-deps --dest packages totalsegmentator==$atlas >&2
fi

if [ ! -d packages/package ] && command -v npm >/dev/null; then
    say "fetching ami.js"
    (cd packages && npm pack --silent ami.js@0.33.0 >&2 && tar xzf ami.js-*.tgz) || say "npm gave no ami.js: its files are left out"
fi
[ -d packages/package ] || say "without npm's ami.js, its files are left out"

say "making the cases"
rm -rf cases
mkdir cases
venv/bin/python "$here/make_cases.py" cases "$head/usr/share/doc/invesalius-examples/examples/Cranium.inv3" packages/totalsegmentator-$atlas-*.whl >&2
venv/bin/python "$here/compare.py" cases >&2
if [ -f "$here/compare_dicom.py" ]; then
    ami=(packages/package/data/dicom)
    [ -d "${ami[0]}" ] || ami=()
    venv/bin/python "$here/compare_dicom.py" cases "${ami[@]}" >&2
fi
echo "$made_by" >cases/made_by
echo "$root/cases"
