#!/usr/bin/env bash
# Builds the library and some tests for 32-bit x86 Linux and runs them, because a browser's programs count sizes in 32
# bits, too: the plans of large passes, scans of more than 4 GiB, and the unit tests of the build without a CPU backend.
# It takes minutes, so that it is run by hand. Exits with 3 where the tools cannot be had (tests/foreign.sh).
#
#   CARGO_TARGET_DIR=FOLDER      the build folder (default: target/bits32)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/foreign.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/bits32}"
foreign_needs "the tests on 32 bits" gcc-i686-linux-gnu libc6-dev-i386-cross
export CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=i686-linux-gnu-gcc
# The system's loader is for 64 bits.
export CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_RUNNER="/usr/i686-linux-gnu/lib/ld-linux.so.2 --library-path /usr/i686-linux-gnu/lib"
unset MEDDINO_REQUIRE_GPU
foreign_cargo test --target i686-unknown-linux-gnu --no-default-features --features readers --lib --test plan --test large_scans
