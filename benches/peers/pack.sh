#!/usr/bin/env bash
# Packs what the GPU's peers need on a machine without a network into FOLDER, and prints its size. There,
# `run.py --carried FOLDER` uses it.
#
#   benches/peers/pack.sh FOLDER [onnxruntime-webgpu] [iree] [tinygrad] [burn]     (none named: all)
#
#   PEERS_PYTHON=3.12            the Python version of that machine, for which wheels are chosen (x86-64, Linux)
#   PEERS_CASES=224,512,896      sizes of the ONNX files and of IREE's modules; also PEERS_BATCHES=1 and
#                                PEERS_PRECISIONS=f32,f16
#   PEERS_TARGET=ampere          iree-compile's name of the GPU; it knows no Hopper. Empty: any Vulkan, without f16
#   PYTHON=python3               a Python with torch, onnx and onnxscript, and with iree-base-compiler for iree
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?FOLDER is wanted}
shift
[ $# -gt 0 ] || set -- onnxruntime-webgpu iree tinygrad burn
python=${PYTHON:-python3}
mkdir -p "$folder/wheels"

wheel() {
    local platforms=() glibc
    for glibc in 39 35 34 31 28 27 24 17; do platforms+=(--platform "manylinux_2_${glibc}_x86_64"); done
    "$python" -m pip download -q --no-deps --only-binary=:all: --python-version "${PEERS_PYTHON:-3.12}" --implementation cp \
        "${platforms[@]}" --platform manylinux2014_x86_64 -d "$folder/wheels" "$1"
}

# thin NAME PATTERN...: leaves the files of the patterns out of the wheel NAME-*.whl, which then is packed as tightly as
# zip can.
thin() {
    "$python" - "$folder"/wheels/"$1"-*.whl "${@:2}" <<'EOF'
import fnmatch, os, sys, zipfile

path, *patterns = sys.argv[1:]
with zipfile.ZipFile(path) as whole, zipfile.ZipFile(path + ".thin", "w", zipfile.ZIP_LZMA) as thin:
    for name in whole.namelist():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            thin.writestr(name, whole.read(name))
os.replace(path + ".thin", path)
EOF
}

exported=''
for peer in "$@"; do
    case $peer in
    onnxruntime-webgpu)
        wheel onnxruntime-webgpu==1.27.0
        # Python's module has the library in itself.
        thin onnxruntime_webgpu '*/libonnxruntime.so*' '*/transformers/*' '*/quantization/*' '*/tools/*'
        exported=${exported:-yes}
        ;;
    iree)
        wheel iree-base-runtime==3.13.0
        # its programs, and all once more for the profiler Tracy
        thin iree_base_runtime '*_tracy/*' '*/_runtime_libs/iree-*'
        exported=with-iree
        ;;
    tinygrad)
        wheel tinygrad==0.14.0
        wheel dawn-python==0.3.0
        thin dawn_python '*.dll' '*.dylib' '*_aarch64.so'
        ;;
    burn)
        cargo build --release --locked --manifest-path "$here/burn/Cargo.toml"
        strip -o "$folder/burn-peer" "$here/burn/target/release/burn-peer"
        xz -T2 -f "$folder/burn-peer"
        ;;
    *) echo "pack.sh: no peer is called $peer" >&2 && exit 2 ;;
    esac
done

if [ -n "$exported" ]; then
    iree=()
    [ "$exported" != with-iree ] || iree=(--iree --target "${PEERS_TARGET-ampere}")
    "$python" "$here/prepare.py" "$folder" --cases "${PEERS_CASES:-224,512,896}" --batches "${PEERS_BATCHES:-1}" \
        --precisions "${PEERS_PRECISIONS:-f32,f16}" "${iree[@]}"
fi
du -ah --apparent-size "$folder" | sort -k2
