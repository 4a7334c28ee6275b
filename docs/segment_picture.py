"""How docs/segment.png came about: a small network is trained for a few minutes on synthetic thoraxes, and `meddino segment` runs it on one that it has not seen.

    python docs/segment_picture.py target/release/meddino docs/segment.png

needs: torch, numpy, nibabel, scipy, scikit-image
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F

root = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(root / "tests" / "golden"))
import nnunet
import seeded

TRAINER = "meddinov3_base_primus_multiscale_Trainer"
TEMPLATE = root / "tests/fixtures/nnunet/results" / f"{TRAINER}__nnUNetPlans__2d_small" / "plans.json"
SIDE, WIDTH, DEPTH, HEADS, REGISTERS = 256, 192, 12, 3, 4
CHANNELS = [4 * WIDTH, 128, 64, 32, 16]
NAMES = ["background", "lung", "heart", "spine"]


def thorax(rng, z):
    """HU and labels [SIDE, SIDE] of a slice at height z in [0, 1)."""
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE - 0.5
    cy, cx = 0.02 * rng.standard_normal(2)
    inside = lambda y0, x0, h, w: ((y - cy - y0) / h) ** 2 + ((x - cx - x0) / w) ** 2 < 1
    hu, labels = np.full((SIDE, SIDE), -1000.0), np.zeros((SIDE, SIDE), np.uint8)
    hu[inside(0, 0, 0.33, 0.44)] = -90
    hu[inside(0, 0, 0.30, 0.41)] = 45
    grow = 0.7 + 0.3 * np.sin(np.pi * (0.2 + 0.6 * z))
    for sign in (-1, 1):
        lung = inside(-0.02, 0.2 * sign, 0.22 * grow, 0.15 * grow)
        hu[lung], labels[lung] = -850, 1
    heart = inside(0.0, 0.06, 0.13 * (1.1 - 0.4 * z), 0.12)
    hu[heart], labels[heart] = 120, 2
    spine = inside(0.2, 0.0, 0.055, 0.05)
    hu[spine], labels[spine] = 350, 3
    return (hu + 25 * rng.standard_normal(hu.shape)).astype(np.float32), labels


def start(config):
    """The encoder's and the decoder's first weights."""
    g = torch.Generator().manual_seed(1)
    weights = {}
    for name, value in seeded.state_dict(config, 0).items():
        w = torch.from_numpy(value)
        if name.endswith(".weight") and w.ndim > 1:
            w = torch.randn(w.shape, generator=g) * 0.02
        weights[f"dino_encoder.{name}"] = torch.full_like(w, 0.3) if name.endswith("gamma") else w
    noise = lambda *shape, by: torch.randn(*shape, generator=g) / by**0.5
    for i, (inner, outer) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        at = f"up_projection.decode.{i}"
        weights |= {f"{at}.0.weight": noise(inner, outer, 2, 2, by=inner), f"{at}.0.bias": torch.zeros(outer)}
        weights |= {f"{at}.1.weight": torch.ones(outer), f"{at}.1.bias": torch.zeros(outer)}
    last = f"up_projection.decode.{len(CHANNELS) - 1}"
    return weights | {f"{last}.weight": noise(len(NAMES), CHANNELS[-1], 1, 1, by=CHANNELS[-1]), f"{last}.bias": torch.zeros(len(NAMES))}


def trained(config, rng, mean, std, steps=600, batch=2):
    weights = {name: w.requires_grad_(w.is_floating_point() and "periods" not in name) for name, w in start(config).items()}
    learnt = torch.optim.AdamW([w for w in weights.values() if w.requires_grad], lr=1e-3)
    for step in range(steps):
        hu, labels = zip(*(thorax(rng, rng.random()) for _ in range(batch)))
        image = (torch.from_numpy(np.stack(hu))[:, None].clamp(-1000, 1000) - mean) / std
        loss = F.cross_entropy(nnunet.network(weights, image, True), torch.from_numpy(np.stack(labels)).long())
        learnt.zero_grad()
        loss.backward()
        learnt.step()
        if step % 25 == 0:
            print(f"step {step}: {loss.item():.3f}", file=sys.stderr)
    return {name: w.detach() for name, w in weights.items()}


def main():
    binary, target = sys.argv[1:3]
    rng = np.random.default_rng(0)
    foreground = {"percentile_00_5": -1000.0, "percentile_99_5": 1000.0, "mean": -200.0, "std": 400.0}
    config = seeded.Config(WIDTH, DEPTH, HEADS, 4 * WIDTH, REGISTERS)
    weights = trained(config, rng, foreground["mean"], foreground["std"])
    template = json.loads(TEMPLATE.read_text())
    configuration = nnunet.configuration(template, "2d_small") | {"patch_size": [SIDE, SIDE], "spacing": [1.5, 1.5]}
    plans = template | {"foreground_intensity_properties_per_channel": {"0": foreground}, "configurations": {"2d": configuration}}
    dataset = {"channel_names": {"0": "CT"}, "labels": {n: i for i, n in enumerate(NAMES)}, "numTraining": 1, "file_ending": ".nii.gz"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / f"{TRAINER}__nnUNetPlans__2d"
        (folder / "fold_0").mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        arguments = {"plans": plans, "configuration": "2d", "fold": 0, "dataset_json": dataset}
        file = {"network_weights": weights, "init_args": arguments, "trainer_name": TRAINER, "inference_allowed_mirroring_axes": (1,)}
        torch.save(file, folder / "fold_0" / "checkpoint_final.pth")
        slices = [thorax(rng, z / 8) for z in range(8)]
        scan = np.stack([hu for hu, _ in slices]).round().astype(np.int16).transpose(2, 1, 0)
        truth = np.stack([labels for _, labels in slices]).transpose(2, 1, 0)
        # Columns run to the patient's left, rows to the back.
        nib.save(nib.Nifti1Image(scan, np.diag([-1.5, -1.5, 5, 1])), Path(name) / "thorax_0000.nii.gz")
        line = [binary, "segment", "-m", folder, "-i", Path(name) / "thorax_0000.nii.gz", "-o", Path(name) / "out", "--overlay"]
        subprocess.run([str(word) for word in line], check=True)
        got = np.asarray(nib.load(Path(name) / "out" / "thorax.nii.gz").dataobj)
        for label, organ in enumerate(NAMES[1:], 1):
            a, b = got == label, truth == label
            print(f"{organ}: Dice {2 * (a & b).sum() / (a.sum() + b.sum()):.3f}")
        shutil.copy(Path(name) / "out" / "thorax.png", target)


if __name__ == "__main__":
    main()
