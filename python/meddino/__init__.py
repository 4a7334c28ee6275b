"""MedDINOv3 for Python: features and segmentations of CT scans, on any GPU or none, without PyTorch.

>>> import meddino, numpy
>>> model = meddino.load("seeded:0:tiny", device="cpu")
>>> x = numpy.zeros([2, 1, 64, 64], numpy.float32)
>>> model(x).shape  # the cls token
(2, 128)
>>> model.get_intermediate_layers(x, n=1, reshape=True)[0].shape
(2, 128, 4, 4)
"""

from ._model import Model, ModelOutput, load

__all__ = ["Model", "ModelOutput", "load"]
