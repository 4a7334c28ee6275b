"""The native part of the package; :mod:`meddino` is its public face."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from ._volume import Settings
from .heads._estimator import Taught
from .heads._probe import Training

__all__ = [
    "Batches",
    "Engine",
    "Head",
    "Scan",
    "SegmentJob",
    "check_head",
    "devices",
    "dinov3_cs",
    "dinov3_rates",
    "features",
    "fit_logistic",
    "fit_neighbours",
    "fit_probe",
    "head_of_state",
    "open_head",
    "pca",
    "prepare",
    "read_vectors",
    "run_command",
    "save_head",
    "similarity",
    "verify",
    "write_case",
    "write_features",
]

_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]
_Ends = tuple[int, int]
_Row = tuple[
    int,
    int,
    float,
    float | None,
    tuple[_Ends, _Ends, _Ends] | None,
    tuple[float, float, float],
    int,
    int,
    float,
]
_Progress = Callable[[int, int], None] | None

@final
class Engine:
    """Weights on a device."""

    def __new__(cls, checkpoint: str | None, device: str, precision: str, rope: str, progress: _Progress) -> Engine: ...
    def forward(
        self, x: _Floats, masks: npt.NDArray[np.bool_] | None, layers: Sequence[int], prenorm: bool, blocks: bool
    ) -> dict[str, _Floats]: ...
    @property
    def config(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def checkpoint_id(self) -> str: ...

@final
class Batches:
    """The features of a scan, batch by batch."""

    def next(self) -> tuple[list[int], dict[str, _Floats]] | None: ...
    @property
    def total(self) -> int: ...

@final
class Scan:
    """An open scan."""

    @staticmethod
    def open(path: str, series: str | None) -> Scan: ...
    @staticmethod
    def from_array(hu: _Floats, affine: list[list[float]] | None, name: str) -> Scan: ...
    def read(self, index: int) -> _Floats: ...
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def affine(self) -> list[list[float]] | None: ...
    @property
    def spacing(self) -> tuple[float, float, float] | None: ...
    @property
    def warnings(self) -> list[str]: ...

@final
class SegmentJob:
    """Networks on a device."""

    def __new__(
        cls,
        results: str,
        folds: list[int] | None,
        checkpoint: str,
        device: str,
        precision: str,
        step_size: float,
        mirror: bool,
        probabilities: bool,
    ) -> SegmentJob: ...
    def compute(self, scan: Scan, progress: _Progress) -> tuple[npt.NDArray[np.uint16], _Floats | None, list[_Row]]: ...
    def write(self, scan: Scan, output: str, overwrite: bool, progress: _Progress) -> list[_Row]: ...
    @property
    def labels(self) -> list[str]: ...
    @property
    def outputs(self) -> list[str]: ...
    @property
    def device(self) -> str: ...

@final
class Head:
    """A fitted head."""

    def probabilities(self, x: _Floats) -> _Doubles: ...
    def scores(self, x: _Floats) -> _Doubles | None: ...
    def state(self) -> dict[str, Any]: ...
    @property
    def width(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def linear(self) -> tuple[_Doubles, _Doubles] | None: ...

def head_of_state(state: dict[str, Any]) -> Head: ...
def fit_logistic(
    taught: Taught, cs: Sequence[float], one_against_rest: bool, tolerance: float, iterations: int
) -> list[tuple[Head, int, bool]]: ...
def fit_probe(taught: Taught, training: Training) -> list[Head]: ...
def fit_neighbours(taught: Taught, k: int, temperature: float) -> Head: ...
def save_head(head: Head, about: str, path: str, read: Sequence[str], overwrite: bool) -> None: ...
def open_head(path: str) -> tuple[Head, str]: ...
def check_head(about: str, kind: dict[str, str]) -> None: ...
def read_vectors(
    paths: Sequence[str], vector: str, pool: str | None, layers: Sequence[int]
) -> tuple[_Floats, list[str], list[int] | None, dict[str, str], list[Path]]: ...
def dinov3_cs() -> list[float]: ...
def dinov3_rates(batch: int) -> list[float]: ...
def features(engine: Engine, scan: Scan, settings: Settings) -> Batches: ...
def write_features(
    engine: Engine, scan: Scan, settings: Settings, output: str, overwrite: bool, progress: _Progress
) -> list[int]: ...
def write_case(
    engine: Engine,
    path: str,
    series: str | None,
    settings: Settings,
    folder: str,
    names: str,
    overwrite: bool,
    progress: _Progress,
) -> tuple[Path, bool]: ...
def pca(
    engine: Engine, scan: Scan, settings: Settings, progress: _Progress
) -> tuple[_Floats, _Floats, _Floats, _Floats, tuple[float, float]]: ...
def similarity(
    engine: Engine, scan: Scan, settings: Settings, x: int, y: int, home: int, progress: _Progress
) -> _Floats: ...
def prepare(scan: Scan, settings: Settings) -> tuple[_Floats, list[int]]: ...
def verify(got: Engine, want: Engine, x: _Floats) -> list[tuple[str, float, float, float, bool]]: ...
def devices() -> list[tuple[int, str, str, str, str, str]]: ...
def run_command(arguments: Sequence[str]) -> int: ...
