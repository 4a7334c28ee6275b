#!/usr/bin/env bash
# Unpacks Mesa's Vulkan drivers from a suite of Debian, with the C library that they need, in one folder. Nothing is
# installed, and no root is needed. Packages come from the mirror that this machine's apt uses, and are checked with its
# keys. Prints the variables to export so that cargo runs binaries against one of the drivers:
#
#   eval "$(tests/unpack_mesa.sh FOLDER SUITE DRIVER)"     SUITE: trixie or trixie-backports; DRIVER: lvp or radeon
#
# FOLDER is kept and used again. Exit code 3 means that this machine is not supported.
set -euo pipefail
[ $# = 3 ] || { echo "usage: unpack_mesa.sh FOLDER SUITE DRIVER" >&2; exit 2; }
. "$(dirname "$0")/debian.sh"
root=$(realpath -m "$1") suite=$2 driver=$3
unfit() { echo "unpack_mesa.sh: $1" >&2; exit 3; }
[ "$(uname -sm)" = "Linux x86_64" ] || unfit "this is for Linux on x86_64"
lib=$root/usr/lib/x86_64-linux-gnu

if [ ! -e "$root/whole" ]; then
    command -v apt-get >/dev/null || unfit "this needs apt"
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || unfit "apt knows no Debian mirror here"
    apt=$root/apt
    rm -rf "$root"
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc}
    : >"$apt/status"
    # Backports need the packages of the suite that they are made for.
    printf "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror %s main\n" "${suite%-backports}" "$suite" | sort -u \
        >"$apt/etc/sources.list"
    aptly() {
        apt-get -qq -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User= \
            -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
            -o Acquire::Languages=none "$@"
    }
    aptly update >&2 || unfit "apt cannot read $suite of $mirror"
    # apt is told that no package is installed, so that it downloads everything that the drivers need.
    aptly --download-only --no-install-recommends -y -t "$suite" install mesa-vulkan-drivers libvulkan1 >&2 ||
        unfit "apt cannot download Mesa of $suite"
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -rf "$apt"
    touch "$root/whole"
fi

# The driver's description may name a path of an installed system, so it gets the path in the folder.
sed -E 's#("library_path": *")[^"]*/?(libvulkan_'"$driver"'[^"]*")#\1'"$lib"'/\2#' \
    "$root"/usr/share/vulkan/icd.d/"$driver"_icd*.json >"$root/$driver.json"
# The system's own loader would take the system's C library, so binaries run under the unpacked system's loader.
loader=$root/usr/lib64/ld-linux-x86-64.so.2
[ -e "$loader" ] || loader=$lib/ld-linux-x86-64.so.2
echo "export VK_DRIVER_FILES=$root/$driver.json"
echo "export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$loader --library-path $lib'"
