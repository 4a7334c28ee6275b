#!/usr/bin/env bash
# Runs tests and benchmarks on a GPU machine that may have neither a network nor Rust. In the root of a checkout:
#
#   benches/gpu/run.sh [OPTIONS] FOLDER OUT      FOLDER is what benches/gpu/pack.sh made; OUT gets the results
#
#   --minutes N         steps that have not begun after N minutes are not run, and are listed (default 8)
#   --parts LIST        some of tests,devices,tune,bench,profile,peers (default: all). Several calls with different
#           parts
#                       may share one OUT.
#   --quick             small sizes and a small model, to check that everything works
#   --allow-software    measures even without a real GPU
#
# OUT holds log.txt (tests, and all failures), devices.txt, tune.jsonl, bench.jsonl (volumes too), profile.jsonl,
# peers.json, volume.json (a volume beside PyTorch) and summary.txt. The exit code is 1 if any test or command failed.
# If the pack was made --with-benches, criterion's benches of single kernels run after this by:
#   cd /tmp && /tmp/meddino-gpu/opt/meddino-gpu/bench_kernels --bench
set -euo pipefail

minutes=8 parts=tests,devices,tune,bench,profile,peers quick='' software=''
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=$2; shift 2 ;;
        --parts) parts=$2; shift 2 ;;
        --quick) quick=yes; shift ;;
        --allow-software) software=yes; shift ;;
        --*) echo "run.sh: unknown option $1" >&2; exit 2 ;;
        *) break ;;
    esac
done
[ $# = 2 ] || { echo "usage: benches/gpu/run.sh [--minutes N] [--parts LIST] [--quick] [--allow-software] FOLDER OUT" >&2; exit 2; }
folder=$(cd "$1" && pwd -P)
mkdir -p "$2"
out=$(cd "$2" && pwd -P)
cd "$(dirname "$0")/../.."
checkout=$(pwd -P)
log=$out/log.txt
# `say` writes here, so that its lines are seen even where a command's stderr goes to the log.
exec 3>&2
unpacked=${TMPDIR:-/tmp}/meddino-gpu
rm -rf "$unpacked"
mkdir -p "$unpacked"
# Failures are collected in files, because subshells report them too.
failed=$unpacked/failed not_run=$unpacked/not_run
: >"$failed"
: >"$not_run"

die() { echo "run.sh: $*" >&2; exit 1; }
say() { echo "$*" >>"$log"; echo "$*" >&3; }
left() { echo $((minutes * 60 - SECONDS)); }
wanted() { case ",$parts," in *",$1,"*) true ;; *) false ;; esac; }

# with_limit SECONDS WHAT COMMAND...: runs the command unless the time is up. Reports and counts a failure or a timeout.
with_limit() {
    local limit=$1 what=$2 code=0 begun=$SECONDS
    shift 2
    if [ "$(left)" -le 5 ]; then
        echo "$what" >>"$not_run"
        return 1
    fi
    [ "$limit" -le "$(left)" ] || limit=$(left)
    timeout --kill-after=10 "$limit" "$@" || code=$?
    case $code in
        0) say "$what: $((SECONDS - begun)) s" && return ;;
        124 | 137) say "FAILED: $what: not done after $limit s" ;;
        *) say "FAILED: $what: exit code $code" ;;
    esac
    echo "$what" >>"$failed"
    return 1
}

# ---- set-up --------------------------------------------------------------------------------------------------------

dpkg-deb -x "$folder/meddino-gpu.deb" "$unpacked" || die "$folder/meddino-gpu.deb cannot be unpacked; make it anew with benches/gpu/pack.sh"
bin=$unpacked/opt/meddino-gpu
has() { ldconfig -p | grep "$1" >/dev/null; }
# bring WHAT PATTERN...: unpacks packages from FOLDER.
bring() {
    local what=$1 pattern deb
    shift
    [ "$(id -u)" = 0 ] || die "there is no $what, and unpacking $folder/$1 takes root"
    for pattern; do for deb in "$folder"/$pattern; do dpkg-deb -x "$deb" /; done; done
    ldconfig
}
has libvulkan.so.1 || bring "Vulkan loader" "libvulkan1_*.deb"
# NVIDIA's driver needs what dispatches OpenGL, too.
if has libGLX_nvidia.so && ! has libGLdispatch.so.0; then
    bring libGLdispatch "libglvnd0_*.deb" "libgl1_*.deb" "libglx0_*.deb" "libegl1_*.deb"
fi
# A container's runtime may put the driver where no loader looks.
other=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && [ -e "$other" ] && ! compgen -G "/usr/share/vulkan/icd.d/nvidia*" >/dev/null && ! compgen -G "/etc/vulkan/icd.d/nvidia*" >/dev/null; then
    export VK_DRIVER_FILES=$other
fi
# Tests look for their files in the folder in which they were built.
root=$(cat "$bin/root")
if [ ! -e "$root" ]; then
    mkdir -p "$(dirname "$root")" && ln -s "$checkout" "$root" || die "tests expect their files in $root, which cannot be made a link to $checkout"
fi
[ -d "$root/tests/golden" ] || die "tests expect their files in $root, which is there and holds none; remove it, or pack elsewhere"
{ [ -L "$root" ] || [ "$root" -ef "$checkout" ]; } || say "note: tests read their files in $root, not in $checkout"

# The geometries of `tune` are stored for this run only.
export MEDDINO_CACHE=$unpacked/cache MEDDINO_REQUIRE_GPU=1
meddino=$bin/meddino
"$meddino" devices >"$out/devices.txt" 2>>"$log" || die "'meddino devices' fails; see $log"
# `devices` lists what `auto` takes, in order: "   device 0 (Vulkan): a card" (src/cli/devices.rs).
number=$(sed -n '/^--backend auto takes the first/,/^   the CPU/p' "$out/devices.txt" | sed -nE 's/^ *device ([0-9]+) .*/\1/p' | sed -n 1p)
if [ -z "$number" ] && [ -z "$software" ]; then
    cat "$out/devices.txt" >&2
    die "there is no real GPU here; --allow-software measures all the same"
fi
tiers=$(grep -m1 '^ *tiers ' "$out/devices.txt" || true)
if [ -n "$number" ]; then
    tiers=$(awk -v n="$number:" '$1 == n { on = 1 } on && $1 == "tiers" { print; exit }' "$out/devices.txt")
fi
# runs TIER PRECISION: whether the device supports it.
runs() { [[ $tiers =~ $1\ \([^\)]*$2 ]]; }
say "commit $(cat "$bin/commit"), $(date -u +%Y-%m-%dT%H:%M:%SZ)"
cat "$out/devices.txt" | tee -a "$log"
! command -v nvidia-smi >/dev/null || nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv 2>&1 | tee -a "$out/devices.txt" || true

# ---- tests ---------------------------------------------------------------------------------------------------------

# run_tests NAME ARGUMENTS... runs tests beside the others: a driver compiles shaders on one core at a time.
run_tests() {
    local name=$1
    shift
    (cd "$root" && MEDDINO_CACHE='' with_limit 240 "tests: $name $*" "$bin/$name" "$@" >"$unpacked/$name $*.tests" 2>&1) &
}
if wanted tests; then
    ignored=(--include-ignored)
    [ -z "$software" ] || ignored=()
    if [ -z "$quick" ]; then
        run_tests lib gpu
        run_tests tiers "${ignored[@]}" --nocapture
        run_tests kernels every_t --nocapture
        run_tests gpu_model
        run_tests gpu
        run_tests host
        run_tests kernels --skip every_t
    else
        run_tests lib gpu::tile_cache
        run_tests gpu
    fi
    wait || true
    cat "$unpacked"/*.tests >>"$log"
    grep '^SKIPPED' "$log" | sort | uniq -c || true
fi

# ---- geometries, times, profiles -----------------------------------------------------------------------------------

# one FILE WHAT LIMIT COMMAND...: appends the JSON object that the command prints to FILE, on one line.
one() {
    local file=$1 limit=$3 json
    json=$(with_limit "$limit" "$2" "${@:4}" 2>>"$log") || return 0
    { tr -d '\n' <<<"$json" | sed 's/  */ /g'; echo; } >>"$out/$file"
}
if [ -n "$quick" ]; then model=seeded:0:tiny runs_of=3; else model=seeded:0 runs_of=20; fi
# bench SIZE PRECISION BATCH [TIER]
bench() {
    local size=$1 precision=$2 batch=$3 tier=${4:-} runs=$runs_of
    [ "$precision" = f32 ] || runs_f16 || return 0
    [ "$size" -lt 2048 ] || runs=5
    [ -z "$quick" ] || size=$((size / 8))
    one bench.jsonl "bench $size $precision batch $batch $tier" 60 \
        "$meddino" -q bench -c "$model" --backend gpu --size "$size" --precision "$precision" --batch "$batch" --runs "$runs" ${tier:+--tier "$tier"} --json
}
volume() {
    local size=512 slices=300
    [ "$1" = f32 ] || runs_f16 || return 0
    [ -z "$quick" ] || { size=64; slices=30; }
    one bench.jsonl "volume $1 batch $2" 120 "$meddino" -q bench -c "$model" --backend gpu --size "$size" --precision "$1" --batch "$2" --slices "$slices" --json
}
profile() {
    local size=$1
    [ "$2" = f32 ] || runs_f16 || return 0
    [ -z "$quick" ] || size=$((size / 8))
    one profile.jsonl "profile $size $2" 60 bash -c '"$1" -q features phantom -c "$2" --size "$3" --backend gpu --precision "$4" --pool cls \
        --profile-json "$5/profile.json" -o "$5/profile.safetensors" >&2 && cat "$5/profile.json"' _ "$meddino" "$model" "$size" "$2" "$unpacked"
}
runs_f16() { runs baseline f16; }
tune() { one tune.jsonl "tune $1 $2" 120 "$meddino" -q tune --backend gpu --tier "$1" --precision "$2" --json; }

if wanted tune; then
    # The tiers and precisions that `auto` chooses come first.
    for pair in cooperative16:f32 cooperative16:f16 cooperative8:f32 cooperative8:f16 subgroups:f32 subgroups:f16 baseline:f32 baseline:f16 direct:f32; do
        tier=${pair%:*} precision=${pair#*:}
        [ "$tier" != direct ] || [ -n "$software" ] || continue
        [ -z "$quick" ] || [ "$tier" = direct ] || continue
        ! runs "$tier" "$precision" || tune "$tier" "$precision"
    done
fi
if wanted bench; then
    bench 896 f32 1; bench 224 f16 1; bench 896 f16 1; bench 224 f32 1; bench 512 f16 1; bench 512 f32 1
    volume f16 4; volume f32 4
    bench 2048 f16 1; bench 2048 f32 1
fi
if wanted profile; then
    for size in 896 224 512 2048; do profile "$size" f16; profile "$size" f32; done
fi
if wanted bench; then
    for batch in 16 4; do
        for size in 224 512 896; do bench "$size" f16 "$batch"; bench "$size" f32 "$batch"; done
    done
    volume f16 1; volume f16 16
    for tier in baseline subgroups cooperative8 cooperative16; do
        for precision in f16 f32; do
            for size in 224 896; do
                ! runs "$tier" "$precision" || bench "$size" "$precision" 1 "$tier"
            done
        done
    done
    bench 2048 f16 4; bench 2048 f32 4; bench 2048 f16 16; bench 2048 f32 16
fi
if wanted peers; then
    if [ ! -f benches/peers/run.py ]; then
        echo "peers: there is no benches/peers/run.py" >>"$not_run"
    elif ! python3 -c 'import torch' 2>/dev/null; then
        echo "peers: python3 has no torch here" >>"$not_run"
    else
        with_limit 600 peers python3 benches/peers/run.py --backend gpu --precision f32,f16 --carried "$folder/peers" --binary "$meddino" \
            --threads "$(nproc)" --warm 0.1 --pause 0.05 --limit 100 --seconds "$(left)" --log "$log" --out "$out/peers.json" >>"$log" 2>&1 || true
        with_limit 200 "a volume beside PyTorch" python3 benches/peers/volume.py --binary "$meddino" --seconds "$(left)" --out "$out/volume.json" \
            >>"$log" 2>&1 || true
    fi
fi

# ---- results -------------------------------------------------------------------------------------------------------

sed 's/^/not run: /' "$not_run" | tee -a "$log"
if command -v python3 >/dev/null; then
    python3 benches/gpu/summary.py "$out" | tee "$out/summary.txt" || echo "summary" >>"$failed"
else
    say "no python3 here: benches/gpu/summary.py OUT makes the table elsewhere"
fi
if [ -s "$failed" ]; then
    echo "failed, and $log says how:" >&2
    sed 's/^/  /' "$failed" >&2
    exit 1
fi
