"""Writes DICOM cases and what pydicom and SimpleITK read from them, for tests/real_ct_dicom.rs.

    python compare_dicom.py OUT [AMI_JS_DATA]

OUT/dicom/NAME is a file or a folder. NAME.npy holds its HU [S, H, W] as pydicom computes them (float64, rounded to
float32), with slices sorted by position along their normal. NAME.json holds the affine (RAS+ mm, from SimpleITK where
SimpleITK reads the case) and the series to choose, if any.

The files come from pydicom, pydicom-data and, if AMI_JS_DATA is given, the npm package ami.js (its folder data/dicom).
Cases that they do not cover (codecs, byte orders, sorting, rescale per slice, multi-frame) are written here from their
pixels. Needs pydicom, pydicom-data, numpy, SimpleITK, pylibjpeg with pylibjpeg-openjpeg and pylibjpeg-libjpeg, and
pyjpegls.
"""

import copy
import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_rescale
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

OUT = Path(sys.argv[1]) / "dicom"


def hu(ds):
    """[S, H, W] in file order."""
    values = ds.pixel_array
    values = values[None] if values.ndim == 2 else values
    if "SharedFunctionalGroupsSequence" not in ds:
        return np.stack([np.asarray(apply_rescale(v, ds), np.float64) for v in values]).astype(np.float32)
    frames = []
    for frame, per_frame in zip(values, ds.PerFrameFunctionalGroupsSequence):
        group = per_frame if "PixelValueTransformationSequence" in per_frame else ds.SharedFunctionalGroupsSequence[0]
        frames.append(np.asarray(apply_rescale(frame, group.PixelValueTransformationSequence[0]), np.float64))
    return np.stack(frames).astype(np.float32)


def planes(ds):
    """(position, orientation, spacing) of each frame."""
    if ds.get("ImagePositionPatient") is None and "SharedFunctionalGroupsSequence" not in ds:
        return [None]
    if "SharedFunctionalGroupsSequence" not in ds:
        return [(ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing)]
    shared = ds.SharedFunctionalGroupsSequence[0]
    return [
        (
            per_frame.PlanePositionSequence[0].ImagePositionPatient,
            shared.PlaneOrientationSequence[0].ImageOrientationPatient,
            shared.PixelMeasuresSequence[0].PixelSpacing,
        )
        for per_frame in ds.PerFrameFunctionalGroupsSequence
    ]


def affine_by_hand(sorted_planes, thickness):
    position, orientation, spacing = sorted_planes[0]
    row, column = np.array(orientation[:3], float), np.array(orientation[3:], float)
    if len(sorted_planes) > 1:
        step = (np.array(sorted_planes[-1][0], float) - np.array(position, float)) / (len(sorted_planes) - 1)
    else:
        step = np.cross(row, column) * thickness
    lps = np.column_stack([row * float(spacing[1]), column * float(spacing[0]), step, np.array(position, float)])
    return np.diag([-1.0, -1.0, 1.0]) @ lps


def affine_by_sitk(files):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in files])
    image = reader.Execute()
    direction = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    return np.diag([-1.0, -1.0, 1.0]) @ np.column_stack([direction, image.GetOrigin()])


def case(name, files, series=None, by_sitk=False):
    """Writes the reference of the series `files` (in any order), which are stored at OUT/dicom/name."""
    slices = []
    for file in files:
        ds = pydicom.dcmread(file)
        slices += [(plane, values, file, ds) for plane, values in zip(planes(ds), hu(ds))]
    if slices[0][0] is None:
        np.save(OUT / f"{name}.npy", slices[0][1][None])
        (OUT / f"{name}.json").write_text(json.dumps({"affine": None, "series": series}))
        return
    orientation = np.array(slices[0][0][1], float)
    normal = np.cross(orientation[:3], orientation[3:])
    slices.sort(key=lambda s: float(np.dot(np.array(s[0][0], float), normal)))
    np.save(OUT / f"{name}.npy", np.stack([s[1] for s in slices]))
    ds = slices[0][3]
    thickness = float(ds.get("SpacingBetweenSlices") or ds.get("SliceThickness") or 1)
    affine = affine_by_sitk([s[2] for s in slices]) if by_sitk else affine_by_hand([s[0] for s in slices], thickness)
    expected = {"affine": affine.tolist(), "series": series}
    (OUT / f"{name}.json").write_text(json.dumps(expected))


def copied(name, source, **options):
    shutil.copy(source, OUT / name)
    case(name, [OUT / name], **options)


def relabelled(name, source):
    """A copy of `source` labelled as a CT, for codecs that no available CT uses."""
    ds = pydicom.dcmread(source)
    ds.Modality = "CT"
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    if "NumberOfFrames" in ds:
        del ds.NumberOfFrames
    ds.save_as(OUT / name)
    case(name, [OUT / name])


def saved(ds, path, syntax):
    """Saves `ds`, whose PixelData is set, in the uncompressed transfer syntax `syntax`."""
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(path, ds, implicit_vr=False, little_endian=False, force_encoding=True)
    else:
        ds.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True)


def of_values(ds, values, stored, signed, slope, intercept):
    """A copy of `ds` with the pixels `values`."""
    ds = copy.deepcopy(ds)
    ds["PixelData"].VR = "OW"
    ds.PixelData = values.astype("<i2" if signed else "<u2").tobytes()
    ds.Rows, ds.Columns = values.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, stored, stored - 1, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds["PixelData"].is_undefined_length = False
    for tag in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries", "LargestPixelValueInSeries"):
        if tag in ds:
            del ds[tag]
    return ds


def volume(base):
    """Eight slices of 64 x 48 from the pixels of one 512 x 512 slice, in HU."""
    values = hu(base)[0]
    return np.stack([values[100 + 7 * i : 164 + 7 * i, 200 + 5 * i : 248 + 5 * i] for i in range(8)])


def placed(base, values, k, n, uid, number, orientation=(1, 0, 0, 0, 1, 0), step=(0, 0, 2.5), **format):
    ds = of_values(base, values, **format)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[uid, str(k)])
    ds.SeriesInstanceUID, ds.InstanceNumber, ds.SeriesNumber = uid, number, 7
    ds.ImageOrientationPatient = list(orientation)
    ds.ImagePositionPatient = [float(v) for v in np.array([-120.5, -80.25, 30.0]) + k * np.array(step)]
    ds.PixelSpacing, ds.SliceThickness = [0.7, 0.9], 5
    return ds


def written(base):
    """Writes the cases that no package provides."""
    values, order = volume(base), random.Random(0)
    plain = dict(stored=16, signed=True, slope=1, intercept=-1024)

    def folder(name, make, names, syntax=ExplicitVRLittleEndian, by_sitk=False):
        (OUT / name).mkdir()
        for k in range(len(values)):
            saved(make(k), OUT / name / names[k], syntax)
        case(name, [OUT / name / n for n in names], by_sitk=by_sitk)

    shuffled = [f"{n:03}" for n in order.sample(range(1000), len(values))]
    numbers = order.sample(range(100), len(values))

    # Every slice has a different slope, intercept, width and sign; file names and instance numbers are shuffled.
    formats = [(16, True, 1, -1024), (16, False, 1, -1024), (12, False, 1, -1024), (13, True, 1, 0), (16, True, 0.5, -1000), (16, False, 2, -2048),
               (15, True, "0.1", "17.3"), (16, True, "1.00001", "-1023.9")]

    def rescaled(k):
        stored, signed, slope, intercept = formats[k]
        raw = np.round((values[k].astype(np.float64) - float(intercept)) / float(slope))
        low, high = (-(1 << (stored - 1)), (1 << (stored - 1)) - 1) if signed else (0, (1 << stored) - 1)
        raw = np.clip(raw, low, high).astype(np.int64)
        format = dict(stored=stored, signed=signed, slope=slope, intercept=intercept)
        return placed(base, raw, k, len(values), "1.2.3.4", numbers[k], **format)

    folder("shuffled_rescale", rescaled, shuffled, by_sitk=True)

    # Gantry tilt, whose shear SimpleITK cannot represent, and a series in another plane.
    raw = np.clip(values + 1024, -32768, 32767).astype(np.int64)
    tilt = dict(orientation=(1, 0, 0, 0, 0.978148, -0.207912), step=(0, 0, 2.5))
    folder("tilted", lambda k: placed(base, raw[k], -k, len(values), "1.2.3.5", numbers[k], **tilt, **plain), shuffled)
    coronal = dict(orientation=(1, 0, 0, 0, 0, -1), step=(0, 1.5, 0))
    folder("coronal", lambda k: placed(base, raw[k], k, len(values), "1.2.3.6", numbers[k], **coronal, **plain), shuffled, by_sitk=True)
    for name, syntax in [("implicit", ImplicitVRLittleEndian), ("big_endian", ExplicitVRBigEndian), ("deflated", DeflatedExplicitVRLittleEndian)]:
        folder(name, lambda k: placed(base, raw[k], k, len(values), "1.2.3.7", numbers[k], **plain), shuffled, syntax)

    # Codecs, signed and unsigned, with 12 and 16 bits stored.
    for codec, syntax in [("rle", RLELossless), ("jpeg_2000", JPEG2000Lossless), ("jpeg_ls", JPEGLSLossless)]:
        for stored, signed, intercept in [(16, True, -1024), (12, False, -1024), (16, False, -1024), (13, True, 0)]:
            name = f"{codec}_{stored}_{'signed' if signed else 'unsigned'}.dcm"
            pixels = np.clip(values[3] - intercept, 0 if not signed else -4096, 4095).astype(np.int64)
            ds = placed(base, pixels, 0, 1, "1.2.3.8", 1, stored=stored, signed=signed, slope=1, intercept=intercept)
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.compress(syntax, generate_instance_uid=False)
            ds.save_as(OUT / name)
            case(name, [OUT / name])

    # Bits above BitsStored are set and must be ignored.
    ds = placed(base, (raw[0] & 0xFFF) | 0xA000, 0, 1, "1.2.3.9", 1, stored=12, signed=False, slope=1, intercept=-1024)
    saved(ds, OUT / "high_bits.dcm", ExplicitVRLittleEndian)
    case("high_bits.dcm", [OUT / "high_bits.dcm"])

    # Enhanced CT: a rescale per frame, frames in shuffled order; uncompressed, and encapsulated with and without an
    # offset table.
    enhanced = multi_frame(base, values)
    saved(copy.deepcopy(enhanced), OUT / "enhanced.dcm", ExplicitVRLittleEndian)
    case("enhanced.dcm", [OUT / "enhanced.dcm"])
    for codec, syntax in [("rle", RLELossless), ("jpeg_2000", JPEG2000Lossless), ("jpeg_ls", JPEGLSLossless)]:
        name = f"enhanced_{codec}.dcm"
        ds = copy.deepcopy(enhanced)
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False)
        ds.save_as(OUT / name)
        case(name, [OUT / name])
    name = "enhanced_two_fragments.dcm"
    ds = pydicom.dcmread(OUT / "enhanced_jpeg_2000.dcm")
    frames = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=len(values)))
    ds.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=True)
    ds.save_as(OUT / name)
    case(name, [OUT / name])


def multi_frame(base, values):
    slopes = [(1, -1024), (2, -1000), (0.5, -512.5), (1, 0)] * 2
    raw = [np.clip(np.round((v - b) / a), -32768, 32767) for v, (a, b) in zip(values, slopes)]
    ds = of_values(base, np.stack(raw), 16, True, 1, 0)
    del ds.RescaleSlope, ds.RescaleIntercept, ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = len(values)
    item, orientation, measures = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.7, 0.9], 5
    item.PlaneOrientationSequence, item.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence = [item]
    places, frames = random.Random(1).sample(range(len(values)), len(values)), []
    for place, (slope, intercept) in zip(places, slopes):
        position, transform, item = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [-10, -20.5, 3 * place]
        transform.RescaleSlope, transform.RescaleIntercept, transform.RescaleType = slope, intercept, "HU"
        item.PlanePositionSequence, item.PixelValueTransformationSequence = [position], [transform]
        frames.append(item)
    ds.PerFrameFunctionalGroupsSequence = frames
    return ds


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for name in ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KR.dcm", "693_UNCI.dcm", "693_UNCR.dcm", "693_J2KI.dcm", "bad_sequence.dcm",
                 "eCT_Supplemental.dcm", "explicit_VR-UN.dcm"]:
        copied(name, get_testdata_file(name))
    for name in ["JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm"]:
        relabelled(f"relabelled_{name}", get_testdata_file(name))
    tests = Path(get_testdata_file("CT_small.dcm")).parent / "dicomdirtests"
    for name, folder in [("CT2", "77654033/CT2"), ("CT5N", "98892001/CT5N")]:
        shutil.copytree(tests / folder, OUT / name)
        files = [f for f in sorted((OUT / name).iterdir()) if f.is_file()]
        if name == "CT2":
            # The first slice is 20 cm below the others.
            case(name, files)
        else:
            case(name, files, by_sitk=True)
    if len(sys.argv) > 2:
        ami = Path(sys.argv[2])
        copied("ami_big_endian.dcm", ami / "ser002img00001-16-signed.dcm")
        copied("ami_jpeg_2000_lossy.dcm", ami / "MELANIX.dcm")
    written(pydicom.dcmread(get_testdata_file("693_UNCR.dcm")))
    print(len(list(OUT.glob("*.npy"))), "cases in", OUT)


main()
