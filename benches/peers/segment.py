"""Times one slice through a full-width fine-tuned network (ViT-B, multiscale decoder, tiles of 896), meddino and
PyTorch in turns.

The weights are seeded, so labels mean nothing, but the time is realistic. The network is nnU-Net's. PyTorch runs
tests/golden/nnunet.py, which also makes the tests' goldens.

    python benches/peers/segment.py target/release/meddino [--backend cpu|gpu] [--classes 14] [--runs 3] [--json OUT]

Needs torch, numpy, nibabel, scipy and scikit-image.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import common
import nnunet
import seeded

TILE, CHANNELS = 896, [4 * 768, 384, 192, 96, 48]
TRAINER = "meddinov3_base_primus_multiscale_Trainer"
TEMPLATE = Path(common.root) / "tests/fixtures/nnunet/results" / f"{TRAINER}__nnUNetPlans__2d_small" / "plans.json"


def decoder(classes):
    """Decoder weights that keep scores near 1."""
    g = torch.Generator().manual_seed(0)
    noise = lambda *shape, by=1: torch.randn(*shape, generator=g) / by**0.5
    weights = {}
    for i, (inner, outer) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        at = f"up_projection.decode.{i}"
        weights |= {f"{at}.0.weight": noise(inner, outer, 2, 2, by=inner), f"{at}.0.bias": noise(outer, by=100)}
        weights |= {f"{at}.1.weight": 1 + noise(outer, by=100), f"{at}.1.bias": noise(outer, by=100)}
    at = f"up_projection.decode.{len(CHANNELS) - 1}"
    return weights | {f"{at}.weight": noise(classes, CHANNELS[-1], 1, 1, by=CHANNELS[-1]), f"{at}.bias": noise(classes, by=100)}


def results_folder(root, classes):
    """An nnU-Net results folder of one fold -> its path, and the network's weights."""
    folder = root / f"{TRAINER}__nnUNetPlans__2d"
    (folder / "fold_0").mkdir(parents=True)
    encoder = {k: torch.from_numpy(v) for k, v in seeded.state_dict(seeded.Config.vit_base(), 0).items()}
    weights = {f"dino_encoder.{k}": v for k, v in encoder.items()} | decoder(classes)
    foreground = {"percentile_00_5": -1000.0, "percentile_99_5": 1000.0, "mean": 0.0, "std": 500.0}
    configuration = nnunet.configuration(json.loads(TEMPLATE.read_text()), "2d_small") | {"patch_size": [TILE, TILE], "spacing": [1.0, 1.0]}
    plans = json.loads(TEMPLATE.read_text()) | {
        "foreground_intensity_properties_per_channel": {"0": foreground},
        "configurations": {"2d": configuration},
    }
    labels = {"background": 0} | {f"organ {i}": i for i in range(1, classes)}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    arguments = {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": dataset}
    file = {"network_weights": weights, "init_args": arguments, "trainer_name": TRAINER, "inference_allowed_mirroring_axes": (0, 1)}
    torch.save(file, folder / "fold_0" / "checkpoint_final.pth")
    return folder, weights


def ours(binary, folder, scan, backend, out):
    """The seconds that the command's own clock measured for the slice (without loading weights), and the
    probabilities."""
    line = [binary, "segment", "-m", folder, "-i", scan, "-o", out, "--backend", backend, "--disable-tta", "--save-probabilities"]
    shutil.rmtree(out, ignore_errors=True)
    finished = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if finished.returncode:
        sys.exit(finished.stderr)
    return float(re.search(r"in ([\d.]+) s on", finished.stderr)[1]), re.search(r" s on (.*)", finished.stderr)[1]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("binary")
    ap.add_argument("--backend", default="cpu")
    ap.add_argument("--classes", type=int, default=14)
    ap.add_argument("--runs", type=int, default=3)
    ap.add_argument("--threads", type=int, default=torch.get_num_threads())
    ap.add_argument("--json")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    rng = np.random.default_rng(0)
    slice_ = rng.integers(-900, 900, (TILE, TILE, 1)).astype(np.int16)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder, weights = results_folder(root, a.classes)
        nib.save(nib.Nifti1Image(slice_, np.eye(4)), root / "slice_0000.nii.gz")
        normalised = torch.from_numpy(slice_[:, :, 0].T.astype(np.float32) / 500)[None, None]
        times = {"meddino": [], "PyTorch": []}
        for _ in range(a.runs):
            seconds, device = ours(a.binary, folder, root / "slice_0000.nii.gz", a.backend, root / "out")
            times["meddino"].append(seconds)
            start = time.perf_counter()
            with torch.inference_mode():
                scores = nnunet.network(weights, normalised, True)
            times["PyTorch"].append(time.perf_counter() - start)
        got = np.load(root / "out" / "slice.npz")["probabilities"][:, 0]
        apart = float(np.abs(got - torch.softmax(scores[0], 0).numpy()).max())
    report = {"device": device, "classes": a.classes, "threads": a.threads, "probabilities_apart": apart}
    report |= {who: common.summary(t) | {"runs": len(t)} for who, t in times.items()}
    print(json.dumps(report, indent=1))
    if a.json:
        Path(a.json).write_text(json.dumps(report, indent=1) + "\n")
    if apart > 1e-3:
        sys.exit(f"the probabilities are {apart:.1e} apart")


if __name__ == "__main__":
    main()
