#!/usr/bin/env bash
# Checks that the library, the command and the viewer compile for macOS, on processors of Apple and of Intel. Nothing is
# linked or run, which needs Apple's SDK. Exits with 3 where the tools cannot be had (tests/foreign.sh).
#
#   tests/macos.sh [TARGET...]   default: aarch64-apple-darwin x86_64-apple-darwin
#   CARGO_TARGET_DIR=FOLDER      the build folder (default: target/macos)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/foreign.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/macos}"
[ $# -gt 0 ] || set -- aarch64-apple-darwin x86_64-apple-darwin

# A check of Rust reads nothing of the C in dependencies, which needs headers of Apple. So `true` stands for its compiler.
foreign_needs "the check for macOS"
for target; do
    export "CC_${target//-/_}=true" "AR_${target//-/_}=true"
    foreign_cargo check --target "$target" -p meddino -p meddino-viewer
done
