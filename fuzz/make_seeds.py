"""Writes seeds/: a few small files for each reader, which the fuzzer mutates and combines.

    python fuzz/make_seeds.py

Needs numpy, nibabel, pydicom with its codecs (pylibjpeg, pylibjpeg-openjpeg), pynrrd and SimpleITK. The checkpoint seeds are headers of
the files in tests/fixtures/micro.
"""

import io
import json
import pickle
import struct
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

HERE = Path(__file__).resolve().parent
FIXTURES = HERE.parent / "tests" / "fixtures"
BETWEEN = b"\xff{file}\xff"


def put(target, name, data):
    folder = HERE / "seeds" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def nifti(dtype, shape, order="<", sform=True, qform=True, magic=b"n+1\0", scaling=(1.0, -1024.0)):
    """A NIfTI-1 file: a header of 352 bytes and the voxels."""
    code = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}[dtype]
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    head = struct.pack(order + "i36s8h3f4h8f3fh2b4f2i", 348, b"", *dim, 0, 0, 0, 0, code, np.dtype(dtype).itemsize * 8, 0, -1, 0.8, 0.7, 2.5, 0, 0, 0, 0,
                       352 if magic == b"n+1\0" else 0, *scaling, 0, 0, 2, 0, 0, 0, 0, 0, 0)
    head += struct.pack(order + "80s24s2h6f12f16s4s4s", b"seed", b"", int(qform), int(sform), 0.0, 0.0, 1.0, -20.0, 30.0, -40.0,
                        -0.8, 0, 0, -20, 0, 0.7, 0, 30, 0, 0, 2.5, -40, b"", magic, b"\0" * 4)
    return head + np.arange(np.prod(shape)).astype(order + dtype).tobytes()


def nifti_2(dtype, shape, order="<", pair=False):
    """A NIfTI-2 file of nibabel with these values, and the four bytes that say that no extension follows."""
    import nibabel
    kind = nibabel.Nifti2Pair if pair else nibabel.Nifti2Image
    image = kind(np.arange(np.prod(shape)).reshape(shape).astype(order + dtype), np.diag([-0.8, 0.7, 2.5, 1]), kind.header_class(endianness=order), dtype=order + dtype)
    with tempfile.TemporaryDirectory() as folder:
        nibabel.save(image, f"{folder}/x.img" if pair else f"{folder}/x.nii")
        files = [Path(folder) / name for name in (["x.hdr", "x.img"] if pair else ["x.nii"])]
        head, *voxels = [path.read_bytes() for path in files]
    return head.ljust(544, b"\0") + b"".join(voxels)


def niftis():
    for name, bytes in {
        "i2": nifti("i2", (5, 4, 3)),
        "big": nifti("f4", (3, 4, 2), order=">"),
        "u1_qform": nifti("u1", (4, 4, 2, 1), sform=False),
        "f8_nowhere": nifti("f8", (3, 3), sform=False, qform=False, scaling=(0.0, 0.0)),
    }.items():
        put("nifti", name, bytes)
        put("nifti_gz", name, bytes)
        put("nifti_pair", name, bytes.replace(b"n+1\0", b"ni1\0").replace(struct.pack("<f", 352), b"\0" * 4).replace(struct.pack(">f", 352), b"\0" * 4))
    for target, pair in ("nifti", False), ("nifti_gz", False), ("nifti_pair", True):
        put(target, "version_2", nifti_2("i2", (5, 4, 3), pair=pair))
        put(target, "version_2_big", nifti_2("f8", (3, 4, 2), ">", pair))
    import gzip
    put("nifti_gz", "members", gzip.compress(nifti("i2", (5, 4, 3)), mtime=0) + gzip.compress(b"", mtime=0) + b"\0" * 12)


def slice_of(z=0.0, rows=4, columns=6, uid="1.2.840.99.1", **more):
    """A CT slice at `z` mm."""
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.840.99.9.{int(z * 100) + 100000}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.840.99.5", uid, "1.2.840.99.6"
    ds.Modality, ds.ImageType, ds.SeriesNumber, ds.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 3, int(z) + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing, ds.SliceThickness = [-10, -20, z], [1, 0, 0, 0, 1, 0], [0.5, 0.75], 2.5
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = -1024, 1, "HU"
    for name, value in more.items():
        setattr(ds, name, value)
    frames = int(getattr(ds, "NumberOfFrames", 1))
    ds.PixelData = (np.arange(frames * rows * columns) * 7 % 251).astype(f"<u{ds.BitsAllocated // 8}").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def written(ds, syntax=ExplicitVRLittleEndian, fragments=None):
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if fragments else syntax
    ds.file_meta.ImplementationClassUID = "1.2.840.99.7"
    if fragments:
        ds.compress(syntax, generate_instance_uid=False)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    file = io.BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def enhanced():
    """Two frames, each with its position."""
    from pydicom import Dataset, Sequence
    ds = slice_of(NumberOfFrames=2)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    shared, measures, rescale, orientation = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, 2
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1024, 1, "HU"
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PixelValueTransformationSequence = Sequence([measures]), Sequence([rescale])
    shared.PlaneOrientationSequence = Sequence([orientation])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for z in (0, 2):
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = [-10, -20, z]
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType", "SliceThickness"):
        delattr(ds, name)
    return written(ds)


def jpeg_lossless():
    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetFileName(f"{folder}/x.dcm")
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        image = sitk.GetImageFromArray((np.arange(24).reshape(4, 6) * 7 % 251).astype(np.int16))
        image.SetMetaData("0008|0060", "CT")
        writer.Execute(image)
        ds = pydicom.dcmread(f"{folder}/x.dcm")
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue()


def dicoms():
    seeds = {
        "explicit": written(slice_of()),
        "implicit": written(slice_of(PixelPaddingValue=63536), ImplicitVRLittleEndian),
        "big": written(slice_of(), ExplicitVRBigEndian),
        "deflated": written(slice_of(), DeflatedExplicitVRLittleEndian),
        "rle": written(slice_of(), RLELossless, fragments=True),
        "jpeg_2000": written(slice_of(0, 32, 32), JPEG2000Lossless, fragments=True),
        "jpeg_lossless": jpeg_lossless(),
        "eight_bits": written(slice_of(BitsAllocated=8, BitsStored=8, HighBit=7)),
        "frames": written(slice_of(NumberOfFrames=3, SpacingBetweenSlices=2)),
        "enhanced": enhanced(),
    }
    seeds["bare"] = seeds["implicit"][seeds["implicit"].index(b"\x08\0\x08\0"):]
    for name, bytes in seeds.items():
        put("dicom", name, bytes)
    lean = [written(slice_of(z, 2, 3)) for z in (0, 2.5, 5)]
    lean = [bytes[128:] for bytes in lean]  # without a preamble
    put("dicom_folder", "three", BETWEEN.join(lean))
    put("dicom_folder", "two_series", BETWEEN.join([lean[0], lean[1], written(slice_of(0, 2, 3, uid="1.2.840.99.2"))[128:], b"no DICOM"]))
    put("dicom_folder", "one_place", BETWEEN.join([lean[0], lean[0], enhanced()]))


def npys():
    def text(descr, shape, fortran=False):
        return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    put("npy", "i2", text("<i2", (2, 3, 4)) + np.arange(24, dtype="<i2").tobytes())
    put("npy", "f8_fortran", text(">f8", (2, 3, 2), True) + np.arange(12, dtype=">f8").tobytes())
    put("npy", "u1", text("|u1", (3, 5)) + bytes(range(15)))
    put("npy", "structured", text("<f2", (2, 2)).replace(b"'<f2'", b"[('a', '<f2')]") + bytes(8))
    file = io.BytesIO()
    np.save(file, np.arange(6, dtype="<f4").reshape(2, 3))
    put("npy", "whole", file.getvalue())


def header(tensors, metadata=None):
    """The JSON of a safetensors file: {name: (dtype, shape)}."""
    size, at, table = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "U8": 1}, 0, {}
    if metadata:
        table["__metadata__"] = metadata
    for name, (dtype, shape) in tensors.items():
        end = at + int(np.prod(shape)) * size[dtype]
        table[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, end]}
        at = end
    return json.dumps(table, separators=(",", ":"))


def safetensors():
    put("images", "two", header({"image": ("F32", [2, 3, 4, 4])}))
    put("images", "half", header({"image": ("BF16", [1, 1, 16, 16]), "other": ("I64", [2])}))
    metadata = {"slices": "[0,2]", "grid": "[2,3]", "image": "[40,48]", "patch_size": "16",
                "preprocessing": json.dumps({"size": "40x48", "orient": "lps"}), "patch_mm": "[8.0,8.0]"}
    put("features", "two", header({"x_norm_patchtokens": ("F32", [2, 6, 2])}, metadata))
    put("features", "half", header({"x_norm_clstoken": ("F16", [1, 4]), "x_norm_patchtokens": ("F16", [1, 6, 4])}, metadata | {"slices": "[7]"}))
    basis = {"mean": [5], "components": [3, 5], "variance": [3], "limits": [2]}
    put("basis", "f32", header({name: ("F32", shape) for name, shape in basis.items()}, {"checkpoint": "seeded:0"}))
    put("basis", "f16", header({name: ("F16", shape) for name, shape in basis.items()}))
    for path in sorted([*FIXTURES.glob("micro/*.safetensors"), *FIXTURES.glob("micro/hf/*.safetensors")]):
        raw = path.read_bytes()
        head = json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])
        metadata = head.pop("__metadata__", None)
        narrow = {name: ("BF16", [side // 16 if side in (64, 128, 192, 256) else side for side in about["shape"]]) for name, about in head.items()}
        put("safetensors", path.stem, header(narrow, metadata))


def pickles():
    for path in sorted(FIXTURES.glob("micro/*.pth")):
        if zipfile.is_zipfile(path) and path.stem in ("flat", "meta_qkvb", "nnunet", "strided", "teacher"):
            put("pth_zip", path.stem, zipfile.ZipFile(path).read(f"{path.stem}/data.pkl"))
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
    storage = type("FloatStorage", (), {"__module__": "torch"})
    modules["torch"].FloatStorage = storage

    def rebuild(*_):
        pass
    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = "torch._utils", "_rebuild_tensor_v2", "_rebuild_tensor_v2"
    modules["torch._utils"]._rebuild_tensor_v2 = rebuild
    sys.modules |= modules

    class Tensor:
        def __init__(self, key, shape):
            self.key, self.shape = key, tuple(shape)

        def __reduce__(self):
            strides = tuple(int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape)))
            return rebuild, (Storage(self.key, int(np.prod(self.shape))), 0, self.shape, strides, False, {})

    class Storage:
        def __init__(self, key, length):
            self.key, self.length = key, length

    class Pickler(pickle.Pickler):
        legacy = False

        def persistent_id(self, it):
            if isinstance(it, Storage):
                return ("storage", storage, it.key, "cpu", it.length, *[None] * self.legacy)

    def dumped(value, legacy=False):
        file = io.BytesIO()
        pickler = Pickler(file, 2)
        pickler.legacy = legacy
        pickler.dump(value)
        return file.getvalue()

    raw = (FIXTURES / "micro/flat.safetensors").read_bytes()
    shapes = {name: about["shape"] for name, about in json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]]).items() if name != "__metadata__"}
    few = {name: [side // 16 if side in (64, 128, 192, 256) else side for side in shape] for name, shape in shapes.items()}
    few = {name: shape for name, shape in few.items() if np.prod(shape) <= 256}
    put("pth_zip", "few", dumped({name: Tensor(str(i % 4), shape) for i, (name, shape) in enumerate(few.items())}))
    nnunet = {"network_weights": {"dino_encoder.cls_token": Tensor("0", [1, 1, 4])}, "trainer_name": "dinov3_base_primus_Trainer",
              "init_args": {"configuration": "2d"}, "inference_allowed_mirroring_axes": (0, 1)}
    put("pth_zip", "nnunet_small", dumped(nnunet))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(zipfile.ZipInfo("m/data.pkl"), dumped({"cls_token": Tensor("0", [1, 1, 4])}))
        packed.writestr(zipfile.ZipInfo("m/data/0"), bytes(16))
    put("pth_zip", "whole", archive.getvalue())
    legacy = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    legacy += pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, 2)
    legacy += dumped({"cls_token": Tensor("7", [1, 1, 4]), "norm.weight": Tensor("8", [4])}, legacy=True) + pickle.dumps(["7", "8"], 2)
    legacy += 2 * (struct.pack("<Q", 4) + np.arange(4, dtype="<f4").tobytes())
    put("pth_legacy", "two", legacy)
    put("pth_legacy", "no_tensor", pickle.dumps({"epoch": 3, "lr": 0.5}, 2))


def jsons():
    results = FIXTURES / "nnunet/results/dinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"
    for name in ("plans", "dataset"):
        value = json.loads((results / f"{name}.json").read_text())
        put(name, "fixture", json.dumps(value))
        if name == "plans":
            value["configurations"] = {"2d": value["configurations"][next(iter(value["configurations"]))]}
            put(name, "short", json.dumps(value))
        else:
            put(name, "texts", json.dumps(value | {"modality": {"0": "CT"}, "labels": {"background": "0", "a": "1", "ignore": 2}}))
    tiles = {
        "few": {"product": {"rows": 32, "cols": 64, "split": {"tiled": {"depth": 16, "sums": [4, 4]}}}, "attention": None},
        "many": {"product": None, "attention": {"tiled": {"lanes": 32, "keys": 64}}},
    }
    put("tiles", "record", json.dumps(tiles))
    put("tiles", "list", "[1,2]")
    for number, text in enumerate(["native", "224", "160x240", "demo", "none", "-160,240,40,80.5", "lps", "stored", "npz", "f16", "cooperative8", "auto", "0"]):
        put("text", str(number), text)


def text_formats():
    sys.path.insert(0, str(HERE))
    import text_formats as made
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        for target, name, write, options in [
            ("nrrd", "f8_big", made.nrrd_file, {"kind": "f8", "big": True}),
            ("nrrd", "i2_gzip", made.nrrd_file, {"kind": "i2", "encoding": "gzip", "skip": 3}),
            ("nrrd", "u1_ras", made.nrrd_file, {"kind": "u1", "space": "right-anterior-superior", "lines": 2}),
            ("nrrd", "spacings", made.nrrd_file, {"kind": "u4", "space": None, "place": False, "extra": "spacings: 1 2 3", "skip": -1}),
            ("metaimage", "f4_big", made.meta_file, {"kind": "f4", "big": True}),
            ("metaimage", "i2_zlib", made.meta_file, {"kind": "i2", "packed": True}),
            ("nrrd", "detached", made.nrrd_file, {"kind": "i2", "big": True, "lines": 1, "skip": 2, "detached": "scan.raw"}),
            ("nrrd", "detached_gzip", made.nrrd_file, {"kind": "u2", "encoding": "gzip", "detached": "scan.raw"}),
            ("nrrd", "detached_last", made.nrrd_file, {"kind": "i4", "skip": -1, "detached": "scan.raw"}),
            ("metaimage", "detached", made.meta_file, {"kind": "i2", "header_size": 11, "detached": "scan.raw"}),
            ("metaimage", "detached_zlib", made.meta_file, {"kind": "u2", "packed": True, "detached": "scan.raw"}),
            ("metaimage", "detached_last", made.meta_file, {"kind": "f8", "header_size": -1, "detached": "scan.raw"}),
            ("metaimage", "u1_bare", made.meta_file, {"kind": "u1", "place": False, "spacing": "ElementSize"}),
        ]:
            write(path, **options)
            data = path.parent / options.get("detached", "none")
            put(target, name, path.read_bytes() + (BETWEEN + data.read_bytes() if data.exists() else b""))


for make in (niftis, text_formats, dicoms, npys, safetensors, pickles, jsons):
    make()
