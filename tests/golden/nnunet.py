"""An independent implementation, in NumPy, scikit-image and PyTorch, of nnU-Net 2.5's inference with the Primus
trainers.

It was compared with nnU-Net's own code on two scans: all labels agree except near ties, which nnU-Net's f16 sums
decide.

    python nnunet.py RESULTS_FOLDER scan_0000.nii.gz labels.nii.gz [--folds 0,1] [--no-mirror] [--probabilities out.npz]
"""

import argparse
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, map_coordinates
from skimage.transform import resize

from reference import forward
from seeded import Config


def configuration(plans, name):
    own = dict(plans["configurations"][name])
    parent = own.pop("inherits_from", None)
    return (configuration(plans, parent) if parent else {}) | own


def network(w, image, multiscale):
    """w: network_weights; image [B, 1, H, W] -> logits [B, K, H, W]."""
    enc = {k.removeprefix("dino_encoder."): v for k, v in w.items() if k.startswith("dino_encoder.")}
    c, depth = enc["norm.weight"].numel(), 1 + max(int(k.split(".")[1]) for k in enc if k.startswith("blocks."))
    head = 4 * enc["rope_embed.periods"].numel() if "rope_embed.periods" in enc else 64
    registers = enc["storage_tokens"].shape[1] if "storage_tokens" in enc else 0
    enc.setdefault("storage_tokens", torch.zeros(1, 0, c))
    layers = [2, 5, 8, 11] if multiscale else [depth - 1]
    out = forward(enc, image.repeat(1, 3, 1, 1), Config(c, depth, c // head, 0, registers), layers=layers)
    b, _, h, wd = image.shape
    maps = [out[f"layers.{i}"][:, 1 + registers :].transpose(1, 2).reshape(b, c, h // 16, wd // 16) for i in layers]
    x, dec = torch.cat(maps, 1), "up_projection.decode."
    for i in range(4):
        x = F.conv_transpose2d(x, w[f"{dec}{i}.0.weight"], w[f"{dec}{i}.0.bias"], stride=2)
        x = F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], w[f"{dec}{i}.1.weight"], w[f"{dec}{i}.1.bias"], 1e-6).permute(0, 3, 1, 2)
        x = F.gelu(x)
    return F.conv2d(x, w[f"{dec}4.weight"], w[f"{dec}4.bias"])


def box_of(data):
    """The bounding box of the nonzero voxels; the whole volume if all are 0."""
    mask = data != 0
    ends = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return tuple(slice(e[0], e[-1] + 1) if len(e) else slice(None) for e in ends)


def separate(old, new):
    """The axis that nnU-Net resamples separately: that of the largest spacing, where spacings differ more than
    threefold."""
    for spacing in (old, new):
        if max(spacing) / min(spacing) > 3:
            coarse = np.flatnonzero(np.isclose(spacing, max(spacing), rtol=0, atol=0))
            return coarse[0] if len(coarse) == 1 else None
    return None


def resample(data, shape, axis, order):
    """data [Z, H, W] in its own type -> [Z, *shape]. Planes across `axis` are resampled one by one, and then the axis by
    nearest neighbour."""
    if data.shape[1:] == tuple(shape):
        return data
    kw = dict(order=order, mode="edge", anti_aliasing=False)
    shape = (len(data), *shape)
    if axis is None:
        return resize(data.astype(float), shape, **kw).astype(data.dtype)
    plane = [n for a, n in enumerate(shape) if a != axis]
    planes = np.stack([resize(p.astype(float), plane, **kw) for p in np.moveaxis(data, axis, 0)], axis)
    if planes.shape != shape:
        scales = [a / b for a, b in zip(planes.shape, shape)]
        at = [s * (m + 0.5) - 0.5 for s, m in zip(scales, np.mgrid[tuple(slice(n) for n in shape)])]
        planes = map_coordinates(planes, at, order=0, mode="nearest")
    return planes.astype(data.dtype)


def starts(size, tile, step):
    n = int(np.ceil((size - tile) / (tile * step))) + 1
    width = (size - tile) / (n - 1) if n > 1 else 0
    return [int(np.round(width * i)) for i in range(n)]


def gaussian(tile):
    spike = np.zeros(tile)
    spike[tuple(t // 2 for t in tile)] = 1
    g = torch.from_numpy(gaussian_filter(spike, [t / 8 for t in tile], 0, mode="constant", cval=0))
    g = (g / (g.max() / 10)).half()
    g[g == 0] = g[g != 0].min()
    return g.float()


def prepare(plans, cfg, data, spacing):
    """data [Z, Y, X] and its spacing, both transposed -> the network's input [Z, H, W], padded, and the crop and
    padding."""
    box = box_of(data)
    data = data[box].astype(np.float32)
    ct = plans["foreground_intensity_properties_per_channel"]["0"]
    data = np.clip(data, ct["percentile_00_5"], ct["percentile_99_5"]).astype(np.float32)
    data -= np.float32(ct["mean"])
    data /= np.float32(max(ct["std"], 1e-8))
    new = [spacing[0], *cfg["spacing"]]
    cropped = data.shape
    shape = [int(np.round(n * o / s)) for n, o, s in zip(cropped[1:], spacing[1:], cfg["spacing"])]
    data = resample(data, shape, separate(spacing, new), 3)
    tile = cfg["patch_size"]
    pads = [((max(t - n, 0)) // 2, max(t - n, 0) - max(t - n, 0) // 2) for n, t in zip(shape, tile)]
    return np.pad(data, [(0, 0), *pads]), box, cropped, pads


@torch.inference_mode()
def logits(folds, padded, tile, multiscale, axes, step):
    """padded [Z, H, W] -> the mean over the folds [K, Z, H, W]."""
    weights, total = gaussian(tile), 0
    for w in folds:
        classes = w["up_projection.decode.4.weight"].shape[0]
        out, sums = torch.zeros(classes, *padded.shape), torch.zeros(padded.shape[1:])
        for y in starts(padded.shape[1], tile[0], step):
            for x in starts(padded.shape[2], tile[1], step):
                ys, xs = slice(y, y + tile[0]), slice(x, x + tile[1])
                sums[ys, xs] += weights
                for z in range(len(padded)):
                    image = torch.from_numpy(padded[z, ys, xs].copy())[None, None]
                    passes = [[], *([a] for a in axes), *([list(axes)] if len(axes) == 2 else [])]
                    passes = [[a + 2 for a in p] for p in passes]
                    mean = sum(network(w, image.flip(p), multiscale).flip(p) for p in passes) / len(passes)
                    out[:, z, ys, xs] += mean[0] * weights
        total = total + out / sums
    return total / len(folds)


def segment(folder, scan, fold_names, mirror=True, step=0.5, checkpoint="checkpoint_final.pth"):
    """-> labels [z, y, x], probabilities [K, z, y, x], in the scan's storage order, and the scan."""
    plans = json.loads((folder / "plans.json").read_text())
    files = [torch.load(folder / f"fold_{f}" / checkpoint, weights_only=False, map_location="cpu") for f in fold_names]
    cfg = configuration(plans, files[0]["init_args"]["configuration"])
    axes = (files[0]["inference_allowed_mirroring_axes"] or ()) if mirror else ()
    image = nib.load(scan)
    given = image
    if plans["image_reader_writer"] == "NibabelIOWithReorient":
        given = image.as_reoriented(nib.orientations.io_orientation(image.affine))
    order, back = plans["transpose_forward"], plans["transpose_backward"]
    spacing = [float(given.header.get_zooms()[2 - a]) for a in order]
    data = np.asarray(given.dataobj).transpose(2, 1, 0).transpose(order)
    padded, box, cropped, pads = prepare(plans, cfg, data, spacing)
    folds = [{k.removeprefix("module."): v.float() for k, v in f["network_weights"].items()} for f in files]
    multiscale = "multiscale" in files[0]["trainer_name"]
    out = logits(folds, padded, cfg["patch_size"], multiscale, axes, step).numpy()
    (t, b), (le, r) = pads
    out = out[:, :, t : out.shape[2] - b, le : out.shape[3] - r]
    axis = separate([spacing[0], *cfg["spacing"]], spacing)
    out = np.stack([resample(o, cropped[1:], axis, 1) for o in out])
    labels, probs = np.zeros(data.shape, np.uint8), np.zeros((len(out), *data.shape), np.float32)
    dataset = json.loads((folder / "dataset.json").read_text())
    if any(isinstance(v, list) and len(v) > 1 for v in dataset["labels"].values()):
        prob = torch.sigmoid(torch.from_numpy(out).float()).numpy()
        inside = np.zeros(prob.shape[1:], np.uint8)
        for region, label in zip(prob, dataset["regions_class_order"], strict=True):
            inside[region > 0.5] = label
        labels[box] = inside
    else:
        prob = torch.softmax(torch.from_numpy(out).float(), 0).numpy()
        probs[0] = 1
        labels[box] = prob.argmax(0)
    probs[(slice(None), *box)] = prob
    labels, probs = labels.transpose(back), probs.transpose([0, *(1 + b for b in back)])
    to_stored = nib.orientations.ornt_transform(nib.orientations.io_orientation(given.affine), nib.orientations.io_orientation(image.affine))

    def turned(values):
        return nib.orientations.apply_orientation(values.transpose(2, 1, 0), to_stored).transpose(2, 1, 0)

    if given is not image:
        labels, probs = turned(labels), np.stack([turned(p) for p in probs])
    return labels, probs, image


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("folder", type=Path)
    ap.add_argument("scan")
    ap.add_argument("out")
    ap.add_argument("--folds", default="0")
    ap.add_argument("--no-mirror", action="store_true")
    ap.add_argument("--probabilities")
    a = ap.parse_args()
    labels, probs, image = segment(a.folder, a.scan, a.folds.split(","), not a.no_mirror)
    nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), image.affine, image.header, dtype=np.uint8), a.out)
    if a.probabilities:
        np.savez(a.probabilities, probabilities=probs)


if __name__ == "__main__":
    main()
