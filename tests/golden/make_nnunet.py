"""Writes ../fixtures/nnunet: results folders of small untrained networks, scans, and the answers of nnunet.py.

    python make_nnunet.py          (needs torch, numpy, nibabel, scikit-image, scipy and safetensors; half a minute on
                                    two cores)

Networks are 16 wide and 12 deep with one head. There is one per trainer; the first has two folds. `expected/RUN.nii.gz`
holds labels, plus 128 where the two highest probabilities, or a region's and one half, are within 1e-3. `expected/RUN.safetensors` holds the
probabilities at every 4th row and column.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from skimage.transform import resize

import seeded
from nnunet import configuration, network, prepare, segment
from reference import rope_periods

here = Path(os.path.dirname(os.path.abspath(__file__)))
root = here.parent / "fixtures" / "nnunet"
MULTI, BIASED, SINGLE = "meddinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_multiscale_Trainer", "dinov3_base_primus_Trainer"
CLASSES = {"background": 0, "liver": 1, "kidney": 2, "spleen": 3}

# `vessel` is a region of one label. The names are not in alphabetical order.
REGIONS = {"labels": {"background": 0, "organ": [1, 2, 3], "lesion": [3, 2], "vessel": 4, "core": [2]}, "regions_class_order": [1, 3, 4, 2]}

PLANS = {
    "dataset_name": "Dataset902_Small",
    "plans_name": "nnUNetPlans",
    "image_reader_writer": "SimpleITKIO",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "label_manager": "LabelManager",
    "configurations": {
        "2d": {
            "preprocessor_name": "DefaultPreprocessor",
            "patch_size": [512, 512],
            "spacing": [0.7, 0.7],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "resampling_fn_data": "resample_data_or_seg_to_shape",
            "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        },
        "2d_middle": {"inherits_from": "2d", "spacing": [0.9, 1.0]},
        "2d_small": {"inherits_from": "2d_middle", "patch_size": [64, 80]},
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"max": 1200.0, "mean": 61.5, "median": 70.0, "min": -900.0, "percentile_00_5": -240.0, "percentile_99_5": 290.0, "std": 110.25}
    },
}


def weights(trainer, seed):
    biased = trainer != MULTI
    cfg = seeded.Config(16, 12, 1, 64, 0 if biased else 4)
    shapes = {k: s for k, s in seeded.shapes(cfg).items() if 0 not in s}
    if biased:
        shapes |= {f"blocks.{b}.attn.qkv.bias": (3 * 16,) for b in range(12)}
    w = {f"dino_encoder.{k}": seeded.tensor(k, s, seed) for k, s in shapes.items()}
    w["dino_encoder.rope_embed.periods"] = rope_periods(16, torch.bfloat16)
    c = 16 * (1 if trainer == SINGLE else 4)
    normal = np.random.default_rng(seed).standard_normal
    for i in range(4):
        out = max(c // 2, 8)
        at = f"up_projection.decode.{i}."
        w |= {at + "0.weight": normal((c, out, 2, 2)) * 1.5 / c**0.5, at + "0.bias": normal(out) * 0.3}
        w |= {at + "1.weight": 1 + normal(out) * 0.2, at + "1.bias": normal(out) * 0.3}
        c = out
    w |= {"up_projection.decode.4.weight": normal((4, c, 1, 1)) * 2, "up_projection.decode.4.bias": normal(4) * 0.2}
    return centred({k: v if torch.is_tensor(v) else torch.from_numpy(np.asarray(v, np.float32)) for k, v in w.items()}, trainer)


@torch.inference_mode()
def centred(w, trainer):
    """Rescales the last layer so that every class occurs: on a smooth image, each class's scores have mean 0 and
    standard deviation 2."""
    image = F.interpolate(torch.randn(1, 1, 8, 10, generator=torch.Generator().manual_seed(0)), size=(64, 80), mode="bicubic") * 2
    scores = network(w, image, "multiscale" in trainer)
    last = "up_projection.decode.4."
    scale = 2 / scores.std((0, 2, 3))
    w[last + "weight"] = (w[last + "weight"] * scale[:, None, None, None]).contiguous()
    w[last + "bias"] = (w[last + "bias"] - scores.mean((0, 2, 3))) * scale
    return w


def checkpoint(trainer, seed, fold, prefix=""):
    return {
        "network_weights": {prefix + k: v for k, v in weights(trainer, seed).items()},
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [0.5, 0.7]},
        "_best_ema": np.float64(0.7),
        "current_epoch": 1000,
        "init_args": {"plans": PLANS, "configuration": "2d_small", "fold": fold, "device": torch.device("cuda")},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": (0, 1),
    }


def results():
    for trainer, seeds in [(MULTI, [11, 12]), (BIASED, [21]), (SINGLE, [31])]:
        folder = root / "results" / f"{trainer}__nnUNetPlans__2d_small"
        for fold, seed in enumerate(seeds):
            (folder / f"fold_{fold}").mkdir(parents=True)
            # The prefix is what training on several GPUs adds to the names.
            torch.save(checkpoint(trainer, seed, fold, "module." if fold else ""), folder / f"fold_{fold}" / "checkpoint_final.pth")
        (folder / "plans.json").write_text(json.dumps(PLANS, indent=1))
        dataset = {"channel_names": {"0": "CT"}, "labels": CLASSES, "numTraining": 1, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))


def scan(name, shape, spacing, box, seed, axes):
    """Writes a scan of `shape` and `spacing` [z, y, x], 0 outside of `box`. `axes`: directions of x, y and z."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing)), indexing="ij"))
    hu = np.full(shape, -60.0)
    for _ in range(9):
        middle = np.array([rng.uniform(0, n * s) for n, s in zip(shape, spacing)])
        width = rng.uniform(7, 22, 3) * 4
        hu += rng.uniform(-260, 320) * np.exp(-(((grid - middle[:, None, None, None]) / width[:, None, None, None]) ** 2).sum(0) * 8)
    hu = np.clip(hu + rng.standard_normal(shape) * 12, -1000, 1500).astype(np.int16)
    masked = np.zeros(shape, np.int16)
    masked[box] = np.where(hu[box] == 0, 1, hu[box])
    # A hole inside one slice; it does not change the bounding box.
    masked[box][1, 10:14, 12:15] = 0
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, float).T * np.asarray(spacing[::-1])
    affine[:3, 3] = [-40.5, 22.25, -310.0]
    image = nib.Nifti1Image(masked.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    (root / "imagesTs").mkdir(exist_ok=True)
    nib.save(image, root / "imagesTs" / f"{name}_0000.nii.gz")


def scans():
    tilt = np.deg2rad(17)
    oblique = [[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]]
    # Thick slices, so that each is resampled on its own; tiles overlap; LPS.
    scan("thick", (5, 96, 108), (4.0, 0.8, 0.8), np.s_[0:4, 7:94, 0:103], 1, [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    # Smaller than a tile, values clamped to the range of the whole volume; RAS, oblique.
    scan("thin", (4, 40, 52), (2.0, 1.1, 1.1), np.s_[:, :, :], 2, oblique)
    # Coronal slices, stored with the thick axis in the middle, for plans that transpose axes.
    scan("coronal", (76, 4, 84), (0.9, 5.0, 0.85), np.s_[3:, :, 2:80], 3, [[-1, 0, 0], [0, 1, 0], [0, 0, -1]])
    # Thick slices stored as columns, from superior to inferior, and tilted, for readers that reorient.
    scan("turned", (60, 70, 4), (0.8, 0.85, 4.0), np.s_[2:, :66, :], 4, [[0, 0.2**0.5 / 2, -(0.95**0.5)], [1, 0, 0], [0, -(0.95**0.5), -(0.2**0.5) / 2]])
    # Thick rows and thick columns, which are resampled by nearest neighbour.
    scan("rows", (4, 15, 90), (0.9, 5.0, 0.85), np.s_[:, 1:, :84], 5, [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])
    scan("columns", (4, 80, 16), (0.9, 0.85, 5.0), np.s_[:, 5:, :15], 6, [[-1, 0, 0], [0, -1, 0], [0, 0, 1]])


def steps(name, spacing, low=(-150, -20, 30), high=(-40, 60, 200)):
    """Writes a scan whose slices each hold two values of their own, so that splines overshoot and the clamping range
    shows. Some voxels are 0."""
    rng = np.random.default_rng(7)
    low, high = (np.array(v)[:, None, None] for v in (low, high))
    hu = np.where(rng.random((3, 31, 37)) < 0.5, low, high).astype(np.int16)
    hu[1, 12, 9:12] = 0
    hu[:, :3] = hu[:, :, 30:] = 0
    image = nib.Nifti1Image(hu.transpose(2, 1, 0), np.diag([*spacing[::-1], 1]))
    (root / "prepare").mkdir(exist_ok=True)
    nib.save(image, root / "prepare" / f"{name}.nii.gz")
    padded = prepare(PLANS, configuration(PLANS, "2d_small"), hu, spacing)[0]
    save_file({"padded": np.ascontiguousarray(padded)}, root / "prepare" / f"{name}.safetensors")


def resized():
    """Noise resized by scikit-image to other sizes, with cubic splines and linearly."""
    out = {}
    for h, w, h2, w2 in [(5, 7, 9, 4), (1, 1, 3, 2), (1, 9, 1, 20), (16, 16, 16, 31), (33, 20, 7, 53), (2, 3, 11, 1), (40, 40, 23, 61)]:
        x = np.random.default_rng(h * w).uniform(-3, 3, (h, w)).astype(np.float32)
        for order in (1, 3):
            y = resize(x.astype(float), (h2, w2), order=order, mode="edge", anti_aliasing=False, clip=False)
            out[f"{h}x{w}.{h2}x{w2}.{order}"] = y.astype(np.float32)
        out[f"{h}x{w}"] = x
    save_file(out, root / "prepare" / "resized.safetensors")


def expected(run, folder, case, folds, mirror):
    labels, probs, image = segment(folder, root / "imagesTs" / f"{case}_0000.nii.gz", folds, mirror)
    best = np.sort(probs, 0)
    are_regions = "regions_class_order" in json.loads((folder / "dataset.json").read_text())
    tie = np.abs(probs - 0.5).min(0) < 1e-3 if are_regions else best[-1] - best[-2] < 1e-3
    counts = np.bincount(labels.ravel(), minlength=4)
    print(f"{run:14} labels {counts}, ties {tie.mean():.5f}")
    out = root / "expected"
    out.mkdir(exist_ok=True)
    coded = (labels + 128 * tie).astype(np.uint8).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(coded, image.affine), out / f"{run}.nii.gz")
    save_file({"probabilities": np.ascontiguousarray(probs[:, :, ::4, ::4])}, out / f"{run}.safetensors")


def main():
    shutil.rmtree(root, ignore_errors=True)
    results()
    scans()
    steps("by_slice", (5.0, 0.8, 0.8))
    steps("whole", (2.0, 0.8, 0.8))
    # All other values are above 0, so 0 is the lowest value.
    steps("above", (2.0, 0.8, 0.8), (20, 90, 40), (60, 120, 200))
    resized()
    folders = {t: root / "results" / f"{t}__nnUNetPlans__2d_small" for t in (MULTI, BIASED, SINGLE)}
    expected("thick", folders[MULTI], "thick", [0], True)
    expected("thick_plain", folders[MULTI], "thick", [0], False)
    expected("thick_folds", folders[MULTI], "thick", [0, 1], True)
    expected("thin", folders[MULTI], "thin", [0], True)
    expected("thick_biased", folders[BIASED], "thick", [0], True)
    expected("thin_single", folders[SINGLE], "thin", [0], True)
    expected("rows", folders[MULTI], "rows", [0], False)
    expected("columns", folders[MULTI], "columns", [0], False)
    transposed = {"transpose_forward": [1, 0, 2], "transpose_backward": [1, 0, 2]}
    reorient = {"image_reader_writer": "NibabelIOWithReorient"}
    for run, case, plans, mirror in [
        ("coronal", "coronal", transposed, True),
        ("turned", "turned", reorient, False),
        # The reader's turn comes before the plans' transposition.
        ("turned_coronal", "coronal", reorient | transposed, False),
    ]:
        with tempfile.TemporaryDirectory() as temporary:
            changed = Path(temporary) / "changed"
            shutil.copytree(folders[MULTI], changed)
            (changed / "plans.json").write_text(json.dumps(PLANS | plans))
            expected(run, changed, case, [0], mirror)
    with tempfile.TemporaryDirectory() as temporary:
        changed = Path(temporary) / "changed"
        shutil.copytree(folders[MULTI], changed)
        (changed / "dataset.json").write_text(json.dumps(json.loads((changed / "dataset.json").read_text()) | REGIONS))
        expected("regions", changed, "thick", [0], False)


if __name__ == "__main__":
    main()
