"""What several tests need: the repository, the command, a model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import meddino

REPOSITORY = Path(os.environ["MEDDINO_REPOSITORY"])
TINY = "seeded:0:tiny"


def relative_l2(got: np.ndarray, want: np.ndarray) -> float:
    """The distance of ``got`` from ``want``, as the Rust tests measure it."""
    assert got.shape == want.shape and got.dtype == np.float32
    return float(np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want.astype(np.float64)))


@pytest.fixture(scope="session")
def tiny() -> meddino.Model:
    return meddino.load(TINY, device="cpu")


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the `meddino` command of this repository, which must succeed."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [os.environ["MEDDINO_COMMAND"], *map(str, arguments)], check=True, capture_output=True, text=True
        )

    return run
