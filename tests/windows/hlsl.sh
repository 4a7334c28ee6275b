#!/usr/bin/env bash
# Compiles the HLSL of the kernels that DX12 can be given with Microsoft's compilers, under wine: DXC, and FXC for the
# plainest tier. No card and no Windows is needed, and nothing runs on a GPU. Exits with 3 where the tools cannot be had.
#
#   MEDDINO_HLSL_TILES=all   every tile, which takes FXC a quarter of an hour; without it the tiles that kernels have by default
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/foreign.sh
. tests/windows/compilers.sh
foreign_needs "HLSL by Microsoft's compilers" gcc-mingw-w64-x86-64 wine wine64 unzip
wine=$(command -v /usr/lib/wine/wine64 wine64 wine | sed -n 1p)
microsoft_compilers "HLSL by Microsoft's compilers"

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
