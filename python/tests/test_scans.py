"""Scans: reading, preprocessing, features, maps, labels; the same bits as the command's."""

from __future__ import annotations

import csv
import gzip
import pickle
import struct
import zipfile

import numpy as np
import pytest
from conftest import REPOSITORY, TINY, relative_l2
from safetensors import safe_open
from safetensors.numpy import load_file

import meddino
from meddino import Volume

NNUNET = REPOSITORY / "tests/fixtures/nnunet"
RESULTS = NNUNET / "results/meddinov3_base_primus_multiscale_Trainer__nnUNetPlans__2d_small"
THICK = NNUNET / "imagesTs/thick_0000.nii.gz"
# A scan whose stored slices are not axial.
TURNED = NNUNET / "imagesTs/turned_0000.nii.gz"


def nifti(path):
    """The values [S, H, W] and the sform of a NIfTI file, read by hand."""
    data = gzip.decompress(path.read_bytes())
    width, height, slices = struct.unpack_from("<3h", data, 42)
    dtype = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 512: "<u2"}[struct.unpack_from("<h", data, 70)[0]]
    offset, slope, intercept = struct.unpack_from("<3f", data, 108)
    values = (
        np.frombuffer(data, dtype, slices * height * width, int(offset))
        .reshape(slices, height, width)
        .astype(np.float64)
    )
    affine = np.vstack([np.frombuffer(data, "<f4", 12, 280).reshape(3, 4), [0, 0, 0, 1]])
    return values * (slope or 1) + intercept, affine


@pytest.fixture(scope="module")
def hu():
    ramp = np.linspace(-1000, 1000, 5 * 50 * 66, dtype=np.float32).reshape(5, 50, 66)
    return np.ascontiguousarray(ramp + 300 * np.sin(np.arange(66, dtype=np.float32)))


@pytest.mark.parametrize("path", [THICK, TURNED])
def test_a_volume_is_what_the_file_holds(path):
    values, affine = nifti(path)
    volume = Volume(path)
    assert volume.shape == values.shape == volume.hu.shape and len(volume.hu) == values.shape[0]
    assert np.allclose(np.asarray(volume.hu), values, atol=1e-3)
    assert np.allclose(volume.affine, affine, atol=1e-5)
    assert np.allclose(volume.spacing, np.linalg.norm(affine[:3, :3], axis=0)[::-1], rtol=1e-5)
    assert np.array_equal(volume.hu[-1], volume.hu[len(volume.hu) - 1])
    assert np.array_equal(volume.hu[1:4:2, 3], np.asarray(volume.hu)[1:4:2, 3])
    assert np.array_equal(volume.hu[0, :, 2:5], np.asarray(volume.hu)[0, :, 2:5])
    assert sum(1 for _ in volume.hu) == len(volume.hu)
    with pytest.raises(IndexError):
        volume.hu[len(volume.hu)]


@pytest.mark.filterwarnings("ignore:.*stretched")
def test_what_a_reader_warns_of_is_a_warning(tiny):
    with pytest.warns(UserWarning, match="turned_0000.nii.gz: oblique: its axes are up to 12.9 degrees off"):
        meddino.prepare(TURNED, slices=0)


def test_an_array_is_a_volume(hu):
    affine = np.diag([-0.7, -0.7, 3.0, 1.0])
    volume = Volume.from_array(hu.astype(np.int16), affine, name="mine")
    assert volume.name == "mine" and volume.spacing == (3.0, 0.7, 0.7) and np.array_equal(volume.affine, affine)
    assert np.array_equal(np.asarray(volume.hu), hu.astype(np.int16))
    again = pickle.loads(pickle.dumps(volume))
    assert np.array_equal(np.asarray(again.hu), np.asarray(volume.hu)) and np.array_equal(again.affine, affine)
    assert Volume.from_array(hu).affine is None and Volume.from_array(hu[:, ::-1, ::2]).shape == (5, 50, 33)
    assert (
        len(pickle.dumps(Volume(THICK))) < 500
        and pickle.loads(pickle.dumps(Volume(THICK))).shape == Volume(THICK).shape
    )


@pytest.mark.parametrize("orient", ["lps", "stored"])
def test_images_are_the_demos(orient):
    """Against the authors' steps in f64: the window, and a native size."""
    values, _ = nifti(THICK)
    expected = (np.clip(values, -1000, 1000) - 65.10842) / 178.01663
    images = meddino.prepare(THICK, orient=orient)
    assert images.dtype == np.float32 and images.shape == (len(values), 1, *values.shape[1:])
    if orient == "stored":
        assert np.allclose(images[:, 0], expected, atol=1e-4)
    assert np.allclose(np.sort(images, axis=None), np.sort(expected, axis=None), atol=1e-4)
    assert meddino.prepare(THICK, size=32, slices=[0, -1]).shape == (2, 1, 32, 32)
    assert meddino.prepare(THICK, size=(16, 48), slices=slice(0, 3)).shape == (3, 1, 16, 48)
    assert np.array_equal(meddino.prepare(THICK, orient=orient, slices=2), images[2:3])
    raw = meddino.prepare(THICK, window="none", orient="stored")
    assert np.array_equal(raw[:, 0], np.asarray(Volume(THICK).hu))


@pytest.mark.filterwarnings("ignore:.*(oblique|stretched)")
@pytest.mark.parametrize("scan", [THICK, TURNED])
def test_features_are_the_commands_to_the_bit(tiny, command, tmp_path, scan):
    theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
    command(
        "features",
        scan,
        "-c",
        TINY,
        "--backend",
        "cpu",
        "--size",
        48,
        "--layers",
        1,
        "--tokens",
        "cls,storage,patch,prenorm",
        "-o",
        theirs,
    )
    options = {"size": 48, "layers": [1], "tokens": ["cls", "storage", "patch", "prenorm"]}
    tiny.write_features(scan, ours, **options)
    assert ours.read_bytes() == theirs.read_bytes(), "the file is the command's"
    stored = load_file(theirs)
    seen = []
    for slices, batch in tiny.features(Volume(scan), batch=2, **options):
        assert batch.keys() == stored.keys()
        for name, values in batch.items():
            assert np.array_equal(values, stored[name][slices]), name
        seen += slices
    assert seen == list(range(len(stored["x_norm_clstoken"])))
    # The model on prepared images gives the same.
    assert np.array_equal(tiny(meddino.prepare(scan, size=48)), stored["x_norm_clstoken"])


def test_means_slices_and_formats_are_the_commands(tiny, command, tmp_path):
    theirs, ours = tmp_path / "theirs.npz", tmp_path / "ours.npz"
    command(
        "features",
        THICK,
        "-c",
        TINY,
        "--backend",
        "cpu",
        "--pool",
        "mean",
        "--dtype",
        "f16",
        "--slices",
        "1:-1:2",
        "--window",
        "-160,240,0,100",
        "-o",
        theirs,
    )
    options = {"tokens": "mean", "slices": slice(1, -1, 2), "window": (-160, 240, 0, 100)}
    tiny.write_features(THICK, ours, dtype="f16", **options)
    assert ours.read_bytes() == theirs.read_bytes()
    ((name, values),) = {k: v for k, v in np.load(theirs).items() if k != "metadata"}.items()
    found = np.concatenate([batch[name] for _, batch in tiny.features(THICK, **options)])
    assert np.array_equal(found.astype(np.float16), values)


def test_an_array_has_the_features_of_its_file(tiny, tmp_path):
    volume = Volume(THICK)
    array = Volume.from_array(np.asarray(volume.hu), volume.affine)
    for (_, one), (_, other) in zip(tiny.features(volume, size=32), tiny.features(array, size=32), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    tiny.write_features(array, tmp_path / "array.safetensors", size=32)
    with safe_open(tmp_path / "array.safetensors", "numpy") as file:
        assert file.metadata()["input"] == "array" and len(file.metadata()["input_sha256"]) == 64


def test_an_iterator_that_is_left_ends_the_work(tiny):
    batches = tiny.features(Volume.from_array(np.zeros([500, 64, 64])), batch=1, progress=True)
    next(batches)
    batches.close()
    assert not list(batches)


def test_files_are_not_replaced_by_mistake(tiny, tmp_path, hu):
    path = tmp_path / "features.safetensors"
    path.write_text("mine")
    with pytest.raises(ValueError, match="meddino did not write it; add `overwrite`"):
        tiny.write_features(Volume.from_array(hu), path)
    tiny.write_features(Volume.from_array(hu), path, overwrite=True)
    np.save(tmp_path / "scan.npy", hu)
    with pytest.raises(ValueError, match="would take the place of"):
        tiny.write_features(tmp_path / "scan.npy", tmp_path / "scan.npy", overwrite=True, tokens="cls")


def test_components_are_those_of_numpy_and_of_the_command(tiny, command, tmp_path):
    found = meddino.pca(tiny, THICK, size=64)
    tokens = np.concatenate(
        [batch["x_norm_patchtokens"] for _, batch in tiny.features(THICK, size=64, tokens="patch")]
    ).astype(np.float64)
    flat = tokens.reshape(-1, 128)
    centred = flat - flat.mean(0)
    variance, directions = np.linalg.eigh(centred.T @ centred / (len(flat) - 1))
    assert np.allclose(found.variance, variance[::-1][:3], rtol=1e-4)
    scores = centred @ directions[:, ::-1][:, :3] / np.sqrt(variance[::-1][:3])
    assert np.allclose(np.abs(found.scores.reshape(-1, 3)), np.abs(scores), atol=1e-2)
    assert found.scores.shape == (*tokens.shape[:1], 4, 4, 3) and found.limits == (
        found.scores.min(),
        found.scores.max(),
    )
    command(
        "pca",
        THICK,
        "-c",
        TINY,
        "--backend",
        "cpu",
        "--size",
        64,
        "--slices",
        "all",
        "--fit",
        "volume",
        "--save-basis",
        tmp_path / "basis",
        "-o",
        tmp_path / "pca.png",
    )
    basis = load_file(tmp_path / "basis")
    assert all(np.array_equal(basis[name], getattr(found, name)) for name in ["mean", "components", "variance"])
    assert np.array_equal(basis["limits"], np.float32(found.limits))


def test_similarity_is_the_cosine_to_the_point(tiny):
    volume = Volume(THICK)
    _, height, width = volume.shape
    tokens = np.concatenate(
        [b["x_norm_patchtokens"] for _, b in tiny.features(volume, size=64, tokens="patch")]
    ).astype(np.float64)
    x, y = width - 1, 0
    query = tokens[1, 3]  # the patch in the right upper corner
    cosines = tokens @ query / np.linalg.norm(tokens, axis=-1) / np.linalg.norm(query)
    found = meddino.similarity(tiny, volume, (x, y, 1), size=64, slices="all")
    assert np.allclose(found.reshape(len(tokens), 16), cosines, atol=1e-5)
    assert np.array_equal(meddino.similarity(tiny, volume, (x, y, 1), size=64), found[1:2])
    assert np.array_equal(meddino.similarity(tiny, volume, (x, y), slices=1, size=64), found[1:2])
    with pytest.raises(ValueError, match="point: .* is outside"):
        meddino.similarity(tiny, volume, (width, height, 1), size=64)
    with pytest.raises(ValueError, match="no single slice"):
        meddino.similarity(tiny, volume, (0, 0), size=64)


@pytest.fixture(scope="module")
def segmenter():
    return meddino.Segmenter(RESULTS, folds=[0], device="cpu", probabilities=True)


def test_labels_are_those_of_pytorch_and_of_the_command(segmenter, command, tmp_path):
    found = segmenter(THICK)
    coded = nifti(NNUNET / "expected/thick.nii.gz")[0].astype(int)
    clear = coded < 128
    assert np.array_equal(found.labels[clear], coded[clear]), "but for near ties, the labels are PyTorch's"
    (expected,) = load_file(NNUNET / "expected/thick.safetensors").values()
    assert np.abs(found.probabilities[:, :, ::4, ::4].ravel() - expected.ravel()).max() < 1e-3
    command(
        "segment",
        "-m",
        RESULTS,
        "-i",
        THICK,
        "-o",
        tmp_path / "theirs.nii.gz",
        "--backend",
        "cpu",
        "-f",
        0,
        "--save-probabilities",
        "--statistics",
        tmp_path / "table.csv",
    )
    labels, affine = nifti(tmp_path / "theirs.nii.gz")
    assert (
        found.labels.dtype == np.uint16 and np.array_equal(found.labels, labels) and np.allclose(found.affine, affine)
    )
    assert np.array_equal(found.probabilities, np.load(tmp_path / "theirs.npz")["probabilities"])
    table = segmenter.write(THICK, tmp_path / "ours.nii.gz")
    assert (tmp_path / "ours.nii.gz").read_bytes() == (tmp_path / "theirs.nii.gz").read_bytes()
    with zipfile.ZipFile(tmp_path / "ours.npz") as ours, zipfile.ZipFile(tmp_path / "theirs.npz") as theirs:
        assert ours.read("probabilities.npy") == theirs.read("probabilities.npy")
    assert table == found.table and [row.label for row in table] == list(range(1, len(segmenter.labels)))
    ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    for row in table:
        assert row.name == segmenter.labels[row.label] and row.voxels == (labels == row.label).sum()
        assert row.ml == pytest.approx(row.voxels * ml, rel=1e-4)
        mask = labels == row.label
        assert row.mean_hu == pytest.approx(np.asarray(Volume(THICK).hu)[mask].mean(dtype=np.float64), abs=1e-3)
        assert mask[row.box].sum() == row.voxels and [side.start for side in row.box] == list(np.argwhere(mask).min(0))
        sides = np.array([side.stop - side.start for side in row.box])
        assert list(sides) == list(np.argwhere(mask).max(0) - np.argwhere(mask).min(0) + 1)
        assert np.allclose(row.extent_mm, sides * Volume(THICK).spacing, rtol=1e-5)
        assert (row.components, row.largest_voxels) == components(mask)
        assert row.largest_ml == pytest.approx(row.largest_voxels * ml, rel=1e-4)
    with open(tmp_path / "table.csv", newline="") as file:
        for row, theirs in zip(table, csv.DictReader(file), strict=True):
            ends = [str(at) for side in reversed(row.box) for at in (side.start, side.stop - 1)]
            columns = ("first_column", "last_column", "first_row", "last_row", "first_slice", "last_slice")
            assert [theirs[column] for column in columns] == ends
            own = [str(row.label), row.name, str(row.voxels), f"{row.ml:.6f}", f"{row.mean_hu:.3f}"]
            assert [theirs[column] for column in ("label", "name", "voxels", "ml", "mean_hu")] == own
            largest = [str(row.components), str(row.largest_voxels), f"{row.largest_ml:.6f}"]
            assert [
                theirs[name] for name in ("components", "largest_component_voxels", "largest_component_ml")
            ] == largest


def components(mask):
    """Number of components of 26 neighbours, and voxels of the largest, by a search."""
    left, sizes = set(map(tuple, np.argwhere(mask))), []
    steps = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    while left:
        found = [left.pop()]
        for at in found:
            near = {(at[0] + a, at[1] + b, at[2] + c) for a, b, c in steps} & left
            left -= near
            found += near
        sizes.append(len(found))
    return len(sizes), max(sizes)


def test_an_array_has_the_labels_of_its_file(segmenter):
    volume = Volume(THICK)
    found = pickle.loads(pickle.dumps(segmenter))(np.asarray(volume.hu), volume.affine)
    assert np.array_equal(found.labels, segmenter(volume).labels) and np.array_equal(found.affine, volume.affine)
    with pytest.raises(ValueError, match="does not say how far its voxels are apart"):
        segmenter(np.asarray(volume.hu))


def test_the_machine_is_known(tiny):
    for device in meddino.devices():
        assert device.name and device.api and device.standing
    x = np.zeros([1, 1, 32, 32], np.float32)
    rows = meddino.verify(tiny, tiny, x)
    assert all(row.passes and row.relative_l2 == 0 for row in rows) and [row.tap for row in rows][:2] == [
        "patch_embed",
        "blocks.0",
    ]
    other = meddino.load(TINY, device="cpu", rope="f32")
    noise = np.random.default_rng(0).standard_normal(x.shape, np.float32)
    rows = meddino.verify(other, tiny, noise)
    assert rows[0].passes and not rows[-1].passes and rows[-1].tap == "x_norm_patchtokens"
    with pytest.raises(ValueError, match="against: expected two models of one size"):
        meddino.verify(tiny, meddino.load("seeded:0:micro", device="cpu"), x)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: Volume("missing.nii"), FileNotFoundError, "missing.nii"),
        (lambda m: Volume(__file__), ValueError, "not a scan that can be read"),
        (lambda m: Volume(THICK, series="1"), ValueError, "series: 1 chooses among DICOM series"),
        (lambda m: Volume.from_array([[1.0]]), TypeError, "hu: expected an array"),
        (lambda m: Volume.from_array(np.zeros([2, 2])), ValueError, r"hu: expected \[S, H, W\], found \[2, 2\]"),
        (lambda m: Volume.from_array(np.zeros([1, 0, 2])), ValueError, "holds no pixel"),
        (lambda m: Volume.from_array(np.zeros([1, 2, 2], complex)), TypeError, "hu: expected real numbers"),
        (lambda m: Volume.from_array(np.zeros([1, 2, 2]), np.eye(3)), ValueError, r"affine: expected \[4, 4\]"),
        (
            lambda m: Volume.from_array(np.zeros([1, 2, 2]), np.zeros([4, 4])),
            ValueError,
            "affine: expected finite numbers",
        ),
        (lambda m: Volume.from_array(np.full([1, 2, 2], np.nan)).hu[0], ValueError, "hold.* values that are no HU"),
        (lambda m: meddino.prepare(3), TypeError, "scan: expected a meddino.Volume or a path"),
        (lambda m: meddino.prepare(THICK, size="large"), ValueError, "size: 'large' is neither"),
        (lambda m: meddino.prepare(THICK, window=(1, 0, 0, 1)), ValueError, "LO must be below HI"),
        (lambda m: meddino.prepare(THICK, orient="ras"), ValueError, "ras"),
        (lambda m: meddino.prepare(THICK, slices=99), ValueError, "slices"),
        (lambda m: m.features(THICK, layers=[3]), ValueError, "layers: there is no block 3"),
        (lambda m: m.features(THICK, tokens=[]), ValueError, "tokens: there is nothing to compute"),
        (lambda m: m.features(THICK, tokens="all"), ValueError, "tokens: expected cls"),
        (lambda m: m.features(THICK, batch=0), ValueError, "batch: expected at least 1"),
        (lambda m: m.write_features(THICK, "x.npz", format="npy"), ValueError, "format: is npy, but"),
        (lambda m: m.write_features(THICK, "x", dtype="f8"), ValueError, "dtype: expected f32 or f16"),
        (lambda m: m.write_features(THICK, "missing/x.npz"), ValueError, "there is no folder missing; create it first"),
        (lambda m: meddino.Segmenter("missing"), FileNotFoundError, "missing"),
        (
            lambda m: meddino.Segmenter(RESULTS, step_size=0, device="cpu"),
            ValueError,
            "step_size: 0 is not from 0.01 to 1",
        ),
        (lambda m: meddino.Segmenter(RESULTS, folds=[7]), (ValueError, OSError), "fold_7"),
    ],
)
def test_what_does_not_fit_is_an_exception(tiny, call, error, text):
    with pytest.raises(error, match=text):
        call(tiny)


def test_a_batch_is_as_exact_as_one_image(tiny):
    images = meddino.prepare(THICK, size=48)
    together = np.asarray(tiny(images))
    alone = np.concatenate([tiny(images[i : i + 1]) for i in range(len(images))])
    assert relative_l2(together, alone) == 0
