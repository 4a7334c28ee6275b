#!/usr/bin/env bash
# Compiles every kernel for AMD cards that need not be there (RDNA2, RDNA3, RDNA4), by the compiler of AMD's open
# driver, and prints a table (docs/kernels.md says how to read it). No GPU is needed, and nothing runs on one.
#
#   benches/compiler/run.sh [--json FILE] [--record]
#
#   --json FILE   also writes the table as JSON
#   --record      writes the figures to floors.tsv, which no later run may fall below
#
# Exit code 1: registers spill, the driver refuses a kernel, or a figure is worse than the recorded one. 3: the compiler
# cannot be had here. The driver is Debian 13's Mesa, in target/mesa; newer ones open no card that is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --json) [ $# -ge 2 ] || { echo "run.sh: --json needs a file" >&2; exit 2; }; arguments+=(--json "$(realpath -m "$2")"); shift 2 ;;
        --record) arguments+=(--record); shift ;;
        *) echo "usage: benches/compiler/run.sh [--json FILE] [--record]" >&2; exit 2 ;;
    esac
done
driver=$(tests/unpack_mesa.sh target/mesa trixie radeon)
eval "$driver"
export MESA_SHADER_CACHE_DISABLE=true WGPU_BACKEND=vulkan
# With another profile or other packages than those of the tests, everything would be compiled once more.
read -ra packages <<<"${MEDDINO_PACKAGES:-}"
cargo test --quiet --locked "${packages[@]}" --bench compiler --no-run
cargo test --quiet --locked "${packages[@]}" --bench compiler -- "${arguments[@]}"
