#!/usr/bin/env bash
# Measures meddino beside onnxruntime-web in headless Chromium, in turns: WebGPU, and onnxruntime-web's WebAssembly. Chromium
# computes WebGPU with SwiftShader where there is no GPU. Needs what web/tests/run.sh needs and has built, and installs
# onnxruntime-web with npm, and NumPy, onnx and safetensors with pip, into target/web-peers.
#
#   benches/peers/browser/run.sh [MODEL] [SIDE] [TURNS]   default: tiny 224 9
set -euo pipefail
cd "$(dirname "$0")/../../.."
model=${1:-tiny} side=${2:-224} turns=${3:-9}
desk=target/web-peers
mkdir -p "$desk"
[ -d "$desk/node_modules/onnxruntime-web" ] || npm install --silent --no-audit --no-fund --prefix "$desk" onnxruntime-web@1.30.0 >/dev/null
[ -d "$desk/python" ] || python3 -m pip install --quiet --target "$desk/python" numpy onnx safetensors
export PYTHONPATH="$desk/python"
seed=seeded:0
[ "$model" = vit_base ] || seed=seeded:0:$model
target/debug/meddino convert "$seed" --overwrite -o "$desk/weights.safetensors"
python3 benches/peers/browser/onnx_model.py "$desk/weights.safetensors" "$side" "$desk/model.onnx"
exec env CHROMIUM="${CHROMIUM:-$(command -v chromium)}" node benches/peers/browser/measure.mjs "$model" "$side" "$turns"
