"""Writes what nibabel and pydicom read from the files of make_cases.py; tests/real_ct.rs compares meddino with it.

    python compare.py OUT

For each NIfTI file F, and each folder F of DICOM files, it writes two files. F.npy holds the HU [S, H, W] turned to LPS
(float64, rounded to float32). F.json holds the affine (RAS+ mm) after the turn. Needs numpy, nibabel and pydicom.
"""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from pydicom.pixels import apply_rescale

OUT = Path(sys.argv[1])


def by_nibabel(path):
    image = nib.load(path)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS"))
    values = apply_orientation(np.asarray(image.get_fdata(dtype=np.float64)), turn)
    return values.transpose(2, 1, 0), image.affine @ inv_ornt_aff(turn, image.shape)


def by_pydicom(folder):
    """HU and affine of an axial series that is stored in LPS, DICOM's own orientation."""
    slices = sorted(map(pydicom.dcmread, folder.glob("*.dcm")), key=lambda ds: float(ds.ImagePositionPatient[2]))
    values = np.stack([apply_rescale(ds.pixel_array, ds) for ds in slices])
    first, last = (np.array(ds.ImagePositionPatient, float) for ds in (slices[0], slices[-1]))
    rows, columns = map(float, slices[0].PixelSpacing)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([(columns, 0, 0), (0, rows, 0), (last - first) / (len(slices) - 1)])
    affine[:3, 3] = first
    return values, np.diag([-1, -1, 1, 1]) @ affine


for path in sorted([*OUT.glob("head/*"), *OUT.glob("nifti/*")]):
    if path.suffix in (".npy", ".json", ".hdr"):
        continue
    values, affine = by_pydicom(path) if path.is_dir() else by_nibabel(path)
    np.save(f"{path}.npy", np.ascontiguousarray(values, np.float32))
    Path(f"{path}.json").write_text(json.dumps({"affine": affine[:3].tolist()}))
