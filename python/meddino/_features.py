"""Features of scans, and maps of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from . import _meddino
from ._progress import following
from ._volume import as_volume, settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    from ._model import Model
    from ._volume import Look, Scan

    Floats: TypeAlias = npt.NDArray[np.float32]
    Batch: TypeAlias = tuple[list[int], dict[str, Floats]]


def batches(running: _meddino.Batches, tokens: Sequence[str], first_patch: int, progress: bool) -> Iterator[Batch]:
    """Gives (slices, tokens by name) of each batch. ``tokens`` names those to give of the last block."""
    with following("slices", progress) as follow:
        done = 0
        while (found := running.next()) is not None:
            numbers, named = found
            every = named.pop("x_norm")
            views = {
                "cls": ("x_norm_clstoken", every[:, 0]),
                "storage": ("x_storage_tokens", every[:, 1:first_patch]),
                "patch": ("x_norm_patchtokens", every[:, first_patch:]),
            }
            yield numbers, dict(views[name] for name in tokens if name in views) | named
            done += len(numbers)
            if follow is not None:
                follow(done, running.total)


class Pca(NamedTuple):
    """The three principal components of patch tokens, [C] wide."""

    scores: Floats
    """[S, h, w, 3]: each patch's deviation from the mean along a component, over the standard deviation along it."""
    mean: Floats
    """[C]"""
    components: Floats
    """[3, C]: directions of length 1; zeros where the tokens vary in fewer."""
    variance: Floats
    """[3], descending."""
    limits: tuple[float, float]
    """The least and the greatest score: the ends of the colours' range in pictures."""


def pca(model: Model, scan: Scan, *, progress: bool = False, **look: Unpack[Look]) -> Pca:
    """Returns the principal components of the patch tokens of all chosen slices together, as ``meddino pca`` fits them.

    S slices of h x w patches. Arguments and exceptions are those of :meth:`Model.features`. Colours as in the command's
    pictures are ``(scores - limits[0]) / (limits[1] - limits[0])``.
    """
    chosen = settings(**look, tokens="patch")
    with following("slices", progress) as follow:
        return Pca(*_meddino.pca(model._engine, as_volume(scan)._scan, chosen, follow))


def similarity(
    model: Model,
    scan: Scan,
    point: tuple[int, int] | tuple[int, int, int],
    *,
    progress: bool = False,
    **look: Unpack[Look],
) -> Floats:
    """Returns the cosine of each patch token with that of the patch at ``point``, [S, h, w], as ``meddino similarity``.

    ``point`` is (x, y, slice): a column and a row of the slice's pixels, and the slice, after ``orient``; or (x, y) on
    the only slice that is chosen. ``slices`` are those of the result, by default that of the point. Raises
    ``ValueError`` also if the point is on no patch.
    """
    x, y, *named = point
    if named and look.get("slices") is None:
        look["slices"] = named[0]
    home = named[0] if named else look.get("slices")
    if not isinstance(home, int):
        raise ValueError("point: expected (x, y, slice), because no single slice is chosen")
    if x < 0 or y < 0:
        raise ValueError(f"point: expected a column and a row from 0, found {x}, {y}")
    chosen = settings(**look, tokens="patch")
    with following("slices", progress) as follow:
        return _meddino.similarity(model._engine, as_volume(scan)._scan, chosen, x, y, home, follow)
