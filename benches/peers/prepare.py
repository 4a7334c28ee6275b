"""Compiles IREE's modules for the cases of run.py, without weights, into FOLDER/iree, because a GPU machine may lack
IREE's compiler.

    python benches/peers/prepare.py FOLDER [--cases 224,512,896] [--batches 1] [--precisions f32,f16] [--target ampere]

Needs torch, onnx, onnxscript and iree-base-compiler. Each module comes with a list of the names of its weights, and a
file of the few constants that are no weights.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from safetensors.numpy import save_file

import common
import model
import torch_model
from engines import iree_vulkan


def recipe(path, weights, dtype):
    """The ONNX file's constants: the weights, as name -> (weight, whether it is transposed), and the others."""
    known = {w.astype(dtype).T.tobytes() + bytes(str(w.T.shape), "ascii"): (name, True) for name, w in weights.items() if w.ndim == 2}
    known |= {w.astype(dtype).tobytes() + bytes(str(w.shape), "ascii"): (name, False) for name, w in weights.items()}
    found, others = {}, {}
    for constant in onnx.load(path).graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        source = known.get(array.tobytes() + bytes(str(array.shape), "ascii"))
        if source:
            found[constant.name] = source
        else:
            others[constant.name] = np.array(array, order="C")
    return found, others


def compile_module(path, out, target):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "model.mlir")
        outside = ["--large-model", "--externalize-params", "--no-save-params", "--params-scope", "model"]
        subprocess.run([sys.executable, "-m", "iree.compiler.tools.import_onnx", path, "-o", text, *outside], check=True)
        how = ["--iree-hal-target-device=vulkan", *([f"--iree-vulkan-target={target}"] if target else [])]
        compiler = os.path.join(os.path.dirname(sys.executable), "iree-compile")
        subprocess.run([compiler, text, "-o", out, "--iree-input-type=onnx", *how], check=True)


def prepare(case, target):
    at = iree_vulkan.stem(case)
    os.makedirs(os.path.dirname(at), exist_ok=True)
    model.write_input(case, [t.numpy() for t in torch_model.table(case["size"])])
    path = torch_model.onnx(case, case["precision"])
    found, others = recipe(path, model.weights(case), np.float16 if case["precision"] == "f16" else np.float32)
    with open(f"{at}.json", "w") as f:
        json.dump(found, f)
    save_file(others, f"{at}.safetensors")
    compile_module(path, f"{at}.vmfb", target)
    print(f"{at}: {len(found)} weights outside, {sum(a.nbytes for a in others.values())} bytes of constants, {os.path.getsize(at + '.vmfb')} of code", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("folder")
    ap.add_argument("--cases", default="224,512,896", help="sizes")
    ap.add_argument("--batches", default="1")
    ap.add_argument("--precisions", default="f32,f16")
    ap.add_argument("--target", help="what iree-compile calls the GPU; left out: any Vulkan")
    ap.add_argument("--depth", type=int, default=12)
    a = ap.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        case = {"depth": a.depth, "scratch": scratch, "carried": os.path.abspath(a.folder)}
        model.write_weights(case)
        for precision in a.precisions.split(","):
            for size in map(int, a.cases.split(",")):
                for batch in map(int, a.batches.split(",")):
                    with tempfile.TemporaryDirectory(dir=scratch) as folder:
                        prepare(case | {"folder": folder, "size": size, "batch": batch, "precision": precision}, a.target)


if __name__ == "__main__":
    main()
