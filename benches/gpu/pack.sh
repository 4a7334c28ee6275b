#!/usr/bin/env bash
# Packs what a GPU machine without a network and without Rust needs besides a checkout, for benches/gpu/run.sh there:
#
#   benches/gpu/pack.sh [--with-benches] [--without-peers] FOLDER          for example target/gpu, which git ignores
#
# FOLDER then holds meddino-gpu.deb (the command and the GPU test binaries, stripped), Debian's Vulkan loader with the
# libraries of OpenGL that NVIDIA's driver needs, and, if benches/peers/pack.sh exists, FOLDER/peers. The binaries are a
# package because dpkg is there anyway to unpack the loader. --with-benches adds criterion's benches of single kernels;
# --without-peers leaves FOLDER/peers as it is. Needs cargo, dpkg-deb, apt-get and strip; x86-64 Linux.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd -P)
cd "$root"

with_benches='' with_peers=yes
while [ $# -gt 1 ]; do
    case $1 in
        --with-benches) with_benches=yes ;;
        --without-peers) with_peers='' ;;
        *) break ;;
    esac
    shift
done
[ $# = 1 ] || { echo "usage: benches/gpu/pack.sh [--with-benches] [--without-peers] FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd -P)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
bin=$stage/opt/meddino-gpu
mkdir -p "$bin" "$stage/DEBIAN"

cargo build --locked --release --bin meddino
cp target/release/meddino "$bin/"
# cargo prints the path of each test binary: "  Executable tests/tiers.rs (target/release/deps/tiers-...)".
targets=(--lib --test kernels --test tiers --test gpu_model --test gpu --test host)
[ -z "$with_benches" ] || targets+=(--bench kernels)
cargo test --locked --release --no-run "${targets[@]}" 2>&1 | tee "$stage/built" >&2
while read -r kind name path; do
    [ "$kind" != benches ] || name=bench_$name
    cp "$path" "$bin/$name"
done < <(sed -nE 's/^ *Executable (unittests src|tests|benches)\/([a-z_]+)(\/main)?\.rs \((.*)\)$/\1\t\2\t\4/p' "$stage/built" | sed 's/^unittests src/src/')
for name in meddino lib kernels tiers gpu_model gpu host; do
    [ -x "$bin/$name" ] || { echo "pack.sh: cargo named no binary for $name" >&2; exit 1; }
done
strip "$bin"/*
rm "$stage/built"
# Tests look for their files in the folder in which they were built.
echo "$root" >"$bin/root"
git rev-parse HEAD >"$bin/commit"
printf 'Package: meddino-gpu\nVersion: 0\nArchitecture: amd64\nMaintainer: meddino\nDescription: binaries for benches/gpu/run.sh\n' >"$stage/DEBIAN/control"
dpkg-deb --root-owner-group -Zxz -z9 --build "$stage" "$folder/meddino-gpu.deb" >&2

rm -f "$folder"/lib*.deb
(cd "$folder" && apt-get download libvulkan1 libglvnd0 libgl1 libglx0 libegl1 >&2)
if [ -n "$with_peers" ] && [ -x benches/peers/pack.sh ]; then
    benches/peers/pack.sh "$folder/peers"
fi

echo "packed into $folder:"
(cd "$folder" && du -sh -- * | sort -h)
most=$((20 << 20))
size=$(stat -c %s "$folder/meddino-gpu.deb")
[ "$size" -le "$most" ] || echo "meddino-gpu.deb has $((size >> 20)) MiB, more than the 20 that were meant" >&2
