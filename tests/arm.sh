#!/usr/bin/env bash
# Builds the tests for 64-bit Arm Linux and runs them on an emulated CPU (qemu), where the CPU backend uses NEON.
# Without arguments: the tests of the CPU backend, its parity with PyTorch on small models, and the kernels' tables.
# Nothing is timed, because the emulator is some hundred times slower than a CPU. No GPU is there. Exits with 3 where
# the tools cannot be had (tests/foreign.sh).
#
#   tests/arm.sh                 the selection above
#   tests/arm.sh smoke           the CPU backend's own tests, and parity of tiny models
#   tests/arm.sh all             every test, the base model among them; hours
#   tests/arm.sh ARGUMENT...     `cargo test ARGUMENT...`
#   CARGO_TARGET_DIR=FOLDER      the build folder (default: target/arm)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/foreign.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/arm}"
what="the tests on 64-bit Arm"
foreign_needs "$what" gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-binfmt binfmt-support

# Tests start the command and themselves, so the kernel must know how to run programs for Arm.
as_root update-binfmts --enable qemu-aarch64 2>/dev/null || true
grep -qs enabled /proc/sys/fs/binfmt_misc/qemu-aarch64 || { echo "SKIPPED: $what, because the kernel starts no such program" >&2; exit 3; }
export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
unset MEDDINO_REQUIRE_GPU
arm_test() { foreign_cargo test --target aarch64-unknown-linux-gnu "$@"; }

case "$*" in
all) arm_test --no-fail-fast ;;
smoke)
    arm_test --no-run --lib --test parity
    arm_test --lib cpu::
    arm_test --test parity tiny
    ;;
"")
    # One build for all runs below.
    arm_test --no-run --lib --test parity --test cpu_threads --test kernels
    arm_test --lib cpu:: -- --nocapture
    arm_test --test parity tiny -- --nocapture
    arm_test --test cpu_threads small
    arm_test --test kernels
    ;;
*) arm_test "$@" ;;
esac
