"""Segmentation by networks that were fine-tuned in nnU-Net."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from . import _meddino
from ._progress import following
from ._volume import Volume, as_volume

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ._volume import Scan

    Labels: TypeAlias = npt.NDArray[np.uint16]
    Floats: TypeAlias = npt.NDArray[np.float32]
    Doubles: TypeAlias = npt.NDArray[np.float64]


class Row(NamedTuple):
    """A label in the table of a segmentation."""

    label: int
    """Its value."""
    name: str
    """Its name in dataset.json."""
    voxels: int
    """Number of its voxels."""
    ml: float
    """Its volume in millilitres."""
    mean_hu: float | None
    """Mean of its voxels in HU; None if there are none."""
    box: tuple[slice, slice, slice] | None
    """Its bounding box, so that ``labels[row.box]`` holds all of it; None if it has no voxels."""
    extent_mm: tuple[float, float, float]
    """Lengths of the box along slices, rows and columns in mm, from outer side to outer side of the voxels."""
    components: int
    """Number of its components. Voxels that share a side, an edge or a corner are of one component (26 neighbours)."""
    largest_voxels: int
    """Number of voxels of the largest component."""
    largest_ml: float
    """Its volume in millilitres."""


class Segmentation(NamedTuple):
    """The labels of a scan, on the voxel grid of the scan."""

    labels: Labels
    """[S, H, W], uint16, as ``Volume.hu``."""
    affine: Doubles
    """[4, 4], as ``Volume.affine``."""
    table: list[Row]
    """A row for each label but the background, as ``meddino segment --statistics``."""
    probabilities: Floats | None
    """[K, S, H, W] if they are asked for: of each label, or of each region if the networks have regions."""


class Segmenter:
    """The networks of an nnU-Net results folder, loaded, for one scan after another.

    ``results`` is the folder TRAINER__PLANS__CONFIGURATION of one of MedDINOv3's Primus trainers. It works as
    nnUNetv2_predict does: the same preprocessing, tiles, mirroring and folds.

    - ``folds``: numbers of folds; by default every fold_K, else fold_all.
    - ``checkpoint``: the file in each fold.
    - ``device``, ``precision``: as in :func:`meddino.load`.
    - ``step_size``: step from one tile to the next as a fraction of a tile, 0.01 to 1.
    - ``mirror``: whether to average over mirrored tiles; without it up to four times as fast, but less accurate.
    - ``probabilities``: whether to return probabilities too, K floats a voxel.

    Raises ``FileNotFoundError`` or another ``OSError``, ``ValueError`` if the folder or an argument does not fit,
    ``MemoryError``, and ``RuntimeError`` if the device cannot be used.
    """

    def __init__(
        self,
        results: str | os.PathLike[str],
        *,
        folds: Sequence[int] | None = None,
        checkpoint: str = "checkpoint_final.pth",
        device: str = "auto",
        precision: str = "f32",
        step_size: float = 0.5,
        mirror: bool = True,
        probabilities: bool = False,
    ) -> None:
        path = os.fspath(results)
        if not os.path.exists(path):
            raise FileNotFoundError(f"results: expected an nnU-Net results folder, found nothing at {path}")
        chosen = None if folds is None else list(folds)
        recipe = (path, chosen, checkpoint, device, precision, step_size, mirror, probabilities)
        self._job = _meddino.SegmentJob(*recipe)
        self._recipe = (os.path.abspath(path), *recipe[1:])
        self.labels: list[str] = self._job.labels
        """The name of each label, by its value; empty where no voxel has the value."""
        self.outputs: list[str] = self._job.outputs
        """The names of the K outputs of which there are probabilities."""

    @property
    def device(self) -> str:
        """The name of the device."""
        return self._job.device

    def __call__(self, scan: Scan | Any, affine: Any = None, *, progress: bool = False) -> Segmentation:
        """Segments ``scan``: a :class:`meddino.Volume`, a path, or an array of HU [S, H, W] with its ``affine``.

        Raises ``ValueError`` if the scan does not fit the networks or has no affine, an ``OSError`` if it cannot be
        read, ``MemoryError``, and ``RuntimeError`` if a device fails.
        """
        volume = Volume.from_array(scan, affine) if hasattr(scan, "__dlpack__") else as_volume(scan)
        with following("slices", progress) as follow:
            labels, probabilities, rows = self._job.compute(volume._scan, follow)
        placed = volume.affine
        assert placed is not None, "a scan without an affine is refused"
        return Segmentation(labels, placed, self._table(rows), probabilities)

    def write(
        self, scan: Scan, output: str | os.PathLike[str], *, overwrite: bool = False, progress: bool = False
    ) -> list[Row]:
        """Segments ``scan`` into the file ``output`` (``.nii.gz``, ``.nii``, ``.nrrd`` or ``.mha``) as the command
        does.

        Probabilities, if the segmenter returns them, go to a ``.npz`` beside it. A file that meddino did not write is
        replaced only with ``overwrite``. Returns the table. Raises as the call does, and an ``OSError`` or
        ``ValueError`` if a file cannot or may not be written.
        """
        with following("slices", progress) as follow:
            rows = self._job.write(as_volume(scan)._scan, os.fspath(output), overwrite, follow)
        return self._table(rows)

    def _table(self, rows: Sequence[_meddino._Row]) -> list[Row]:
        table = []
        for label, voxels, ml, hu, ends, mm, components, largest, largest_ml in rows:
            box = None if ends is None else (slice(*ends[0]), slice(*ends[1]), slice(*ends[2]))
            table.append(Row(label, self.labels[label], voxels, ml, hu, box, mm, components, largest, largest_ml))
        return table

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open, self._recipe)


def _open(
    results: str,
    folds: list[int] | None,
    checkpoint: str,
    device: str,
    precision: str,
    step_size: float,
    mirror: bool,
    probabilities: bool,
) -> Segmenter:
    return Segmenter(
        results,
        folds=folds,
        checkpoint=checkpoint,
        device=device,
        precision=precision,
        step_size=step_size,
        mirror=mirror,
        probabilities=probabilities,
    )


def segment(
    results: str | os.PathLike[str], scan: Scan | Any, affine: Any = None, *, progress: bool = False, **options: Any
) -> Segmentation:
    """Segments one scan with the networks in the folder ``results``.

    ``scan`` and ``affine`` are as in calling a :class:`Segmenter`, ``options`` as in making one. For several scans,
    make a :class:`Segmenter`, which loads the networks once.
    """
    return Segmenter(results, **options)(scan, affine, progress=progress)
