#!/usr/bin/env bash
# A software Vulkan with cooperative matrices, beside the system's own: Mesa of Debian trixie-backports, unpacked into a folder with the C
# library that it needs. Nothing is installed, and no root is needed; packages come from the mirror that this machine's apt already uses,
# and are checked by its keys. Prints what to export so that cargo runs test binaries against it:
#
#   eval "$(tests/trixie_vulkan.sh [FOLDER])" && cargo test --test kernels --test tiers
#
# FOLDER (default: target/trixie) is kept, and used again as it is. Exit code 3: this machine is not one for which it is made.
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
    # With no package counted as installed, what apt would download is everything that the driver needs.
    aptly --download-only --no-install-recommends -y -t trixie-backports install mesa-vulkan-drivers libvulkan1 >&2
    for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
    rm -rf "$apt"
    # The driver's own description may name a path of an installed system.
    sed -E 's#("library_path": *")[^"]*/?(libvulkan_lvp[^"]*")#\1'"$lib"'/\2#' "$root"/usr/share/vulkan/icd.d/lvp_icd*.json >"$root/lvp.json"
    touch "$root/whole"
fi

# A binary of this machine under that system's loader: only the loader's own search path decides which C library it gets.
loader=$(ls "$root"/usr/lib64/ld-linux-x86-64.so.2 "$lib"/ld-linux-x86-64.so.2 2>/dev/null | head -n 1)
echo "export MEDDINO_REQUIRE_TIER=cooperative8/f16"
echo "export VK_DRIVER_FILES=$root/lvp.json"
echo "export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$loader --library-path $lib'"
