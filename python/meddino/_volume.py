"""Scans, and the preprocessing of their slices into images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from . import _meddino
from ._arrays import as_numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Unpack

    Floats: TypeAlias = npt.NDArray[np.float32]
    Doubles: TypeAlias = npt.NDArray[np.float64]
    Scan: TypeAlias = "Volume | str | os.PathLike[str]"
    Size: TypeAlias = "int | tuple[int, int] | str"
    Window: TypeAlias = "tuple[float, float, float, float] | str"
    Slices: TypeAlias = "int | slice | range | Sequence[int] | str | None"


class Volume:
    """A scan in Hounsfield units (HU): S slices of H rows of W columns, with its stored axes.

    ``Volume("scan.nii.gz")`` opens a file (NIfTI, NRRD, MetaImage, DICOM, ``.npy``) or a folder with one series of
    DICOM; ``series`` chooses one of several, by the number, the end of the UID, or ``"largest"``.
    ``Volume("phantom")`` is a built-in slice. Only headers are read; slices are read when they are asked for. Pickling
    a volume of files hands on the path.

    Raises ``FileNotFoundError`` or another ``OSError``, and ``ValueError`` if a file is no scan.
    """

    def __init__(self, path: str | os.PathLike[str], *, series: str | None = None) -> None:
        self._scan = _meddino.Scan.open(os.fspath(path), series)
        self._recipe: tuple[str, str | None] | None = (os.fspath(path), series)
        self._warn()

    @classmethod
    def from_array(cls, hu: Any, affine: Any = None, *, name: str = "array") -> Volume:
        """Makes a volume of ``hu``, [S, H, W] in HU, of any real type; the values are copied, as float32.

        ``affine`` [4, 4] maps (column, row, slice, 1) to mm in the patient, RAS+, as nibabel's ``image.affine`` does
        for ``image.get_fdata().T``. Without it, slices are taken to be axial, as DICOM shows them, and the volume
        cannot be segmented. Metadata and errors name the volume ``name``.

        Raises ``TypeError`` if ``hu`` is no array of real numbers, ``ValueError`` if a shape or the affine does not
        fit.
        """
        import numpy as np

        values = as_numpy(hu, "hu")
        if values.dtype.kind not in "iufb":
            raise TypeError(f"hu: expected real numbers, found {values.dtype}")
        matrix = None if affine is None else np.asarray(affine, np.float64)
        if matrix is not None and matrix.shape != (4, 4):
            raise ValueError(f"affine: expected [4, 4], found {list(matrix.shape)}")
        volume = cls.__new__(cls)
        volume._scan = _meddino.Scan.from_array(
            np.require(values, np.float32, "A"), None if matrix is None else matrix.tolist(), name
        )
        volume._recipe = None
        volume._warn()
        return volume

    def _warn(self) -> None:
        import warnings

        for text in self._scan.warnings:
            warnings.warn(f"{self.name}: {text}", stacklevel=3)

    @property
    def name(self) -> str:
        """The path as it was given, or the name of an array."""
        return self._scan.name

    @property
    def shape(self) -> tuple[int, int, int]:
        """[S, H, W]: slices, rows, columns."""
        return self._scan.shape

    @property
    def hu(self) -> HounsfieldUnits:
        """The values, [S, H, W] in HU, read slice by slice: ``volume.hu[3]``, ``volume.hu[10:20]``, or all of them by
        ``numpy.asarray(volume.hu)``."""
        return HounsfieldUnits(self._scan)

    @property
    def affine(self) -> Doubles | None:
        """The matrix [4, 4] from (column, row, slice, 1) to mm in the patient, RAS+; None if it is not known."""
        import numpy as np

        return None if self._scan.affine is None else np.array(self._scan.affine)

    @property
    def spacing(self) -> tuple[float, float, float] | None:
        """The distance between slices, rows and columns in mm; None if the scan does not tell it."""
        return self._scan.spacing

    def __reduce__(self) -> tuple[Any, ...]:
        if self._recipe is None:
            import numpy as np

            return (_from_array, (np.asarray(self.hu), self.affine, self.name))
        path, series = self._recipe
        return (_open, (path if path == "phantom" else os.path.abspath(path), series))

    def __repr__(self) -> str:
        return f"meddino.Volume({self.name!r}, {' x '.join(map(str, self.shape))})"


def _open(path: str, series: str | None) -> Volume:
    return Volume(path, series=series)


def _from_array(hu: Floats, affine: Doubles | None, name: str) -> Volume:
    return Volume.from_array(hu, affine, name=name)


class HounsfieldUnits(Sequence["Floats"]):
    """The slices of a volume, [S, H, W] in HU, which are read when they are asked for.

    A slice that cannot be read raises ``ValueError`` or an ``OSError``.
    """

    def __init__(self, scan: _meddino.Scan) -> None:
        self._scan = scan

    @property
    def shape(self) -> tuple[int, int, int]:
        """[S, H, W]."""
        return self._scan.shape

    ndim = 3

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """float32."""
        import numpy as np

        return np.dtype(np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Reads slice ``key`` [H, W], or a range of slices [n, H, W]; further indices choose rows and columns."""
        import numpy as np

        first, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(first, slice):
            chosen = range(len(self))[first]
            found = np.empty((len(chosen), *self.shape[1:]), np.float32)
            for at, index in enumerate(chosen):
                found[at] = self._scan.read(index)
            return found[tuple([slice(None), *rest])]
        return self._scan.read(range(len(self))[first])[tuple(rest)]

    def __iter__(self) -> Iterator[Floats]:
        return (self._scan.read(index) for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("copy: the slices are read from a file, which makes a copy")
        values: Floats = self[:]
        return values if dtype is None else values.astype(dtype, copy=False)


def as_volume(scan: Scan) -> Volume:
    """Returns ``scan``, or the scan in the file or folder ``scan``."""
    if isinstance(scan, Volume):
        return scan
    if isinstance(scan, (str, os.PathLike)):
        return Volume(scan)
    raise TypeError(
        f"scan: expected a meddino.Volume or a path, found {type(scan).__name__}; Volume.from_array takes arrays"
    )


class Look(TypedDict, total=False):
    """How slices become images: arguments of :func:`prepare`."""

    size: Size
    window: Window
    orient: str
    slices: Slices


class FeatureOptions(Look, total=False):
    """What is computed of a scan: arguments of :meth:`meddino.Model.features`."""

    tokens: str | Sequence[str]
    layers: Sequence[int]
    batch: int | None
    max_memory: str | None


class FileOptions(FeatureOptions, total=False):
    """What a file holds: arguments of :meth:`meddino.Model.write_features`."""

    format: str | None
    dtype: str


class Settings(TypedDict):
    """The arguments as the native part takes them: texts as in the command's flags."""

    size: str
    window: str
    orient: str
    slices: str
    tokens: list[str]
    layers: list[int]
    batch: int | None
    max_memory: str | None
    format: str | None
    dtype: str


def settings(
    size: Size = "native",
    window: Window = "demo",
    orient: str = "lps",
    slices: Slices = None,
    tokens: str | Sequence[str] = ("cls", "storage", "patch"),
    layers: Sequence[int] = (),
    batch: int | None = None,
    max_memory: str | None = None,
    format: str | None = None,
    dtype: str = "f32",
) -> Settings:
    """Returns the arguments as the native part takes them, texts as in the command's flags. The defaults are the
    command's."""
    return {
        "size": "x".join(map(str, size)) if isinstance(size, tuple) else str(size),
        "window": window if isinstance(window, str) else ",".join(repr(float(value)) for value in window),
        "orient": orient,
        "slices": _chosen(slices),
        "tokens": [tokens] if isinstance(tokens, str) else list(tokens),
        "layers": list(layers),
        "batch": batch,
        "max_memory": max_memory,
        "format": format,
        "dtype": dtype,
    }


def _chosen(slices: Slices) -> str:
    if slices is None:
        return "all"
    if isinstance(slices, str):
        return slices
    if isinstance(slices, slice):
        ends = ("" if end is None else str(end) for end in (slices.start, slices.stop))
        return ":".join(ends) + ("" if slices.step is None else f":{slices.step}")
    return ",".join(str(int(index)) for index in ([slices] if isinstance(slices, int) else slices))


def prepare(scan: Scan, **look: Unpack[Look]) -> Floats:
    """Returns slices of ``scan`` as images for a model, [S, 1, H, W], normalised: the command's preprocessing to the
    bit.

    - ``size``: ``"native"``, N for N x N, or (H, W) pixels.
    - ``window``: ``"demo"`` (that of the authors), (LO, HI, MEAN, STD) in HU, or ``"none"`` for HU as they are.
    - ``orient``: ``"lps"`` for axial slices from inferior to superior, as DICOM shows them, whatever the storage order;
      ``"stored"`` for the slices of ``Volume.hu``.
    - ``slices``: a number, a ``slice``, a list of numbers, or a text as in the command; all by default. Negative
      numbers count from the end.

    Raises ``ValueError`` if an argument or a slice does not fit, an ``OSError`` if the scan cannot be read, and
    ``MemoryError``.
    """
    return _meddino.prepare(as_volume(scan)._scan, settings(**look))[0]
