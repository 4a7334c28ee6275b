#!/usr/bin/env bash
# Builds the browser's part: the npm package in target/web/package, and in target/web/site the page, a static folder that
# any server serves. Needs a std for wasm32-unknown-unknown: rustup's target, or Debian's packages rustc-web, cargo-web,
# rust-web-src and lld. Installs these packages if it runs as root or sudo needs no password, and the wasm-bindgen
# command of the version in Cargo.lock into target/tools. wasm-opt (binaryen, from version 116) makes the module 7 % smaller
# if it is there. Where something cannot be had, the script says so and exits with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/debian.sh
out=$PWD/target/web
tools=$PWD/target/tools
packages=(rustc-web cargo-web rust-web-src lld)
skip() { echo "SKIPPED: the browser's part, for want of $*" >&2; exit 3; }

# Browsers have these instructions since Chrome 91, Firefox 89 and Safari 16.4.
export RUSTFLAGS="-C target-feature=+simd128"
build=(build --locked -p meddino-web --profile web --target wasm32-unknown-unknown --target-dir target/wasm)
if [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-unknown-unknown/lib" ]; then
    cargo "${build[@]}"
else
    debian_install "${packages[@]}" || skip "a std for wasm32-unknown-unknown"
    # Debian's compiler has no linker for WebAssembly: that of another toolchain is newer than that of the package lld.
    linker=$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld -type f 2>/dev/null | sed -n 1p)
    export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="${linker:-wasm-ld}"
    # Building std needs unstable flags, which RUSTC_BOOTSTRAP=1 enables in a stable compiler.
    PATH="/usr/bin:$PATH" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort
fi
unset RUSTFLAGS

# The command and the library of wasm-bindgen must be of one version.
version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
export PATH="$tools/bin:$PATH"
if [ "$(wasm-bindgen --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
    # Not optimised: it works on the module for some seconds longer, and is compiled minutes faster.
    CARGO_TARGET_DIR=target/wasm-bindgen cargo install --debug --quiet wasm-bindgen-cli --version "$version" --root "$tools" || skip "wasm-bindgen $version"
    rm -rf target/wasm-bindgen
fi

rm -rf "$out" && mkdir -p "$out/package" "$out/site"
wasm-bindgen --target web --out-dir "$out/package/wasm" --out-name meddino target/wasm/wasm32-unknown-unknown/web/meddino_web.wasm
module=$out/package/wasm/meddino_bg.wasm
# Version 108 of wasm-opt writes modules that no browser takes.
opt_version=$(wasm-opt --version 2>/dev/null | grep -o '[0-9]\+' | sed -n 1p || true)
if [ "${opt_version:-0}" -ge 116 ]; then
    wasm-opt -O2 --enable-simd --enable-bulk-memory --enable-sign-ext --enable-nontrapping-float-to-int --enable-mutable-globals \
        --enable-reference-types --enable-multivalue "$module" -o "$module.small"
    mv "$module.small" "$module"
fi
cp web/js/* web/package.json web/README.md LICENSE-MIT LICENSE-APACHE "$out/package/"
sed -i "s/\"version\": \".*\"/\"version\": \"$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | sed -n 1p)\"/" "$out/package/package.json"
cp -r web/page/* "$out/site/"
cp -r "$out/package" "$out/site/meddino"
echo "$(gzip -9c "$module" | wc -c) bytes of WebAssembly as served with gzip; the page is in target/web/site, the npm package in target/web/package"
