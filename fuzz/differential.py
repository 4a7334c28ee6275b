"""Compares HU and affines that meddino reads with those of nibabel, SimpleITK and pydicom, on random headers.

    cargo build -p meddino -p meddino-fuzz --example dump
    python fuzz/differential.py [--cases 300] [--seed 0] [--dump target/debug/examples/dump] [--keep FOLDER]

Needs numpy, nibabel, SimpleITK, and pydicom with its codecs (pylibjpeg, pylibjpeg-openjpeg). Exits with 1 if a value or
an affine differs, and names the case. `--keep` keeps the files. Where meddino deviates on purpose, a comment that
begins with
"Rule:" gives the reason.
"""

import argparse
import collections
import gzip
import json
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.pixels import apply_rescale
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

warnings.filterwarnings("ignore")
sitk.ProcessObject.SetGlobalWarningDisplay(False)
RAS = np.diag([-1.0, -1.0, 1.0])  # x and y of DICOM and ITK are the negative of RAS

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


class Wrong(Exception):
    pass


def rotation(rng):
    """A rotation matrix: by multiples of 90 degrees, by a small angle, or random."""
    kind = rng.integers(4)
    matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)[:, None] if kind else np.eye(3)
    matrix[0] *= np.linalg.det(matrix)
    if kind > 1:
        angle, axis = (0.05 if kind == 2 else 1.0) * rng.uniform(-1, 1), rng.normal(size=3)
        x, y, z = axis / np.linalg.norm(axis)
        k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        matrix = matrix @ (np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k)
    return matrix


def quaternion(matrix):
    """The quaternion's b, c and d of a rotation, for a of at least 0."""
    return nibabel.quaternions.mat2quat(matrix)[1:]


def values(rng, dtype, count):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        stored = rng.normal(size=count) * 10.0 ** rng.integers(0, 4)
        return (stored * (rng.random(count) > 0.1)).astype(dtype)
    low, high = (max(np.iinfo(dtype).min, -2**40), min(np.iinfo(dtype).max, 2**40))
    if rng.random() < 0.7:
        low, high = max(low, -2000), min(high, 4000)
    return rng.integers(low, high, count, endpoint=True).astype(dtype)


def nifti(rng, folder, number):
    """Writes a NIfTI-1 or NIfTI-2 file. Returns its path, a description, and its check."""
    dtype, order = rng.choice(list(CODES)), rng.choice(["<", ">"])
    sides = [int(n) for n in rng.integers(1, 6, 3)]
    axes = int(rng.integers(2, 8))
    shape = (sides + [1, 1, 1, 1])[:axes]
    scaling = [(1.0, 0.0), (0.0, 0.0), (0.0, 5.0), (1.0, -1024.0), (np.float32(rng.normal()), np.float32(rng.normal() * 100)), (np.nan, 0.0), (2.0, 0.0),
               (-1.0, 3.0)][rng.integers(8)]
    matrix, spacing, origin = rotation(rng), rng.uniform(0.3, 3, 3), rng.normal(size=3) * 100
    handed = float(rng.choice([-1.0, 1.0, 0.0]))
    agree = rng.random() < 0.7
    sform_code, qform_code = int(rng.choice([0, 1, 2])), int(rng.choice([0, 1, 2]))
    sign = np.diag([1, 1, -1.0 if handed < 0 else 1])
    sform = np.c_[matrix @ sign @ np.diag(spacing), origin]
    if not agree:
        sform = np.c_[rotation(rng) @ np.diag(spacing), rng.normal(size=3) * 100]
    pair = rng.random() < 0.2
    version = int(rng.integers(1, 3))
    length = {1: 348, 2: 540}[version]
    offset = 0 if pair else length + int(rng.choice([4, 4, 20, 68]))
    units = int(rng.choice([2, 2, 0, 10]))
    forms = [*quaternion(matrix), *origin, *sform.ravel()]
    dims, bits, magic = [axes, *shape, *[1] * (7 - axes)], np.dtype(dtype).itemsize * 8, b"ni" if pair else b"n+"
    if version == 1:
        head = struct.pack(order + "i36s8h3f4h8f3fh2b4f2i", 348, b"", *dims, 0, 0, 0, 0, CODES[dtype], bits, 0, handed, *spacing, *[1.0] * 4, offset, *scaling,
                           0, 0, units, 0, 0, 0, 0, 0, 0)
        head += struct.pack(order + "80s24s2h18f16s4s", b"", b"", qform_code, sform_code, *forms, b"", magic + b"1\0")
    else:
        head = struct.pack(order + "i8s2h8q3d8dq6d2q", 540, magic + b"2\0\r\n\x1a\n", CODES[dtype], bits, *dims, 0, 0, 0, handed, *spacing, *[1.0] * 4, offset,
                           *scaling, 0, 0, 0, 0, 0, 0)
        head += struct.pack(order + "80s24s2i18d3i16sb15s", b"", b"", qform_code, sform_code, *forms, 0, units, 0, b"", 0, b"")
    assert len(head) == length
    voxels = values(rng, dtype, int(np.prod(shape))).astype(order + dtype).tobytes()
    packed = rng.random() < 0.4
    ending = ".gz" if packed else ""
    pack = (lambda data: gzip.compress(data, 1, mtime=0)) if packed else bytes
    if pair:
        path = folder / f"n{number}.hdr{ending}"
        path.write_bytes(pack(head))
        (folder / f"n{number}.img{ending}").write_bytes(pack(voxels))
    else:
        path = folder / f"n{number}.nii{ending}"
        path.write_bytes(pack(head.ljust(offset, b"\0") + voxels))
    about = f"NIfTI-{version} {dtype} {order} {shape} slope, inter {scaling} codes s{sform_code} q{qform_code} qfac {handed} agree {agree} units {units}"
    return path, about, lambda answer, hu: check_nifti(path, answer, hu, [sform_code, qform_code, agree])


def check_nifti(path, answer, hu, codes):
    image = nibabel.load(str(path))
    theirs = np.asarray(image.get_fdata(dtype=np.float64))
    theirs = theirs.reshape(*theirs.shape[:2], -1).transpose(2, 1, 0)
    if tuple(answer["shape"]) != theirs.shape:
        raise Wrong(f"shape {answer['shape']}, nibabel {theirs.shape}")
    same_hu(hu, theirs, "nibabel")
    affine = image.affine.copy()
    if image.ndim < 3 and not (image.header["sform_code"] or image.header["qform_code"]):
        # Rule: for a picture without an affine nibabel takes slices to be 1 mm apart; meddino takes pixdim[3].
        affine[2, 2] = answer["affine"][2][2]
        affine[2, 3] = answer["affine"][2][3]
    vector = sum(float(image.header[f"quatern_{axis}"]) ** 2 for axis in "bcd")
    # Rule: the quaternion's first number is the root of what is left of 1. Below 3.6e-7 that is rounding, for which
    # nibabel takes 0 and meddino the root, which changes angles by a tenth of a degree at most.
    half_turn = not image.header["sform_code"] and abs(1 - vector) < 4e-7
    is_2 = image.header["sizeof_hdr"] == 540
    tolerance = (1e-7 if half_turn else 1e-14) if is_2 else 3e-3 if half_turn else 2e-5
    same_place(answer["affine"], affine[:3], "nibabel", tolerance)
    if is_2:
        # SimpleITK does not open NIfTI-2.
        return
    sform_code, qform_code, agree = codes
    if image.ndim >= 3 and (agree or not (sform_code and qform_code)) and (sform_code or qform_code):
        itk = sitk.ReadImage(str(path))
        array = sitk.GetArrayFromImage(itk).reshape(theirs.shape).astype(np.float64)
        if np.isfinite(array).all() and not np.isnan(float(image.header["scl_slope"])):
            same_hu(hu, array, "SimpleITK", tolerance=2e-6)
        if itk.GetDimension() == 3:
            matrix = RAS @ np.reshape(itk.GetDirection(), (3, 3)) @ np.diag(itk.GetSpacing())
            same_place(answer["affine"], np.c_[matrix, RAS @ itk.GetOrigin()], "SimpleITK")


def dicom(rng, folder, number):
    """Writes a DICOM series in shuffled order. Returns its path, a description, and its check."""
    rows, columns, slices = [int(n) for n in rng.integers(1, 7, 3)]
    syntax = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless][rng.integers(6)]
    if syntax == JPEG2000Lossless:
        rows, columns = 32 + rows, 32 + columns
    allocated = int(rng.choice([8, 16, 16, 16, 32]))
    if allocated == 32 and syntax in (RLELossless, JPEG2000Lossless) or allocated == 8 and syntax == ExplicitVRBigEndian:
        allocated = 16
    stored = allocated if rng.random() < 0.5 else int(rng.integers(2, allocated + 1))
    if syntax in (RLELossless, JPEG2000Lossless):
        # pydicom's encoders accept only these numbers of bits.
        stored = max(stored, 8) if allocated == 8 else max(stored, 9)
    signed = int(rng.integers(2))
    slope, intercept = [("1", "-1024"), ("1", "0"), ("2.5", "-1000.25"), ("0.001", "1e2"), ("-1", "7"), (None, None)][rng.integers(6)]
    matrix, spacing, gap = rotation(rng), np.round(rng.uniform(0.3, 2, 2), 4), float(np.round(rng.uniform(0.5, 5), 3))
    along_row, down_column = np.round(matrix[:, 0], 10), np.round(matrix[:, 1], 10)
    normal, origin = np.cross(along_row, down_column), np.round(rng.normal(size=3) * 100, 3)
    low, high = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    path = folder / f"d{number}"
    path.mkdir()
    names, shown = rng.permutation(slices), str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    stack = []
    for k in range(slices):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.840.99.{number}.{k + 1}"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"1.2.3.{number}.1", f"1.2.3.{number}.2", f"1.2.3.{number}.3"
        ds.Modality, ds.ImageType, ds.SeriesNumber, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 1, int(rng.permutation(slices)[0]) + 1
        ds.InstanceNumber = k + 1 if rng.random() < 0.5 else slices - k
        ds.ImagePositionPatient = [f"{v:.9g}"[:16] for v in origin + k * gap * normal]
        ds.ImageOrientationPatient = [f"{v:.12g}"[:16] for v in (*along_row, *down_column)]
        ds.PixelSpacing, ds.SliceThickness = [str(v) for v in spacing], str(gap)
        ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, shown, rows, columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = allocated, stored, stored - 1, signed
        if slope:
            ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
        pixels = rng.integers(low, high, rows * columns, endpoint=True).astype(f"<{'i' if signed else 'u'}{allocated // 8}")
        ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
        ds["PixelData"].VR = "OB" if allocated == 8 else "OW"
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        if syntax in (RLELossless, JPEG2000Lossless):
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(syntax, generate_instance_uid=False)
        if syntax == ExplicitVRBigEndian:
            ds.PixelData = np.frombuffer(ds.PixelData, f"<u{allocated // 8}").astype(f">u{allocated // 8}").tobytes()
        pydicom.dcmwrite(path / f"IM{names[k]}", ds, enforce_file_format=True)
        stack.append(path / f"IM{names[k]}")
    about = f"{syntax.name} {slices}x{rows}x{columns} {stored} of {allocated} bits signed {signed} slope {slope} intercept {intercept}"
    return path, about, lambda answer, hu: check_dicom(path, stack, answer, hu)


def check_dicom(path, stack, answer, hu):
    sets = [pydicom.dcmread(file) for file in stack]
    theirs = np.stack([apply_rescale(ds.pixel_array, ds).astype(np.float64) for ds in sets])
    if tuple(answer["shape"]) != theirs.shape:
        raise Wrong(f"shape {answer['shape']}, pydicom {theirs.shape}")
    same_hu(hu, theirs, "pydicom")
    first, last = sets[0], sets[-1]
    axes, position = np.array(first.ImageOrientationPatient, float).reshape(2, 3), np.array(first.ImagePositionPatient, float)
    step = np.cross(*axes) * float(first.SliceThickness)
    if len(sets) > 1:
        step = (np.array(last.ImagePositionPatient, float) - position) / (len(sets) - 1)
    matrix = np.c_[axes[0] * float(first.PixelSpacing[1]), axes[1] * float(first.PixelSpacing[0]), step, position]
    same_place(answer["affine"], RAS @ matrix, "pydicom")
    reader = sitk.ImageSeriesReader()
    files = reader.GetGDCMSeriesFileNames(str(path))
    # Rule: ITK inverts the values of MONOCHROME1, which only says how they are displayed; pydicom and meddino do not.
    # ITK drops an axis of a picture of one row or column.
    comparable = first.PhotometricInterpretation == "MONOCHROME2" and min(theirs.shape[1:]) > 1
    if len(files) == len(stack) > 1 and comparable and first.BitsAllocated <= 16:
        reader.SetFileNames(files)
        try:
            itk = reader.Execute()
        except RuntimeError:
            return  # ITK cannot read this series
        matrix = RAS @ np.reshape(itk.GetDirection(), (3, 3)) @ np.diag(itk.GetSpacing())
        same_place(answer["affine"], np.c_[matrix, RAS @ itk.GetOrigin()], "SimpleITK", tolerance=1e-3)
        if first.BitsStored == first.BitsAllocated:
            same_hu(hu, sitk.GetArrayFromImage(itk).astype(np.float64), "SimpleITK", tolerance=2e-6)


def same_hu(ours, theirs, whose, tolerance=0.0):
    """Compares our HU with theirs rounded to f32: bit for bit, or within a relative tolerance where they compute in
    f32."""
    theirs = theirs.astype(np.float32).ravel()
    apart = np.abs(ours.astype(np.float64) - theirs)
    allowed = tolerance * np.maximum(np.abs(theirs).max(initial=0), 1)
    if (apart > allowed).any() or not np.array_equal(np.isfinite(ours), np.isfinite(theirs)):
        at = int(np.argmax(apart))
        raise Wrong(f"HU at {at}: {ours[at]!r}, {whose} {theirs[at]!r}")


def same_place(ours, theirs, whose, tolerance=2e-5):
    """Compares affines relative to the largest entry, because headers hold f32 and decimals."""
    if ours is None:
        raise Wrong(f"no place is known, {whose} has one")
    ours, theirs = np.array(ours), np.asarray(theirs, float)
    apart = np.abs(ours - theirs).max()
    if apart > tolerance * max(np.abs(theirs).max(), 1):
        raise Wrong(f"affine is {ours.round(4).tolist()}, {whose} {theirs.round(4).tolist()}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--cases", type=int, default=300, help="of each kind")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--dump", default="target/debug/examples/dump")
    arguments.add_argument("--keep", type=Path)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(exist_ok=True, parents=True)
        cases = [make(np.random.default_rng([arguments.seed, kind, number]), folder, number) for kind, make in enumerate((nifti, dicom)) for number in range(arguments.cases)]
        lines = "".join(f"{path}\t{path}.f32\n" for path, _, _ in cases)
        answers = subprocess.run([arguments.dump], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
        if len(answers) != len(cases):
            sys.exit(f"{len(answers)} answers to {len(cases)} cases")
        wrong, held = collections.Counter(), 0
        for (path, about, check), line in zip(cases, answers):
            answer = json.loads(line)
            try:
                if "error" in answer:
                    raise Wrong(f"refused: {answer['error']}")
                check(answer, np.fromfile(f"{path}.f32", np.float32))
                held += 1
            except Wrong as problem:
                kind = str(problem).split(":")[0].split("[")[0][:40]
                wrong[kind] += 1
                if wrong[kind] <= 3:
                    print(f"DIFFERENT {path.name} ({about}): {str(problem)[:400]}")
    print(f"{held} of {len(cases)} cases held (seed {arguments.seed}); different: {dict(wrong)}")
    sys.exit(1 if wrong else 0)


main()
