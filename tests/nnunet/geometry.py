"""Labels lie where their scan lies, by nibabel's and SimpleITK's word: one scan, stored with its axes permuted and flipped, oblique, and without an sform,
is segmented by `meddino segment`, and each label map's geometry is held to its scan's.

    python tests/nnunet/geometry.py target/release/meddino [--backend cpu|gpu]

needs: numpy, nibabel, SimpleITK
"""

import argparse
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
    """(name, the same scan stored otherwise). Slices stay slices: nnU-Net cuts along the last axis."""
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
        print(f"{len(cases)} ways to store a scan, {count} comparisons, {len(wrong)} wrong")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
