"""MedDINOv3 for Python: features and segmentations of CT scans, on any GPU or none, without PyTorch.

>>> import meddino, numpy
>>> model = meddino.load("seeded:0:tiny", device="cpu")
>>> x = numpy.zeros([2, 1, 64, 64], numpy.float32)
>>> model(x).shape  # the cls token
(2, 128)
>>> model.get_intermediate_layers(x, n=1, reshape=True)[0].shape
(2, 128, 4, 4)
>>> for slices, features in model.features("phantom", tokens="patch", size=64):
...     print(slices, features["x_norm_patchtokens"].shape)
[0] (1, 16, 128)

Models: :func:`load`, :class:`Model`. Scans: :class:`Volume`, :func:`prepare`, :func:`segment`, :class:`Segmenter`.
Maps: :func:`pca`, :func:`similarity`. Classifiers on features: :mod:`meddino.heads`. The machine: :func:`devices`,
:func:`verify`. Clusters: :mod:`meddino.ray`.
"""

from . import heads
from ._features import Pca, pca, similarity
from ._machine import Device, Distance, devices, verify
from ._model import Model, ModelOutput, load
from ._segment import Row, Segmentation, Segmenter, segment
from ._volume import Volume, prepare

__all__ = [
    "Device",
    "Distance",
    "Model",
    "ModelOutput",
    "Pca",
    "Row",
    "Segmentation",
    "Segmenter",
    "Volume",
    "devices",
    "heads",
    "load",
    "pca",
    "prepare",
    "segment",
    "similarity",
    "verify",
]
