"""Writes a head CT in several storage orders and formats, and other NIfTI files, for tests/real_ct.rs.

    python make_cases.py OUT CRANIUM ATLAS

CRANIUM is Cranium.inv3 of Debian's package invesalius-examples, a head CT. OUT/head/NAME.nii[.gz] holds it in the
storage order NAME. OUT/head/dicom holds it as a DICOM series with shuffled file names and instance numbers, and a
different rescale slope and intercept in each slice. OUT/nifti holds it in other types, scalings and positions, and also
TotalSegmentator's brain atlas (ATLAS, its wheel) and the test files of nibabel.
compare.py writes the expected values. Needs numpy, nibabel and pydicom.
"""

import random
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

OUT, CRANIUM, ATLAS = map(Path, sys.argv[1:4])
SPACING = (0.957, 0.957, 1.5)


def cranium():
    """HU of the head CT, i16 [S, H, W] in LPS."""
    with tarfile.open(CRANIUM) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith("/matrix.dat"))
        values = np.frombuffer(tar.extractfile(member).read(), "<i2").reshape(108, 256, 256)
    return np.ascontiguousarray(values[:, ::-1])  # rows are stored from posterior to anterior


def nifti(name, values, affine, sform=1, qform=0, endianness="<", **fields):
    """Writes `values` [i, j, k] unchanged under the given header. nibabel's own save would choose a scaling."""
    header = nib.Nifti1Header()
    header.set_data_shape(values.shape)
    header.set_data_dtype(values.dtype)
    header.set_xyzt_units("mm")
    header.set_qform(affine, qform)
    header.set_sform(affine, sform)
    header["magic"], header["vox_offset"], header["scl_slope"], header["scl_inter"] = b"n+1", 352, 1, 0
    for field, value in fields.items():
        header[field] = value
    header = header.as_byteswapped(endianness)
    with nib.openers.Opener(OUT / name, "wb") as file:
        file.write(header.binaryblock + bytes(4))
        file.write(values.astype(values.dtype.newbyteorder(endianness)).tobytes(order="F"))


def in_order(hu, affine, codes):
    """Values [i, j, k] and affine of the LPS volume `hu` [S, H, W] in the storage order `codes`."""
    lps = hu.transpose(2, 1, 0)
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    return apply_orientation(lps, turn), affine @ inv_ornt_aff(turn, lps.shape)


def dicom(folder, hu, origin):
    folder.mkdir(parents=True)
    rng = random.Random(0)
    series, study, frame = (generate_uid(entropy_srcs=["meddino", "head", kind]) for kind in ("series", "study", "frame"))
    numbers = rng.sample(range(1, 1000), len(hu))
    for k, values in enumerate(hu):
        # Slopes are powers of two, so that stored numbers are whole and HU are exact.
        slope, intercept = rng.choice((1, 0.5, 0.25)), rng.choice((-1024, -1000, 0, 37))
        stored = (values.astype(np.float64) - intercept) / slope
        assert np.array_equal(stored, stored.astype("<i2"))
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid(entropy_srcs=["meddino", "head", str(k)])
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.Modality, ds.PatientName, ds.PatientID, ds.SeriesNumber, ds.InstanceNumber = "CT", "Head", "head", 1, numbers[k]
        ds.ImageType, ds.SeriesDescription = ["DERIVED", "PRIMARY", "AXIAL"], "head"
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [-origin[0], -origin[1], origin[2] + SPACING[2] * k]
        ds.PixelSpacing, ds.SliceThickness = [SPACING[1], SPACING[0]], 2 * SPACING[2]
        ds.Rows, ds.Columns = values.shape
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        ds.PixelData = stored.astype("<i2").tobytes()
        ds.save_as(folder / f"{numbers[-1 - k]:04}.dcm", enforce_file_format=True)


def main():
    for folder in ("head", "nifti"):
        shutil.rmtree(OUT / folder, ignore_errors=True)
        (OUT / folder).mkdir(parents=True)
    hu = cranium()
    origin = (122.25, 118.5, -40)  # of the first voxel in LPS order, in RAS+ mm
    affine = np.array([[-SPACING[0], 0, 0, origin[0]], [0, -SPACING[1], 0, origin[1]], [0, 0, SPACING[2], origin[2]], [0, 0, 0, 1]])

    nifti("head/lps.nii.gz", *in_order(hu, affine, "LPS"))
    nifti("head/ras.nii", *in_order(hu, affine, "RAS"), sform=0, qform=1)
    nifti("head/lpi.nii.gz", *in_order(hu, affine, "LPI"))
    nifti("head/sra.nii.gz", *in_order(hu, affine, "SRA"))
    dicom(OUT / "head/dicom", hu, origin)

    part, part_affine = in_order(hu[40:60], affine, "RAS")
    nifti("nifti/scaled.nii.gz", (part + 1024).astype("u2"), part_affine, scl_slope=0.37, scl_inter=-1024.3)
    nifti("nifti/scaled_i32.nii", part.astype("i4") * 7919, part_affine, scl_slope=-1 / 7919, scl_inter=1 / 3)
    nifti("nifti/scaled_f32.nii", part.astype("f4") / 3, part_affine, scl_slope=1.7, scl_inter=-0.1)
    nifti("nifti/scaled_i64.nii", part.astype("i8") * 1_000_000_007, part_affine, scl_slope=1e-9, scl_inter=-3)
    nifti("nifti/i64.nii", part.astype("i8") * 1_000_000_007, part_affine)
    nifti("nifti/f64.nii.gz", part.astype("f8") / 7, part_affine)
    nifti("nifti/big_endian.nii.gz", part, part_affine, endianness=">")
    nifti("nifti/big_endian_f32.nii", part.astype("f4") / 3, part_affine, endianness=">", scl_slope=0.3)
    nifti("nifti/slope_0.nii", part, part_affine, scl_slope=0, scl_inter=100)
    nifti("nifti/slope_nan.nii", part, part_affine, scl_slope=np.nan, scl_inter=np.nan)
    nifti("nifti/no_place.nii", part, part_affine, sform=0, qform=0)
    turned = np.eye(4)  # a rotation by 14 degrees about an axis in none of the planes
    turned[:3, :3] = nib.quaternions.angle_axis2mat(np.radians(14), (1, 2, -0.5))
    nifti("nifti/oblique_qform.nii", part, turned @ part_affine, sform=0, qform=1)
    sheared = np.eye(4)
    sheared[1, 2] = 0.3
    nifti("nifti/tilted_sform.nii.gz", *in_order(hu[40:60], sheared @ affine, "PIR"))
    nib.save(nib.Nifti1Pair(part, part_affine), OUT / "nifti/pair.img")

    with zipfile.ZipFile(ATLAS) as wheel:
        name = next(n for n in wheel.namelist() if n.endswith("ct_brain_atlas_1mm.nii.gz"))
        (OUT / "nifti/atlas.nii.gz").write_bytes(wheel.read(name))
    for name in ("anatomical.nii", "standard.nii.gz", "reoriented_anat_moved.nii"):
        shutil.copy(Path(nib.__file__).parent / "tests/data" / name, OUT / "nifti" / name)


main()
