"""Exports the model for the cases of run.py into FOLDER/exported, without weights, and compiles IREE's modules, because
a GPU machine may lack IREE's compiler, and an export takes half a minute of its time.

    python benches/peers/prepare.py FOLDER [--cases 224,512,896] [--batches 1] [--precisions f32,f16]
        [--iree] [--target ampere]

Needs torch, onnx and onnxscript, and iree-base-compiler for --iree. Each ONNX file comes with a list of the names of its
weights, and a file of the few constants that are no weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile

import exported
import model
import torch_model


def compile_module(path, out, target):
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "model.mlir")
        outside = ["--large-model", "--externalize-params", "--no-save-params", "--params-scope", "model"]
        subprocess.run([sys.executable, "-m", "iree.compiler.tools.import_onnx", path, "-o", text, *outside], check=True)
        how = ["--iree-hal-target-device=vulkan", *([f"--iree-vulkan-target={target}"] if target else [])]
        compiler = os.path.join(os.path.dirname(sys.executable), "iree-compile")
        subprocess.run([compiler, text, "-o", out, "--iree-input-type=onnx", *how], check=True)


def prepare(case, iree, target):
    model.write_input(case, [t.numpy() for t in torch_model.table(case["size"])])
    path, at = exported.pack(case), exported.stem(case)
    if iree:
        compile_module(path, f"{at}.vmfb", target)
    made = [f"{at}.{kind}" for kind in ("onnx", "json", "safetensors", "vmfb") if os.path.exists(f"{at}.{kind}")]
    print(", ".join(f"{os.path.basename(file)} {os.path.getsize(file)}" for file in made), "bytes", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("folder")
    ap.add_argument("--cases", default="224,512,896", help="sizes")
    ap.add_argument("--batches", default="1")
    ap.add_argument("--precisions", default="f32,f16")
    ap.add_argument("--iree", action="store_true", help="compile IREE's modules too")
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
                        prepare(case | {"folder": folder, "size": size, "batch": batch, "precision": precision}, a.iree, a.target)


if __name__ == "__main__":
    main()
