"""A model's methods, against PyTorch's answers and against each other."""

from __future__ import annotations

import doctest
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from calls import CALLS
from conftest import REPOSITORY, TINY, relative_l2
from safetensors.numpy import load_file

import meddino

sys.path.insert(0, str(REPOSITORY / "tests/golden"))
import seeded

GOLDEN = load_file(Path(__file__).with_name("golden.safetensors"))
# f32 against PyTorch in f64 under f32 RoPE; a wrong eps is 2e-5 off.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model():
    return meddino.load(TINY, device="cpu", rope="f32")


@pytest.fixture(scope="module")
def image():
    return (2 * seeded.uniform("image", 2 * 3 * 32 * 50, 0).reshape(2, 3, 32, 50)).astype(np.float32)


@pytest.mark.parametrize("name", CALLS)
def test_layers_are_those_of_pytorch(model, image, name):
    layers = model.get_intermediate_layers(image, **CALLS[name])
    expected = {key for key in GOLDEN if key.startswith(name + ".")}
    assert isinstance(layers, tuple)
    for index, layer in enumerate(layers):
        parts = layer if isinstance(layer, tuple) else (layer,)
        for part, values in enumerate(parts):
            key = f"{name}.{index}.{part}"
            assert relative_l2(values, GOLDEN[key]) < TOLERANCE, key
            expected.remove(key)
    assert not expected, "these parts are missing"


@pytest.mark.parametrize("masked", [False, True])
def test_features_are_those_of_pytorch(model, image, masked):
    masks = seeded.uniform("mask", 12, 0).reshape(2, 6) > 0.5 if masked else None
    features = model.forward_features(image, masks)
    assert list(features) == ["x_norm_clstoken", "x_storage_tokens", "x_norm_patchtokens", "x_prenorm", "masks"]
    assert features.pop("masks") is masks
    for name, values in features.items():
        assert relative_l2(values, GOLDEN[("masked." if masked else "features.") + name]) < TOLERANCE, name


def test_a_call_answers_as_dinov3_and_as_transformers_do(model, image):
    features = model.forward_features(image)
    trained = model(image, is_training=True)
    assert all(np.array_equal(trained[name], features[name]) for name in features if name != "masks")
    pooled = model(image)
    assert isinstance(pooled, np.ndarray) and pooled.shape == (2, 128)
    assert np.array_equal(pooled, features["x_norm_clstoken"])
    assert np.array_equal(pooled.pooler_output, pooled) and type(pooled.pooler_output) is np.ndarray
    hidden = pooled.last_hidden_state
    assert np.array_equal(hidden[:, 5:], features["x_norm_patchtokens"])
    output = model(pixel_values=image)
    assert np.array_equal(output.last_hidden_state, hidden) and np.array_equal(output[1], pooled)
    masks = np.ones([2, 6], bool)
    assert np.array_equal(model(image, masks), model.forward_features(image, masks)["x_norm_clstoken"])
    assert not np.array_equal(model(image, masks), pooled)


def test_goldens_of_the_command_hold_here_too():
    """The bf16 RoPE of MedDINOv3, with a mask: PyTorch's outputs that the Rust tests use."""
    golden = load_file(REPOSITORY / "tests/golden/tiny_b2_48x80_rope-bf16_masked.safetensors")
    image = (2 * seeded.uniform("image", 2 * 3 * 48 * 80, 0).reshape(2, 3, 48, 80)).astype(np.float32)
    masks = seeded.uniform("mask", 30, 0).reshape(2, 15) > np.float32(0.5)
    features = meddino.load(TINY, device="cpu").forward_features(image, masks)
    for name in ["x_norm_clstoken", "x_storage_tokens", "x_norm_patchtokens", "x_prenorm"]:
        assert relative_l2(features[name], golden[name]) < 5e-4, name


def test_arrays_of_any_layout_are_read(tiny, image):
    expected = tiny(image)
    readonly = image.copy()
    readonly.flags.writeable = False
    big = np.zeros([4, 3, 64, 50], np.float32)
    big[::2, :, ::-2] = image
    unaligned = np.frombuffer(b"x" + image.tobytes(), np.uint8)[1:].view(np.float32).reshape(image.shape)
    assert not unaligned.flags.aligned
    for other in [readonly, np.asfortranarray(image), big[::2, :, ::-2], unaligned]:
        assert np.array_equal(tiny(other), expected)
    gray = np.ascontiguousarray(image[:, :1])
    # One channel for three is one product instead of a sum of three.
    assert relative_l2(np.asarray(tiny(gray)), np.asarray(tiny(np.broadcast_to(gray, image.shape)))) < 5e-4


class Exported:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnAGpu(Exported):
    def __dlpack__(self, **arguments):
        raise BufferError("it is elsewhere")


def test_dlpack_is_read(tiny, image):
    assert np.array_equal(tiny(Exported(image)), tiny(image))
    assert tiny.get_intermediate_layers(Exported(image), reshape=True)[0].shape == (2, 128, 2, 3)
    with pytest.raises(TypeError, match=r"x: .* it is elsewhere; .*\.cpu\(\)"):
        tiny(OnAGpu(image))


def test_results_own_their_memory(tiny, image):
    x = image.copy()
    features = tiny.forward_features(x)
    before = features["x_prenorm"].copy()
    x[:] = 0
    tiny.forward_features(x)
    assert np.array_equal(features["x_prenorm"], before)
    hidden = tiny(pixel_values=image).last_hidden_state
    for array in [features["x_prenorm"], hidden]:
        assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
        assert type(array.base).__name__ == "PySliceContainer", "the memory that Rust wrote, not a copy of it"
    assert features["x_norm_patchtokens"].base is features["x_norm_clstoken"].base, "views of one array"
    assert tiny.get_intermediate_layers(image, reshape=True)[0].flags.c_contiguous


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m([[1.0]]), TypeError, "x: expected an array"),
        (
            lambda m: m(np.zeros([1, 3, 32, 32])),
            TypeError,
            r"x: expected float32, found float64; convert it with x.astype",
        ),
        (lambda m: m(np.zeros([1, 3, 32, 32], ">f4")), TypeError, "x: expected float32"),
        (lambda m: m(np.zeros([3, 32, 32], np.float32)), ValueError, r"image: its shape is \[3, 32, 32\]"),
        (lambda m: m(np.zeros([1, 2, 32, 32], np.float32)), ValueError, r"takes \[B, 3, H, W\] or \[B, 1, H, W\]"),
        (lambda m: m(np.zeros([0, 3, 32, 32], np.float32)), ValueError, "image: its shape"),
        (lambda m: m(np.zeros([1, 3, 8, 32], np.float32)), ValueError, "hold no patch"),
        (lambda m: m(np.full([1, 1, 32, 32], np.nan, np.float32)), ValueError, "not finite"),
        (lambda m: m(), TypeError, "x: expected images"),
        (
            lambda m: m(np.zeros([1, 3, 32, 32], np.float32), np.zeros([1, 3], bool)),
            ValueError,
            "3 entries for 1 x 4 patches",
        ),
        (lambda m: m(np.zeros([1, 3, 32, 32], np.float32), np.zeros([1, 4])), TypeError, "masks: expected bool"),
        (
            lambda m: m.get_intermediate_layers(np.zeros([1, 3, 32, 32], np.float32), n=0),
            ValueError,
            "n: expected .* 1 to 3, found 0",
        ),
        (lambda m: m.get_intermediate_layers(np.zeros([1, 3, 32, 32], np.float32), n=4), ValueError, "1 to 3"),
        (lambda m: m.get_intermediate_layers(np.zeros([1, 3, 32, 32], np.float32), n=[3]), ValueError, "0 to 2"),
        (
            lambda m: m.get_intermediate_layers(np.zeros([1, 3, 32, 32], np.float32), n=[1, 1]),
            ValueError,
            "different blocks",
        ),
        (lambda m: meddino.load("missing.pth"), FileNotFoundError, "missing.pth"),
        (lambda m: meddino.load("seeded:x"), ValueError, "seeded:x is no seeded model"),
        (lambda m: meddino.load(__file__), ValueError, "test_model.py"),
        (lambda m: meddino.load(TINY, precision="f8"), ValueError, "precision: expected f32, f16 or bf16, found f8"),
        (lambda m: meddino.load(TINY, rope="f8"), ValueError, "rope: expected auto, bf16 or f32"),
        (lambda m: meddino.load(TINY, device="no such GPU"), RuntimeError, "no such GPU|no adapter found"),
        (lambda m: meddino.load(TINY, device="cpu", precision="f16"), ValueError, "choose one with `device` gpu"),
    ],
)
def test_what_does_not_fit_is_an_exception(tiny, call, error, text):
    with pytest.raises(error, match=text):
        call(tiny)


def test_a_model_says_what_it_is(tiny):
    assert (tiny.embed_dim, tiny.n_blocks, tiny.num_heads, tiny.patch_size, tiny.n_storage_tokens) == (128, 3, 2, 16, 4)
    assert tiny.config["rope"] == "bf16" and tiny.checkpoint_id == TINY
    assert tiny.device.startswith("CPU") and "seeded:0:tiny" in repr(tiny)


def test_a_pickle_is_the_recipe(image, monkeypatch, tmp_path):
    monkeypatch.chdir(REPOSITORY / "tests/fixtures/micro")
    model = meddino.load("flat.safetensors", device="cpu", rope="f32")
    pickled = pickle.dumps(model)
    assert len(pickled) < 500
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(pickle.loads(pickled)(image), model(image))


def test_the_packages_own_examples_hold():
    for module in [meddino, meddino.heads]:
        found = doctest.testmod(module)
        assert found.attempted > 4 and not found.failed
