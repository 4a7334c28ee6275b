"""Writes what web/bench/run.sh compares engines with into FOLDER: seeded weights of a ViT-B (weights.safetensors), the same
as an ONNX file (model.onnx and what lies beside it), a scan (scan.npy), and the image that meddino makes of it (image.f32).

    python web/bench/prepare.py FOLDER [--size 224] [--depth 12]

Needs torch, numpy, safetensors, onnx and onnxscript, as benches/peers does.
"""

import argparse
import os
import sys

import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "..", "benches", "peers"))

import exported  # noqa: E402
import model  # noqa: E402
import torch_model  # noqa: E402

# Of the window that meddino applies by default (src/ct/window.rs).
MEAN, STD = np.float32(65.1084213256836), np.float32(178.01663208007812)


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("folder")
    ap.add_argument("--size", type=int, default=224)
    ap.add_argument("--depth", type=int, default=12)
    a = ap.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    case = {"scratch": a.folder, "folder": a.folder, "carried": None, "size": a.size, "batch": 1, "depth": a.depth, "precision": "f32"}
    model.write_weights(case)
    model.write_input(case, [t.numpy() for t in torch_model.table(a.size)])
    exported.export(case, "f32", os.path.join(a.folder, "model.onnx"))
    # A scan is gray: one channel, within the window, so that nothing is clamped.
    hu = model.read_input(case)["image"][:, 0] * STD + MEAN
    np.save(os.path.join(a.folder, "scan.npy"), hu)
    np.repeat(((hu - MEAN) / STD)[:, None], 3, axis=1).astype("<f4").tofile(os.path.join(a.folder, "image.f32"))


if __name__ == "__main__":
    main()
