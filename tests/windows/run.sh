#!/usr/bin/env bash
# Builds the command and the tests for 64-bit Windows, and runs them under wine, on the CPU and on the software Vulkan
# of this machine. Without arguments: the command's tests, names and files as Windows has them, kills, the kernels'
# tables on Vulkan, segmentation, and parity with PyTorch on small models. Exits with 3 where the tools cannot be had (tests/foreign.sh).
#
#   tests/windows/run.sh                 the selection above
#   tests/windows/run.sh smoke           the command's tests, names and files, and parity of tiny models
#   tests/windows/run.sh all             every test
#   tests/windows/run.sh ARGUMENT...     `cargo test ARGUMENT...`
#   CARGO_TARGET_DIR=FOLDER              the build folder (default: target/windows)
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/foreign.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/windows}"
foreign_needs "the tests on Windows" gcc-mingw-w64-x86-64 wine wine64 xvfb xauth libvulkan1 mesa-vulkan-drivers
wine=$(command -v /usr/lib/wine/wine64 wine64 wine | sed -n 1p)

# A Windows of our own. Its folder for temporary files is on the drive of the project, because tests name the project's
# files without a drive.
mkdir -p "$CARGO_TARGET_DIR/wine-tmp"
temporary=$(realpath "$CARGO_TARGET_DIR/wine-tmp")
export WINEPREFIX=$CARGO_TARGET_DIR/wine WINEDEBUG=${WINEDEBUG:--all}
if [ ! -e "$WINEPREFIX/whole" ]; then
    xvfb-run -a "$wine" wineboot -i >/dev/null 2>&1 || { echo "tests/windows/run.sh: wine cannot make a Windows in $WINEPREFIX" >&2; exit 1; }
    # Wine 8 lacks a library that Rust's std needs.
    library=$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll
    [ -e "$library" ] || x86_64-w64-mingw32-gcc -shared -o "$library" tests/windows/bcryptprimitives.c -ladvapi32
    touch "$WINEPREFIX/whole"
fi
for name in TEMP TMP; do "$wine" reg add 'HKCU\Environment' /v "$name" /d "Z:${temporary//\//\\}" /f >/dev/null; done

export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc
export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=$wine
# Wine's card for DX12 cannot be opened, so tests of kernels take the software GPU.
export WGPU_BACKEND=vulkan MEDDINO_REQUIRE_GPU=1
# Wine 8 refuses GenerateConsoleCtrlEvent, with a console as without.
export MEDDINO_NO_CTRL_BREAK=1
# Without a display wine finds no Vulkan. xvfb-run is a script for `sh`, which hands on no functions.
windows_test() { xvfb-run -a bash -c '. tests/foreign.sh && foreign_cargo test --target x86_64-pc-windows-gnu "$@"' - "$@"; }

case "$*" in
all) windows_test --no-fail-fast ;;
smoke)
    windows_test --no-run --test windows --test cli --test parity
    windows_test --test windows --test cli
    windows_test --test parity tiny
    ;;
"")
    windows_test --no-run --lib --test windows --test cli --test cli_outputs --test cli_volumes --test cli_cohorts --test faults --test hub --test kernels \
        --test nnunet --test parity
    status=0
    windows_test --no-fail-fast --test windows --test cli --test cli_outputs --test cli_volumes --test cli_cohorts --test faults --test hub --test kernels --test nnunet || status=$?
    windows_test --lib -- archive:: output:: jobs:: cpu:: hub:: || status=$?
    windows_test --test parity tiny || status=$?
    exit "$status"
    ;;
*) windows_test "$@" ;;
esac
