"""Checks with nibabel and SimpleITK that label maps have the geometry of their scan.

One scan is stored with its axes permuted and flipped, oblique, without an sform, and with headers that contradict
themselves. `meddino segment` segments each of them, and each label map's geometry is compared with its scan's.

    python tests/nnunet/geometry.py target/release/meddino [--backend cpu|gpu]

Needs numpy, nibabel and SimpleITK.
"""

import argparse
import gzip
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK

fixtures = Path(__file__).resolve().parents[1] / "fixtures" / "nnunet"
MODEL = fixtures / "results" / "meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"
GEOMETRY = ["GetSpacing", "GetOrigin", "GetDirection", "GetSize"]


def scans(plain):
    """(name, the same scan in another storage order). Slices stay slices, because nnU-Net cuts along the last axis."""
    data, affine = np.asarray(plain.dataobj), plain.affine
    for swap, *flips in itertools.product([False, True], [1, -1], [1, -1], [1, -1]):
        if swap and flips[0] == flips[1]:
            continue
        axes = [1, 0, 2] if swap else [0, 1, 2]
        change = np.eye(4)
        for axis, flip in enumerate(flips):
            if flip < 0:
                change[axis, axis], change[axis, 3] = -1, data.shape[axis] - 1
        turned = data[tuple(slice(None, None, flip) for flip in flips)].transpose(axes)
        permute = np.eye(4)[:, [*axes, 3]]
        yield f"{'yxz' if swap else 'xyz'}{''.join('+-'[f < 0] for f in flips)}", nib.Nifti1Image(turned, affine @ change @ permute)
    a, b = np.deg2rad([20, -35])
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    turn[:3, :3] = turn[:3, :3] @ [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    oblique = nib.Nifti1Image(data, turn @ affine)
    yield "oblique", oblique
    only_qform = nib.Nifti1Image(data, turn @ affine)
    only_qform.set_sform(None, 0)
    yield "qform", only_qform
    # Headers that contradict themselves: SimpleITK must find the labels at the position of the scan.
    zooms = plain.header.get_zooms()
    unit = nib.Nifti1Image(data, affine)
    unit.set_sform(np.column_stack([affine[:, :3] / zooms, affine[:, 3]]), 1)
    unit.set_qform(affine, 1, update_affine=False)
    unit.header["pixdim"][1:4] = zooms
    yield "unit_sform", unit
    aligned = nib.Nifti1Image(data, affine)
    aligned.set_qform(affine, 1)
    aligned.set_sform(turn @ affine, 4)
    yield "elsewhere", aligned


def mended(plain):
    """(name, a scan that nibabel or SimpleITK cannot open properly, the affine that SimpleITK must find in its
    labels)."""
    data, affine = np.asarray(plain.dataobj), plain.affine
    both = nib.Nifti1Image(data, affine)
    both.set_qform(affine, 1)
    yield "zero_sform", both, affine
    shear = np.eye(4)
    shear[1, 2] = 0.2
    sheared = nib.Nifti1Image(data, shear @ affine)
    sheared.set_qform(None, 0)
    stripped = nib.Nifti1Image(data, shear @ affine)
    stripped.set_qform(shear @ affine, 1, strip_shears=True)
    yield "sheared", sheared, stripped.get_qform()


def zero_sform(path):
    """Zeroes the sform in the file (12 numbers from byte 280 on), because nibabel does not save such an sform."""
    scan = bytearray(gzip.open(path).read())
    scan[280:328] = bytes(48)
    gzip.open(path, "wb").write(scan)


def sitk_affine(path):
    """The affine from voxels to RAS+ that SimpleITK reads."""
    image = SimpleITK.ReadImage(str(path))
    columns = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    return np.diag([-1, -1, 1, 1]) @ np.vstack([np.column_stack([columns, image.GetOrigin()]), [0, 0, 0, 1]])


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("binary")
    ap.add_argument("--backend", default="cpu")
    a = ap.parse_args()
    plain, wrong, count = nib.load(fixtures / "imagesTs" / "thick_0000.nii.gz"), [], 0
    with tempfile.TemporaryDirectory() as name:
        into, out = Path(name) / "in", Path(name) / "out"
        into.mkdir()
        cases = list(scans(plain))
        for case, image in cases:
            nib.save(image, into / f"{case}_0000.nii.gz")
        others = list(mended(plain))
        for case, image, _ in others:
            nib.save(image, into / f"{case}_0000.nii.gz")
        zero_sform(into / "zero_sform_0000.nii.gz")
        line = [a.binary, "segment", "-m", MODEL, "-i", into, "-o", out, "-f", "0", "--backend", a.backend]
        subprocess.run([str(word) for word in line], check=True, stdout=subprocess.DEVNULL)
        for case, _ in cases:
            scan, labels = into / f"{case}_0000.nii.gz", out / f"{case}.nii.gz"
            of, got = nib.load(scan), nib.load(labels)
            same = {"affine": np.array_equal(of.affine, got.affine), "zooms": of.header.get_zooms() == got.header.get_zooms()}
            for key in ["qform_code", "sform_code", "pixdim", "quatern_b", "quatern_c", "quatern_d", "srow_x", "srow_y", "srow_z", "xyzt_units"]:
                same[key] = np.array_equal(of.header[key], got.header[key])
            of, got = SimpleITK.ReadImage(str(scan)), SimpleITK.ReadImage(str(labels))
            same |= {f"SimpleITK {get}": getattr(of, get)() == getattr(got, get)() for get in GEOMETRY}
            wrong += [f"{case}: {what}" for what, equal in same.items() if not equal]
            count += len(same)
        for case, _, affine in others:
            off = np.abs(sitk_affine(out / f"{case}.nii.gz") - affine).max()
            wrong += [f"{case}: SimpleITK finds its labels {off} mm aside"] * int(off > 1e-4)
            count += 1
        print(f"{len(cases) + len(others)} ways to store a scan, {count} comparisons, {len(wrong)} wrong")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
