"""Compares what meddino reads from NRRD and MetaImage files with SimpleITK and pynrrd.

    python fuzz/text_formats.py        (needs numpy, SimpleITK and pynrrd, and: cargo build --locked --example dump -p meddino-fuzz)

Every type, byte order and encoding; every way to give space, directions and data file. Values must be equal to the last
bit, positions within 1e-9 mm. Prints a table, and exits with 1 if a file is read differently.
"""
import gzip
import itertools
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib

import nrrd
import numpy as np
import SimpleITK as sitk

HERE = pathlib.Path(__file__).parent
DUMP = HERE.parent / "target/debug/examples/dump"
TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
NRRD_NAMES = {
    "i1": ["signed char", "int8", "int8_t"], "u1": ["uchar", "unsigned char", "uint8", "uint8_t"],
    "i2": ["short", "short int", "signed short", "signed short int", "int16", "int16_t"],
    "u2": ["ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"],
    "i4": ["int", "signed int", "int32", "int32_t"], "u4": ["uint", "unsigned int", "uint32", "uint32_t"],
    "i8": ["longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"],
    "u8": ["ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"], "f4": ["float"], "f8": ["double"],
}
META_NAMES = {"i1": ["MET_CHAR"], "u1": ["MET_UCHAR"], "i2": ["MET_SHORT"], "u2": ["MET_USHORT"], "i4": ["MET_INT", "MET_LONG"],
              "u4": ["MET_UINT", "MET_ULONG"], "i8": ["MET_LONG_LONG"], "u8": ["MET_ULONG_LONG"], "f4": ["MET_FLOAT"], "f8": ["MET_DOUBLE"]}
SHAPE = (3, 4, 5)
SPACING = np.array([0.7, 0.9765625, 2.5])
ORIGIN = np.array([-123.4, 56.7, -1000.25])
ROTATION = np.array([[0.8, 0.6, 0.0], [-0.6 * 0.96, 0.8 * 0.96, 0.28], [0.6 * 0.28, -0.8 * 0.28, 0.96]])  # rows are axes


def values(kind):
    random = np.random.default_rng(5)
    dtype = np.dtype(kind)
    if dtype.kind == "f":
        return random.normal(0, 700, SHAPE).astype(dtype)
    info = np.iinfo(dtype)
    return random.integers(max(info.min, -1024), min(info.max, 3000), SHAPE, endpoint=True).astype(dtype)


def text(vector):
    return "(" + ",".join(repr(float(v)) for v in vector) + ")"


def nrrd_file(path, kind, big=False, encoding="raw", name=None, space="left-posterior-superior", place=True, lines=0, skip=0, detached=None,
              extra="", newline="\n"):
    data = values(kind).astype(np.dtype(kind).newbyteorder(">" if big else "<")).tobytes()
    head = ["NRRD0004", "# a comment", f"type: {name or NRRD_NAMES[kind][0]}", "dimension: 3", f"sizes: {SHAPE[2]} {SHAPE[1]} {SHAPE[0]}",
            f"encoding: {encoding}", "kinds: domain domain domain", "key:=value: with a colon"]
    head += [f"endian: {'big' if big else 'little'}"] if np.dtype(kind).itemsize > 1 else []
    head += [extra] if extra else []
    head += [f"space: {space}"] if space else []
    if place:
        head += ["space directions: " + " ".join(text(ROTATION[i] * SPACING[i]) for i in range(3)), f"space origin: {text(ORIGIN)}"]
    head += [f"line skip: {lines}"] if lines else []
    head += [f"byte skip: {skip}"] if skip else []
    head += [f"data file: {detached}"] if detached else []
    junk = bytes(range(200, 200 + max(skip, 0)))
    if skip == -1:
        junk = b"of any length"
    body = b"".join(b"line %d\n" % i for i in range(lines)) + (gzip.compress(junk + data, mtime=0) if encoding in ("gzip", "gz") else junk + data)
    head = newline.join(head).encode()
    if detached:
        path.write_bytes(head + newline.encode())
        (path.parent / detached).write_bytes(body)
    else:
        path.write_bytes(head + 2 * newline.encode() + body)


def meta_file(path, kind, big=False, packed=False, name=None, detached=None, header_size=None, keys=("TransformMatrix", "Offset"),
              order="BinaryDataByteOrderMSB", place=True, spacing="ElementSpacing"):
    data = values(kind).astype(np.dtype(kind).newbyteorder(">" if big else "<")).tobytes()
    data = zlib.compress(data) if packed else data
    head = ["ObjectType = Image", "NDims = 3", "BinaryData = True", f"{order} = {big}", f"CompressedData = {packed}"]
    head += [f"CompressedDataSize = {len(data)}"] if packed else []
    if place:
        head += [f"{keys[0]} = " + " ".join(repr(float(v)) for v in ROTATION.flatten()), f"{keys[1]} = " + " ".join(map(repr, ORIGIN.tolist()))]
    head += ["CenterOfRotation = 0 0 0"] if place else []
    head += [f"HeaderSize = {header_size}"] if header_size is not None else []
    head += [f"{spacing} = " + " ".join(map(repr, SPACING.tolist())), f"DimSize = {SHAPE[2]} {SHAPE[1]} {SHAPE[0]}",
             f"ElementType = {name or META_NAMES[kind][0]}", f"ElementDataFile = {detached or 'LOCAL'}"]
    junk = bytes(max(header_size or 0, 0)) if header_size != -1 else b"of any length"
    path.write_bytes("\n".join(head).encode() + b"\n" + (b"" if detached else data))
    if detached:
        (path.parent / detached).write_bytes(junk + data)


def files(folder):
    """(group, path) of every file."""
    def at(group, suffix):
        number = next(counter)
        path = folder / f"{number:04}{suffix}"
        made.append((group, path))
        return path
    counter, made = itertools.count(), []
    for kind, big, encoding in itertools.product(TYPES, [False, True], ["raw", "gzip"]):
        nrrd_file(at(f"NRRD attached, {encoding}, {'big' if big else 'little'}", ".nrrd"), kind, big, encoding)
        path = at(f"NRRD detached, {encoding}, {'big' if big else 'little'}", ".nhdr")
        nrrd_file(path, kind, big, encoding, detached=path.stem + ".raw")
    for kind in TYPES:
        for name in NRRD_NAMES[kind]:
            nrrd_file(at("NRRD names of types", ".nrrd"), kind, name=name)
    for space in ["LPS", "RAS", "LAS", "left-posterior-superior", "right-anterior-superior", "left-anterior-superior"]:
        nrrd_file(at("NRRD spaces", ".nrrd"), "i2", space=space)
    nrrd_file(at("NRRD spaces", ".nrrd"), "i2", space=None, extra="space dimension: 3")
    nrrd_file(at("NRRD spacings alone", ".nrrd"), "i2", space=None, place=False, extra="spacings: 0.7 0.9765625 2.5")
    for encoding, lines, skip in [("raw", 2, 0), ("raw", 0, 7), ("raw", 2, 7), ("raw", 0, -1), ("gzip", 0, 7), ("gzip", 2, 0)]:
        nrrd_file(at("NRRD line and byte skip", ".nrrd"), "i2", encoding=encoding, lines=lines, skip=skip)
        path = at("NRRD line and byte skip", ".nhdr")
        nrrd_file(path, "i2", encoding=encoding, lines=lines, skip=skip, detached=path.stem + ".dat")
    nrrd_file(at("NRRD lines end in CR LF", ".nrrd"), "i2", newline="\r\n")
    for kind in TYPES:
        path = at("NRRD by pynrrd", ".nrrd")
        nrrd.write(str(path), values(kind).T, {"space": "right-anterior-superior", "space directions": ROTATION * SPACING[:, None], "space origin": ORIGIN})
    for kind, big, packed in itertools.product(TYPES, [False, True], [False, True]):
        group = f"{'compressed' if packed else 'raw'}, {'big' if big else 'little'}"
        meta_file(at(f"MetaImage .mha, {group}", ".mha"), kind, big, packed)
        path = at(f"MetaImage .mhd, {group}", ".mhd")
        meta_file(path, kind, big, packed, detached=path.stem + (".zraw" if packed else ".raw"))
    for kind in TYPES:
        for name in META_NAMES[kind]:
            meta_file(at("MetaImage names of types", ".mha"), kind, name=name)
    for keys in itertools.product(["TransformMatrix", "Rotation", "Orientation"], ["Offset", "Position", "Origin"]):
        meta_file(at("MetaImage names of fields", ".mha"), "i2", keys=keys)
    meta_file(at("MetaImage names of fields", ".mha"), "i2", big=True, order="ElementByteOrderMSB")
    meta_file(at("MetaImage names of fields", ".mha"), "i2", spacing="ElementSize")
    meta_file(at("MetaImage without a place", ".mha"), "i2", place=False)
    for header_size in [0, 11, -1]:
        path = at("MetaImage HeaderSize", ".mhd")
        meta_file(path, "i2", header_size=header_size, detached=path.stem + ".raw")
    for suffix, packed, kind in itertools.product([".mha", ".mhd", ".nrrd", ".nhdr", ".nii", ".nii.gz"], [False, True], TYPES):
        path = at(f"{suffix} by SimpleITK, {'compressed' if packed else 'raw'}", suffix)
        image = sitk.GetImageFromArray(values(kind))
        image.SetSpacing(SPACING.tolist()), image.SetOrigin(ORIGIN.tolist()), image.SetDirection(ROTATION.T.flatten().tolist())
        sitk.WriteImage(image, str(path), packed)
    return made


def read_by_simpleitk(path):
    image = sitk.ReadImage(str(path))
    steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = np.hstack([steps, np.array(image.GetOrigin())[:, None]])
    return sitk.GetArrayFromImage(image), np.diag([-1, -1, 1]) @ affine


def read_by_pynrrd(path):
    data, header = nrrd.read(str(path))
    if "space directions" not in header:
        return data.T, None
    space = header.get("space", "LPS").lower()
    signs = {"lps": [-1, -1, 1], "left-posterior-superior": [-1, -1, 1], "ras": [1, 1, 1], "right-anterior-superior": [1, 1, 1],
             "las": [-1, 1, 1], "left-anterior-superior": [-1, 1, 1]}[space]
    return data.T, np.diag(signs) @ np.hstack([header["space directions"].T, header["space origin"][:, None]])


def main():
    # GDCM and others print their warnings here.
    sitk.ProcessObject_SetGlobalWarningDisplay(False)
    table, broken = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        made = files(pathlib.Path(folder))
        lines = "".join(f"{path}\t{path}.f32\n" for _, path in made)
        answers = subprocess.run([DUMP], input=lines, text=True, stdout=subprocess.PIPE, check=True).stdout.splitlines()
        for (group, path), answer in zip(made, answers, strict=True):
            answer, row = json.loads(answer), table.setdefault(group, {"files": 0, "SimpleITK": 0, "pynrrd": 0, "mm": 0.0, "refused by": set()})
            row["files"] += 1
            for reader, read in [("SimpleITK", read_by_simpleitk)] + [("pynrrd", read_by_pynrrd)] * (path.suffix in (".nrrd", ".nhdr")):
                try:
                    hu, affine = read(path)
                except Exception as error:
                    row["refused by"].add(f"{reader} ({str(error).strip().splitlines()[-1][:70]})")
                    continue
                if "error" in answer:
                    print(f"{group}: {path.name}: {answer['error']}")
                    broken += 1
                    break
                found = np.fromfile(f"{path}.f32", "f4").reshape(answer["shape"])
                off = 0.0 if affine is None else np.abs(np.array(answer["affine"]) - affine).max()
                limit = 1e-4 if ".nii" in path.name else 1e-9
                if found.shape == hu.shape and np.array_equal(found, hu.astype("f4")) and off < limit:
                    row[reader] += 1
                    row["mm"] = max(row["mm"], off)
                else:
                    print(f"{group}: {path.name}: unlike {reader}: off by {off} mm, values {np.array_equal(found, hu.astype('f4'))}")
                    broken += 1
    print("| files | number | as SimpleITK | as pynrrd | most mm | refused by |\n|---|---|---|---|---|---|")
    for group, row in table.items():
        print(f"| {group} | {row['files']} | {row['SimpleITK']} | {row['pynrrd']} | {row['mm']:.1e} | {'; '.join(sorted(row['refused by']))} |")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
