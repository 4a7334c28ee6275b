#!/usr/bin/env bash
# Checks that the library compiles for browsers without default features. Needs a std for wasm32-unknown-unknown:
# rustup's target, or Debian's packages rustc-web, cargo-web, rust-web-src and lld, which build std too. The script
# installs these packages if it runs as root or sudo needs no password. Without any std it says so and exits with 3.
#
#   CARGO_TARGET_DIR=FOLDER   the build folder (default: target/wasm)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/wasm}"
check=(check --locked --lib --no-default-features --target wasm32-unknown-unknown)
packages=(rustc-web cargo-web rust-web-src lld)

if [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]; then
    exec cargo "${check[@]}"
fi
debian_install "${packages[@]}" || { echo "SKIPPED: the check for browsers needs a std for wasm32-unknown-unknown" >&2; exit 3; }
# Building std needs unstable flags, which RUSTC_BOOTSTRAP=1 enables in a stable compiler.
exec env PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "${check[@]}" -Zbuild-std=std,panic_abort
