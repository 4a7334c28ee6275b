"""The native part of the package; :mod:`meddino` is its public face."""

from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

@final
class Engine:
    """Weights on a device."""

    def __new__(cls, checkpoint: str | None, device: str, precision: str, rope: str) -> Engine: ...
    def forward(
        self,
        x: npt.NDArray[np.float32],
        masks: npt.NDArray[np.bool_] | None,
        layers: Sequence[int],
        prenorm: bool,
        blocks: bool,
    ) -> dict[str, npt.NDArray[np.float32]]: ...
    @property
    def config(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def checkpoint_id(self) -> str: ...

def run_command(arguments: Sequence[str]) -> int: ...
