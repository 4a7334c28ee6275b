#!/usr/bin/env bash
# Compares meddino in headless Chromium with ONNX Runtime Web: on the GPU with its WASM and its WebGPU backend, on the CPU with
# its WASM backend on one thread and on all. All have the same weights (a seeded ViT-B) and image. Outputs are compared first;
# then each engine is timed in turn. Prints medians, ratios and start-up times. Exits with 1 if an engine computes something
# else, and with 3 if something cannot be had.
#
#   web/bench/run.sh
#
#   ROUNDS=5 RUNS=3     how often each engine has its turn, and how many runs one has
#   BACKEND=gpu         or cpu
#   SIZE=224 DEPTH=12   of the image and of the model
#   GPU=FLAG            Chromium's flag for the GPU; empty for its own choice (default: SwiftShader, which computes on the CPU)
#   PYTHON=python3      a Python with torch, numpy, safetensors, onnx and onnxscript, which writes the ONNX file
#
# What is prepared stays in target/web-bench.
set -euo pipefail
cd "$(dirname "$0")/../.."
skip() { echo "SKIPPED: the comparison in a browser, for want of $*" >&2; exit 3; }
[ -d target/web/site ] || web/build.sh
command -v npm >/dev/null || skip "npm"
CHROMIUM=$(command -v chromium || command -v google-chrome) || skip "chromium"
export CHROMIUM DESK=target/web-bench ROUNDS=${ROUNDS:-5} RUNS=${RUNS:-3} BACKEND=${BACKEND:-gpu} GPU=${GPU---use-webgpu-adapter=swiftshader}
export MODEL=$DESK/model_${SIZE:=224}_${DEPTH:=12}
mkdir -p "$DESK/served"
npm install --silent --no-audit --no-fund --prefix "$DESK" playwright-core@1.57.0 onnxruntime-web@1.30.0 >/dev/null || skip "playwright-core and onnxruntime-web"
ln -sfn "$PWD/$DESK/node_modules/onnxruntime-web/dist" "$DESK/served/ort"
[ -f "$MODEL/image.f32" ] || "${PYTHON:-python3}" web/bench/prepare.py "$MODEL" --size "$SIZE" --depth "$DEPTH" || skip "what prepare.py needs"
echo "$(nproc) cores, $(sed -n 's/^model name\s*: //p' /proc/cpuinfo | sed -n 1p); $("$CHROMIUM" --version); ViT-B of $DEPTH blocks, $SIZE x $SIZE"
exec node web/bench/main.mjs
