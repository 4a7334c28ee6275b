#!/usr/bin/env bash
# Runs all tests, with all set-up: on a Debian or Ubuntu machine without any Vulkan driver it installs the software one first
# (as root, or through sudo), so that the GPU tests run for real, and real CT is fetched by package managers. Arguments go to `cargo test`.
#
#   MEDDINO_REQUIRE_GPU=1       a GPU test without an adapter fails instead of being skipped
#   MEDDINO_REQUIRE_REAL_CT=1   so does a test of real CT without it
#   MEDDINO_REAL_CT=FOLDER      real CT that was fetched before, by tests/real_ct/fetch.sh
set -euo pipefail
cd "$(dirname "$0")/.."

has_vulkan() { compgen -G "/usr/share/vulkan/icd.d/*.json" >/dev/null || compgen -G "/etc/vulkan/icd.d/*.json" >/dev/null || [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

if [ "$(uname -s)" = Linux ] && ! has_vulkan; then
    if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        echo "no Vulkan driver here: installing the software one (mesa-vulkan-drivers)" >&2
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1 >/dev/null
    else
        echo "no Vulkan driver here, and no way to install one: GPU tests will be skipped, and say so" >&2
    fi
fi
if [ -z "${MEDDINO_REAL_CT:-}" ]; then
    if MEDDINO_REAL_CT=$(tests/real_ct/fetch.sh); then
        export MEDDINO_REAL_CT
    else
        unset MEDDINO_REAL_CT
        echo "no real CT could be fetched: its tests will be skipped, and say so" >&2
    fi
fi
exec cargo test --locked "$@"
