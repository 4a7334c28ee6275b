#!/usr/bin/env bash
# Fuzzes the readers, guided by coverage, and reports the result. Exits with 1 if a reader broke; the input is then in
# target/fuzz-found.
#
#   fuzz/run.sh [SECONDS [READER...]]     SECONDS in all (default 60), for these readers (default: all)
#
#   MEDDINO_FUZZ_RUNS=N         the same N inputs a reader at every run, instead of new ones for a time
#   MEDDINO_FUZZ_DEEP=1         instruments dependencies too, which recompiles them under target/fuzz; for long runs
#   MEDDINO_FUZZ_CORPUS=FOLDER  keeps inputs that reach new code in FOLDER/READER, and starts from them the next time
#
# Needs a C++ compiler for libFuzzer. Without one the script says so and exits with 3.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true

if ! command -v "${CXX:-c++}" >/dev/null; then
    echo "SKIPPED: fuzzing needs a C++ compiler (fuzz/run.sh)" >&2
    exit 3
fi
build=(cargo build --locked --example fuzz --features meddino-fuzz/guided)
if [ "${MEDDINO_FUZZ_DEEP:-}" = 1 ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS=$(fuzz/coverage.sh echo) "${build[@]}" -p meddino-fuzz --target "$host" --target-dir target/fuzz
    program=target/fuzz/$host/debug/examples/fuzz
else
    # With other packages than those of the tests, every dependency would be compiled once more.
    read -ra packages <<<"${MEDDINO_PACKAGES:--p meddino -p meddino-fuzz}"
    RUSTC_WORKSPACE_WRAPPER=$PWD/fuzz/coverage.sh "${build[@]}" "${packages[@]}"
    program=target/debug/examples/fuzz
fi

readers=("$@")
[ $# -gt 0 ] || mapfile -t readers < <(ls fuzz/seeds)
each=$((seconds / ${#readers[@]}))
[ "$each" -gt 0 ] || each=1
limit=(-max_total_time="$each")
[ -z "${MEDDINO_FUZZ_RUNS:-}" ] || limit=(-seed=1 -runs="$MEDDINO_FUZZ_RUNS")
memory=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
trap 'rm -rf "$memory"' EXIT
mkdir -p target/fuzz-found "$memory/files"

broken=0
printf '%-14s %12s %8s %8s\n' reader executions seconds files
for reader in "${readers[@]}"; do
    corpus=${MEDDINO_FUZZ_CORPUS:-$memory/corpus}/$reader
    kept=("fuzz/seeds/$reader")
    [ ! -d "fuzz/regressions/$reader" ] || kept+=("fuzz/regressions/$reader")
    mkdir -p "$corpus"
    begun=$SECONDS
    if TMPDIR=$memory/files MEDDINO_FUZZ_TARGET=$reader "$program" "${limit[@]}" -timeout=30 -rss_limit_mb=6000 -max_len=32768 \
        -print_final_stats=1 -artifact_prefix="target/fuzz-found/$reader-" "$corpus" "${kept[@]}" >"$memory/log" 2>&1; then
        executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$memory/log")
        printf '%-14s %12s %8s %8s\n' "$reader" "$executions" $((SECONDS - begun)) "$(find "$corpus" -type f | wc -l)"
        [ "${executions:-0}" -gt 0 ] || broken=1
    else
        broken=1
        printf '%-14s BROKEN\n' "$reader"
        grep -v '^#[0-9]' "$memory/log" | tail -20
    fi
    rm -rf "$memory"/files/*
done
exit $broken
