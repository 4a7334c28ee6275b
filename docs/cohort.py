"""Writes a made-up cohort for docs/heads.md: CT-like volumes with lesions, their label maps, and a table of labels.

    python docs/cohort.py cohort --cases 25 --seed 0 [--size 224] [--slices 12]

Writes scans/cNN_0000.nii.gz, masks/cNN.nii.gz (1: lesion) and labels.csv (case, label, patient): half of the cases have a
lesion. A body is an ellipse of fat and muscle with two lungs, vessels and a spine; a lesion is a calcified ellipsoid
in a lung. Needs numpy and nibabel.
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("--cases", type=int, default=25)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--size", type=int, default=224)
parser.add_argument("--slices", type=int, default=12)
args = parser.parse_args()
for name in ["scans", "masks"]:
    (args.folder / name).mkdir(parents=True, exist_ok=True)
n, slices = args.size, args.slices
x, y, z = np.meshgrid(np.arange(n) / n - 0.5, np.arange(n) / n - 0.5, np.arange(slices) / slices - 0.5, indexing="ij")
affine = np.diag([-400 / n, -400 / n, 5.0, 1.0])
rows = ["case,label,patient"]


def inside(centre, radii):
    return sum(((a - c) / r) ** 2 for a, c, r in zip([x, y, z], centre, radii)) < 1


for case in range(args.cases):
    random = np.random.default_rng([args.seed, case])
    hu = np.full((n, n, slices), -1000.0)
    wide, deep = random.uniform(0.38, 0.45), random.uniform(0.28, 0.34)
    hu[inside((0, 0, 0), (wide, deep, 9))] = -100
    hu[inside((0, 0, 0), (wide - 0.03, deep - 0.03, 9))] = 50
    lungs = [((side * random.uniform(0.17, 0.2), -0.02, 0), (random.uniform(0.12, 0.14), deep - 0.1, 9)) for side in [-1, 1]]
    for lung in lungs:
        hu[inside(*lung)] = -850
        for _ in range(25):
            at = [c + random.uniform(-0.6, 0.6) * min(r, 0.5) for c, r in zip(*lung)]
            radius = random.uniform(0.004, 0.01)
            hu[inside(at, (radius, radius, random.uniform(0.2, 0.9))) & inside(*lung)] = 35
    hu[inside((0, deep - 0.1, 0), (0.06, 0.05, 9))] = 400
    hu[inside((0.02, -0.03, 0), (0.09, 0.08, 9))] = random.uniform(80, 200)
    mask = np.zeros(hu.shape, np.uint8)
    has_lesion = case % 2 == 0
    if has_lesion:
        lung = lungs[random.integers(2)]
        at = [lung[0][0] + random.uniform(-0.04, 0.04), lung[0][1] + random.uniform(-0.08, 0.08), random.uniform(-0.2, 0.2)]
        mask[inside(at, (random.uniform(0.08, 0.12), random.uniform(0.08, 0.14), random.uniform(0.3, 0.5)))] = 1
        hu[mask == 1] = random.uniform(650, 800)
    hu += random.normal(0, 20, hu.shape)
    for folder, name, values in [("scans", f"c{case:02}_0000", hu.round().astype(np.int16)), ("masks", f"c{case:02}", mask)]:
        nibabel.save(nibabel.Nifti1Image(values, affine), args.folder / folder / f"{name}.nii.gz")
    rows.append(f"c{case:02}_0000,{'lesion' if has_lesion else 'none'},p{case:02}")
(args.folder / "labels.csv").write_text("\n".join(rows) + "\n")
