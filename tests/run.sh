#!/usr/bin/env bash
# Runs all tests, installs what they need, and prints which took longest. On a Debian or Ubuntu machine without a Vulkan
# driver it first installs the software driver (as root or through sudo), so that the GPU tests run. Package managers
# fetch real CT. Arguments go to `cargo test`. Without arguments, and where cargo-nextest is installed, `cargo nextest`
# runs the tests, which is faster.
#
#   MEDDINO_REQUIRE_GPU=1       a GPU test without an adapter fails instead of being skipped
#   MEDDINO_REQUIRE_REAL_CT=1   a real-CT test without data fails instead of being skipped
#   MEDDINO_REAL_CT=FOLDER      real CT that tests/real_ct/fetch.sh has already fetched
#   MEDDINO_PACKAGES=OPTIONS    cargo's selection of packages, such as --workspace (default: the library and the command)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh

has_vulkan() { compgen -G "/usr/share/vulkan/icd.d/*.json" >/dev/null || compgen -G "/etc/vulkan/icd.d/*.json" >/dev/null || [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]; }

if [ "$(uname -s)" = Linux ] && ! has_vulkan; then
    echo "no Vulkan driver found: installing the software driver (mesa-vulkan-drivers)" >&2
    debian_install mesa-vulkan-drivers libvulkan1 || echo "none can be installed: GPU tests will be reported as skipped" >&2
fi
# A selection of tests, or all where cargo-nextest is missing, runs one test binary after another, and each is timed.
runner="test"
read -ra packages <<<"${MEDDINO_PACKAGES:-}"
if [ $# = 0 ] && cargo nextest --version >/dev/null 2>&1; then runner="nextest run"; fi

if [ -z "${MEDDINO_REAL_CT:-}" ]; then
    # Real CT comes over the network while the compiler works.
    fetched=$(mktemp)
    trap 'rm -f "$fetched"' EXIT
    tests/real_ct/fetch.sh >"$fetched" &
    fetching=$!
    cargo $runner --locked "${packages[@]}" --no-run "$@" || { kill $fetching; exit 1; }
    if wait $fetching; then
        MEDDINO_REAL_CT=$(cat "$fetched")
        export MEDDINO_REAL_CT
    else
        unset MEDDINO_REAL_CT
        echo "real CT could not be fetched: its tests will be reported as skipped" >&2
    fi
fi

# Prints the ten slowest of the lines "SECONDS NAME" on stdin.
longest() { echo "Slowest, in seconds:"; sort -rn | sed -n 1,10p; }
status=0

if [ "$runner" = test ]; then
    output=$(mktemp)
    trap 'rm -f "$output" ${fetched:+"$fetched"}' EXIT
    [ $# -gt 0 ] || set -- --no-fail-fast
    cargo test --locked "${packages[@]}" "$@" 2>&1 | tee "$output" || status=$?
    sed -nE -e 's/^ *Running (.*) \(.*/\1/;t name' -e 's/^ *(Doc-tests .*)/\1/;t name' -e 's/.*; finished in ([0-9.]+)s$/\1/;t time' -e d \
        -e ':name' -e 'h;d' -e ':time' -e 'G;s/\n/ /p' "$output" | longest
    exit "$status"
fi

# Runs test binaries side by side. nextest runs no doctests and hides the output of passing tests, so both come below.
report=${CARGO_TARGET_DIR:-target}/nextest/default/junit.xml
rm -f "$report"
cargo nextest run --locked "${packages[@]}" --no-fail-fast || status=$?
cargo test --locked "${packages[@]}" --doc || status=$?
if [ -f "$report" ]; then
    grep -o 'SKIPPED.*' "$report" | sed 's/<.*//' | sort -u || true
    sed -n 's/.*<testcase name="\([^"]*\)" classname="\([^"]*\)".* time="\([^"]*\)".*/\3 \2 \1/p' "$report" | longest
fi
exit "$status"
