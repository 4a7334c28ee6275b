"""Vectors that heads are fitted and applied to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .. import _meddino
from .._arrays import as_numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]


class Vectors(NamedTuple):
    """Vectors of feature files, which :func:`read` gives."""

    values: Floats
    """[N, D]"""
    cases: list[str]
    """The case of each row: the name of its file."""
    slices: list[int] | None
    """The slice of each row; None if the rows are cases."""
    kind: dict[str, str]
    """The model, the preprocessing, and how the vectors are made: what a head for them is bound to."""
    files: list[str]
    """The files."""


def read(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    vector: str = "cls",
    pool: str | None = None,
    layers: Sequence[int] = (),
) -> Vectors:
    """Reads vectors of files that ``meddino features`` or :meth:`meddino.Model.write_features` wrote.

    - ``paths``: ``.safetensors`` files, and folders of them.
    - ``vector``: ``"cls"``, ``"mean"`` (of the patch tokens) or ``"cls+mean"`` of each slice; or ``"patch"``, each
      patch token as a row: slice by slice, row by row.
    - ``layers``: with ``"patch"``, the blocks whose tokens, after the norm, are joined channel by channel, in ascending
      order; by default the last block alone.
    - ``pool``: ``"mean"`` or ``"max"`` of a case's slices, so that a row is a case; by default a row is a slice.

    Raises ``FileNotFoundError`` or another ``OSError``, and ``ValueError`` if a file holds no such vectors or NaN, was
    not made as the first one, or is the second of its case.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    chosen = [os.path.abspath(path) for path in several]
    values, cases, slices, kind, files = _meddino.read_vectors(chosen, vector, pool, list(layers))
    return Vectors(values, cases, slices, kind, [os.fspath(file) for file in files])


def rows(X: Any) -> Floats:
    """Returns ``X`` as float32."""
    import numpy as np

    given = X.values if isinstance(X, Vectors) else X
    array = as_numpy(given, "X") if hasattr(given, "__dlpack__") else np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"X: expected numbers, found an array of {array.dtype}")
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):  # What is too large becomes infinite, which is refused.
            array = array.astype(np.float32)
    return array if array.flags.aligned else array.copy()
