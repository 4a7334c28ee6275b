"""Arrays that callers give, as NumPy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def as_numpy(x: Any, name: str) -> npt.NDArray[Any]:
    """Returns ``x``, an array of NumPy or of anything with ``__dlpack__`` on the CPU, as NumPy's, without a copy."""
    import numpy as np

    if isinstance(x, np.ndarray):
        return x
    if not hasattr(x, "__dlpack__"):
        kinds = "NumPy, or anything with __dlpack__ such as a torch.Tensor"
        raise TypeError(f"{name}: expected an array ({kinds}), found {type(x).__name__}")
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError) as problem:
        advice = "a torch.Tensor is one after x.detach().cpu()"
        raise TypeError(
            f"{name}: expected an array in the CPU's memory that NumPy can read: {problem}; {advice}"
        ) from problem


def floats(x: Any, name: str) -> npt.NDArray[np.float32]:
    """Returns :func:`as_numpy` of ``x``, which must hold float32."""
    return _of_type(x, name, "float32")


def booleans(x: Any, name: str) -> npt.NDArray[np.bool_]:
    """Returns :func:`as_numpy` of ``x``, which must hold bool."""
    return _of_type(x, name, "bool")


def _of_type(x: Any, name: str, dtype: str) -> npt.NDArray[Any]:
    array = as_numpy(x, name)
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype}, found {array.dtype}; convert it with {name}.astype('{dtype}')")
    return array if array.flags.aligned else array.copy()
