"""Classes of vectors, as callers give them and as files name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._arrays import as_numpy

if TYPE_CHECKING:
    import numpy.typing as npt

KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "text"}
"""What a file calls the classes of each kind of array."""


def labels(y: Any) -> npt.NDArray[Any]:
    """Returns the classes ``y``, ``[N]``."""
    import numpy as np

    array = as_numpy(y, "y") if hasattr(y, "__dlpack__") else np.asarray(y)
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.ndim != 1:
        raise ValueError(f"y: expected a class for each vector, [N], found the shape {array.shape}")
    if array.dtype.kind not in KINDS:
        raise TypeError(f"y: expected whole numbers, texts or truth values, found an array of {array.dtype}")
    if array.dtype.kind == "f" and not (np.isfinite(array) & (np.trunc(array) == array)).all():
        number = array[~(np.isfinite(array) & (np.trunc(array) == array))][0]
        raise ValueError(f"y: expected classes, found the number {number}")
    return array
