#!/usr/bin/env bash
# Unpacks a software Vulkan driver with cooperative matrices next to the system's own: Mesa of Debian trixie-backports
# and the C library that it needs, in one folder. Nothing is installed, and no root is needed. Packages come from the
# mirror that this machine's apt uses, and are checked with its keys. Prints the variables to export so that cargo runs
# test binaries against the driver:
#
#   eval "$(tests/trixie_vulkan.sh [FOLDER])" && cargo test --test kernels --test tiers
#
# FOLDER (default: target/trixie) is kept and used again. Exit code 3 means that this machine is not supported.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$(realpath -m "${1:-target/trixie}")
unfit() { echo "trixie_vulkan.sh: $1" >&2; exit 3; }
[ "$(uname -sm)" = "Linux x86_64" ] || unfit "this is for Linux on x86_64"
lib=$root/usr/lib/x86_64-linux-gnu

if [ ! -e "$root/whole" ]; then
    command -v apt-get >/dev/null || unfit "this needs apt"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1 || true)
    [ -n "$mirror" ] || unfit "apt knows no Debian mirror here"
    apt=$root/apt
    rm -rf "$root"
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,etc}
    : >"$apt/status"
    for suite in trixie trixie-backports; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$apt/etc/sources.list"
    aptly() {
        apt-get -qq -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User= \
            -o Dir::Etc::sourcelist="$apt/etc/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
            -o Acquire::Languages=none "$@"
    }
    aptly update >&2
    # apt is told that no package is installed, so that it downloads everything that the driver needs.
    aptly --download-only --no-install-recommends -y -t trixie-backports install mesa-vulkan-drivers libvulkan1 >&2
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -rf "$apt"
    # The driver's description may name a path of an installed system, so it gets the path in the folder.
    sed -E 's#("library_path": *")[^"]*/?(libvulkan_lvp[^"]*")#\1'"$lib"'/\2#' "$root"/usr/share/vulkan/icd.d/lvp_icd*.json >"$root/lvp.json"
    touch "$root/whole"
fi

# The system's own loader would take the system's C library, so test binaries run under the unpacked system's loader.
loader=$(ls "$root"/usr/lib64/ld-linux-x86-64.so.2 "$lib"/ld-linux-x86-64.so.2 2>/dev/null | head -n 1)
echo "export MEDDINO_REQUIRE_TIER=cooperative8/f16"
echo "export VK_DRIVER_FILES=$root/lvp.json"
echo "export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$loader --library-path $lib'"
