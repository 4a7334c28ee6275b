"""The examples, with the libraries that are installed."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, TINY

import meddino

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
THICK = str(REPOSITORY / "tests/fixtures/nnunet/imagesTs/thick_0000.nii.gz")


def test_a_transform_of_dictionaries_adds_features(tiny):
    from monai_transform import MedDINOFeaturesd

    transform = MedDINOFeaturesd(checkpoint=TINY, size=32)
    expected = np.concatenate([batch["x_norm_clstoken"] for _, batch in tiny.features(THICK, tokens="cls", size=32)])
    for other in [transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))]:
        case = other({"image": THICK, "label": 1})
        assert case["label"] == 1 and np.array_equal(case["features"], expected)
    volume = meddino.Volume(THICK)
    case = transform({"image": np.asarray(volume.hu), "image_affine": volume.affine})
    assert np.array_equal(case["features"], expected)


def test_torch_reads_and_gives_without_copies(tiny):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    images = torch.from_numpy(meddino.prepare(THICK, size=32))
    hidden = tiny(images).last_hidden_state
    tensor = torch.from_numpy(hidden)
    assert tensor.data_ptr() == hidden.ctypes.data and tensor.shape == hidden.shape
    channels_last = images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
    assert np.array_equal(tiny(channels_last), tiny(channels_last.contiguous()))
    with pytest.raises(TypeError, match=r"x: .*\.detach\(\)"):
        tiny(images.requires_grad_())
    with pytest.raises(TypeError, match="x: expected float32, found float16"):
        tiny(images.detach().half())


def test_a_torch_data_set_gives_the_features_of_its_slices(tiny):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch_dataset import features

    expected = np.concatenate([batch["x_norm_clstoken"] for _, batch in tiny.features(THICK, tokens="cls", size=224)])
    assert np.array_equal(features([THICK], TINY), expected)


def test_a_torch_head_learns_from_features():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch_head import trained

    _, right = trained(THICK, TINY)
    assert right > 0.9
