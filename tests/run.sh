#!/usr/bin/env bash
# Runs all tests, with all set-up, and prints which took longest. On a Debian or Ubuntu machine without any Vulkan driver
# it installs the software one first (as root, or through sudo), so that the GPU tests run for real, and package managers
# fetch real CT. Arguments go to `cargo test`; without any, `cargo nextest` runs the tests where it is installed, in less
# time.
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

# Of lines "SECONDS NAME", the ten that took longest.
longest() { echo "What took longest, in seconds:"; sort -rn | sed -n 1,10p; }
status=0

# A choice of tests, or no cargo-nextest here: `cargo test` runs them, one test binary after another, and times each binary.
if [ $# -gt 0 ] || ! cargo nextest --version >/dev/null 2>&1; then
    output=$(mktemp)
    trap 'rm -f "$output"' EXIT
    [ $# -gt 0 ] || set -- --no-fail-fast
    cargo test --locked "$@" 2>&1 | tee "$output" || status=$?
    sed -nE -e 's/^ *Running (.*) \(.*/\1/;t name' -e 's/^ *(Doc-tests .*)/\1/;t name' -e 's/.*; finished in ([0-9.]+)s$/\1/;t time' -e d \
        -e ':name' -e 'h;d' -e ':time' -e 'G;s/\n/ /p' "$output" | longest
    exit "$status"
fi

# Test binaries side by side. It knows no tests in the documentation, and prints nothing that a passing test printed.
report=${CARGO_TARGET_DIR:-target}/nextest/default/junit.xml
rm -f "$report"
cargo nextest run --locked --no-fail-fast || status=$?
cargo test --locked --doc || status=$?
if [ -f "$report" ]; then
    grep -o 'SKIPPED.*' "$report" | sed 's/<.*//' | sort -u || true
    sed -n 's/.*<testcase name="\([^"]*\)" classname="\([^"]*\)".* time="\([^"]*\)".*/\3 \2 \1/p' "$report" | longest
fi
exit "$status"
