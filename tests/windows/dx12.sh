#!/usr/bin/env bash
# Runs kernels and models on DX12, without a card and without Windows: under the wine of Debian 13, whose DX12 (vkd3d)
# computes on software Vulkan. Programs are compiled as tests/windows/run.sh compiles them. Exits with 3 where the tools
# cannot be had.
#
#   tests/windows/dx12.sh                              parity of tiny models, and some kernels, with each compiler
#   tests/windows/dx12.sh COMPILER ARGUMENT...         `cargo test ARGUMENT...`; COMPILER is fxc or dxc
#   tests/windows/dx12.sh COMPILER run ARGUMENT...     the command
#
#   fxc   shader model 5.1, with wine's own d3d12.dll: tiers baseline and direct
#   dxc   shader model 6.0, and the tier subgroups, with a d3d12.dll that is built here from the source of Debian's wine,
#         because wine builds its own without DXIL, the language that DXC writes
#
# Wine is unpacked in target/dx12 (1.3 GB, and 1 GB more for what builds d3d12.dll), and started there by chroot, which
# needs root.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/foreign.sh
. tests/windows/compilers.sh
what="the tests on DX12"
[ "$(id -u)" = 0 ] || { echo "SKIPPED: $what, because they need root" >&2; exit 3; }
# Mounts are seen by this script alone, and end with it: it starts itself again with mounts of its own.
if [ "${MEDDINO_MOUNTS_OF_ALL:-$(readlink /proc/self/ns/mnt)}" = "$(readlink /proc/self/ns/mnt)" ]; then
    unshare --mount true 2>/dev/null || { echo "SKIPPED: $what, because no folder can be mounted here" >&2; exit 3; }
    MEDDINO_MOUNTS_OF_ALL=$(readlink /proc/self/ns/mnt) exec unshare --mount --propagation private tests/windows/dx12.sh "$@"
fi
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target/windows}"
foreign_needs "$what" gcc-mingw-w64-x86-64 mmdebstrap unzip
microsoft_compilers "$what"
mkdir -p target/dx12 "$CARGO_TARGET_DIR"
desk=$(realpath target/dx12)
root=$desk/root

if [ ! -e "$root/whole" ]; then
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || { echo "SKIPPED: $what, because apt knows no Debian mirror here" >&2; exit 3; }
    rm -rf --one-file-system "$root"
    mmdebstrap --quiet --variant=apt --mode=root --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --include=wine,wine64,libwine,xvfb,xauth,mesa-vulkan-drivers,libvulkan1,ca-certificates trixie "$root" "$mirror" >&2 ||
        { echo "SKIPPED: $what, because Debian 13's wine cannot be had" >&2; exit 3; }
    echo "deb-src $mirror trixie main" >"$root/etc/apt/sources.list.d/source.list"
    touch "$root/whole"
fi
bind() { mkdir -p "$root$1" && mount --bind "$1" "$root$1"; }
mount -t proc proc "$root/proc"
bind /dev
bind /dev/shm
bind "$PWD"
bind "$(realpath target)"
bind "$(realpath "$CARGO_TARGET_DIR")"

# Software Vulkan, also where there is a card.
lavapipe=$(cd "$root" && ls usr/share/vulkan/icd.d/lvp_icd*.json | sed 's#^#/#' | sed -n 1p)

# A Windows for each compiler. wgpu takes DXC where it finds its library. Wine's FXC writes shaders that its own DX12
# refuses, so Microsoft's takes its place.
windows_of() {
    local prefix=$desk/$1 system=$desk/$1/drive_c/windows/system32
    if [ ! -e "$prefix/whole" ]; then
        rm -rf "$prefix"
        chroot "$root" env HOME=/root WINEPREFIX="$prefix" WINEDEBUG=-all xvfb-run -a bash -c 'wine wineboot -i && wineserver -w' >&2
        touch "$prefix/whole"
    fi
    cp "$hlsl/d3dcompiler_47.dll" "$system"
    if [ "$1" = dxc ]; then
        d3d12_of_wine
        cp "$hlsl/dxcompiler.dll" "$hlsl/dxil.dll" "$desk/d3d12.dll" "$system"
    fi
}

# Builds d3d12.dll from the vkd3d in wine's source, which reads DXIL if it is compiled with this macro.
d3d12_of_wine() {
    local sources=(tests/windows/d3d12.{c,def,sh}) made_by status=0
    made_by=$(cat "${sources[@]}" | sha256sum)
    [ "$(cat "$desk/d3d12.made_by" 2>/dev/null)" != "$made_by" ] || return 0
    cp "${sources[@]}" "$root/root"
    chroot "$root" env HOME=/root DEBIAN_FRONTEND=noninteractive bash /root/d3d12.sh >"$desk/d3d12.log" 2>&1 || status=$?
    if [ $status != 0 ]; then
        tail -n 20 "$desk/d3d12.log" >&2
        echo "tests/windows/dx12.sh: d3d12.dll cannot be built ($desk/d3d12.log)" >&2
        exit $status
    fi
    cp "$root/root/d3d12.dll" "$desk"
    echo "$made_by" >"$desk/d3d12.made_by"
}

# Without a display wine finds no Vulkan. wgpu's debug builds would ask the compilers for no optimisation. The device calls
# itself a card, so without MEDDINO_CACHE it would be tuned, for many minutes.
in_windows() {
    local compiler=$1 overrides=d3dcompiler_47=n
    shift
    windows_of "$compiler"
    [ "$compiler" = fxc ] || overrides="d3d12,$overrides"
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc CC_x86_64_pc_windows_gnu=x86_64-w64-mingw32-gcc
    export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER="chroot $root env -C $PWD HOME=/root WINEPREFIX=$desk/$compiler WINEDLLOVERRIDES=$overrides VK_DRIVER_FILES=$lavapipe xvfb-run -a wine"
    export WINEDEBUG=-all VKD3D_DEBUG=err WGPU_BACKEND=dx12 WGPU_DEBUG=0 MEDDINO_REQUIRE_GPU=1 MEDDINO_CACHE=
    if [ "${1:-}" = run ]; then
        shift
        foreign_cargo run --quiet --target x86_64-pc-windows-gnu --bin meddino -- "$@"
    else
        foreign_cargo test --target x86_64-pc-windows-gnu "$@"
    fi
}

if [ $# -gt 0 ]; then
    case $1 in fxc | dxc) in_windows "$@" ;; *) echo "usage: tests/windows/dx12.sh [fxc|dxc ARGUMENT...]" >&2; exit 2 ;; esac
    exit
fi
in_windows fxc --test kernels --test gpu_model --no-run
# Where wgpu cannot load DXC, it takes FXC without a word, which has no such tier.
devices=$(in_windows dxc run devices)
[[ $devices == *subgroups* ]] || { echo "tests/windows/dx12.sh: DXC was not used: $devices" >&2; exit 1; }
for compiler in fxc dxc; do
    in_windows $compiler --test gpu_model -- parity::tiny
    in_windows $compiler --test kernels -- elementwise:: tokens:: resize:: maps::
done
