#!/usr/bin/env bash
# Makes what a release consists of, in target/dist:
# - an archive for Linux, whose command needs nothing but a C library of 2018 or later (glibc 2.28)
# - an archive for 64-bit Windows
# - a wheel for Python on Linux, manylinux_2_28
# - the source crate
# - SHA256SUMS of them
# An archive has the command and the licences of all that is linked into it; the one for Linux also has the pages of the
# manual and the completions of shells. The wheel has the licences, too. zig links for the old C library; it,
# cargo-zigbuild and maturin come as Python packages.
# Windows needs the tools of tests/foreign.sh. What cannot be had is named, its archive is left out, and the exit code is 3.
#
#   packaging/dist.sh [linux] [windows] [wheel] [source]   (default: all four)
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/foreign.sh
[ $# -gt 0 ] || set -- linux windows wheel source
version=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c 'import json, sys
print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "meddino"))')
dist=$PWD/target/dist
mkdir -p "$dist"
status=0

# manual BINARY FOLDER [COMMAND...]: writes the page of a command, and of each command below it.
manual() {
    local binary=$1 folder=$2 part
    shift 2
    "$binary" man "$@" >"$folder/$(IFS=-; echo "meddino${*:+-$*}").1"
    for part in $("$binary" "$@" --help | awk '/^Commands:/ { on = 1; next } !NF { on = 0 } on && /^  [a-z]/ && $1 != "help" { print $1 }'); do
        manual "$binary" "$folder" "$@" "$part"
    done
}

# archive_folder NAME TARGET COMMAND: makes the folder of an archive, all but its manual and completions.
archive_folder() {
    local folder=$dist/$1
    rm -rf "$folder" && mkdir -p "$folder"
    install -m 755 "$3" "$folder/"
    cp README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$folder/"
    python3 packaging/licences.py "$2" >"$folder/LICENCES-OF-DEPENDENCIES.txt"
}

# zig_and TOOL WHAT: has zig and TOOL, which is a Python package of the same name, on the path, or says that WHAT is
# skipped.
zig_and() {
    # A folder for each tool, because pip empties one that it upgrades.
    local tools=$PWD/target/tools/$1
    export PATH="$tools/bin:$PATH" PYTHONPATH="$tools${PYTHONPATH:+:$PYTHONPATH}"
    "$1" --version >/dev/null 2>&1 && python3 -m ziglang version >/dev/null 2>&1 && return
    python3 -m pip install --quiet --upgrade --target "$tools" ziglang "$1" && return
    echo "SKIPPED: $2, because zig and $1 cannot be installed with pip" >&2
    status=3
    return 1
}

linux() {
    local target=x86_64-unknown-linux-gnu name=meddino-$version-x86_64-linux shell
    zig_and cargo-zigbuild "the archive for Linux" || return 0
    cargo zigbuild --release --locked --target "$target.2.28"
    archive_folder "$name" "$target" "${CARGO_TARGET_DIR:-target}/$target/release/meddino"
    local command=$dist/$name/meddino
    mkdir "$dist/$name"/{completions,man}
    for shell in bash fish zsh; do "$command" completions "$shell" >"$dist/$name/completions/meddino.$shell"; done
    manual "$command" "$dist/$name/man"
    (cd "$dist" && tar --sort=name --owner=0 --group=0 --numeric-owner -czf "$name.tar.gz" "$name")
    rm -r "${dist:?}/$name"
}

windows() {
    local target=x86_64-pc-windows-gnu name=meddino-$version-x86_64-windows
    (foreign_needs "the archive for Windows" gcc-mingw-w64-x86-64) || { status=$?; return; }
    CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc \
        CARGO_TARGET_DIR=target/windows foreign_cargo build --release --target "$target"
    archive_folder "$name" "$target" "target/windows/$target/release/meddino.exe"
    (cd "$dist" && rm -f "$name.zip" && python3 -m zipfile -c "$name.zip" "$name")
    rm -r "${dist:?}/$name"
}

wheel() {
    local target=x86_64-unknown-linux-gnu
    zig_and maturin "the wheel" || return 0
    rm -f "$dist/meddino-$version"-*.whl
    (
        trap 'rm -f python/LICEN*' EXIT
        cp LICENSE-MIT LICENSE-APACHE python/
        python3 packaging/licences.py "$target" meddino-python >python/LICENCES-OF-DEPENDENCIES.txt
        maturin build --release --locked --zig --target "$target" --compatibility manylinux_2_28 \
            --manifest-path python/Cargo.toml --out "$dist"
    )
    python3 packaging/try_wheel.py "$dist/meddino-$version"-*.whl
}

source_crate() {
    cargo package --locked --allow-dirty --no-verify
    cp "${CARGO_TARGET_DIR:-target}/package/meddino-$version.crate" "$dist/"
}

for part; do
    case $part in
    linux | windows | wheel) "$part" ;;
    source) source_crate ;;
    *) echo "dist.sh: expected linux, windows, wheel or source; found $part" >&2; exit 2 ;;
    esac
done
cd "$dist"
find . -maxdepth 1 -name 'meddino-*' -type f -printf '%P\n' | sort | xargs sha256sum | tee SHA256SUMS
du -h ./meddino-*
exit "$status"
