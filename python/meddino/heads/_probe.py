"""The linear probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from .. import _meddino
from ._estimator import Estimator, whole
from ._linear import LinearHead

if TYPE_CHECKING:
    from typing_extensions import Self


class Training(TypedDict):
    """How the native part trains a linear probe."""

    rates: list[float]
    optimizer: str
    momentum: float
    decay: float
    batch_size: int
    steps: int
    warmup: int
    seed: int


class LinearProbe(Estimator, LinearHead):
    """The linear probe of DINOv2 and DINOv3: a linear classifier from zeros, trained by mini-batches.

    - ``rate``: the learning rate. It falls to 0 along a cosine, after ``warmup`` steps in which it rises.
      :func:`dinov3_rates` are those that DINOv3 tries.
    - ``optimizer``: ``"sgd"`` with ``momentum``, or ``"adamw"`` with ``decay``; as PyTorch's.
    - ``batch_size``, ``steps``: vectors of a batch, and number of batches.
    - ``random_state``: the seed of the vectors' order.
    - ``class_weight``, ``standardize``: as in :class:`LogisticRegression`.

    ``fit`` raises ``ValueError`` also if a parameter is out of its range, or the weights grow without end.
    """

    def __init__(
        self,
        *,
        rate: float = 0.01,
        optimizer: str = "sgd",
        momentum: float = 0.9,
        decay: float = 0.0,
        batch_size: int = 128,
        steps: int = 12_500,
        warmup: int = 0,
        class_weight: str | None = None,
        standardize: bool = False,
        random_state: int = 0,
    ) -> None:
        self.rate, self.optimizer, self.momentum, self.decay = rate, optimizer, momentum, decay
        self.batch_size, self.steps, self.warmup = batch_size, steps, warmup
        self.class_weight, self.standardize, self.random_state = class_weight, standardize, random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Trains the head on vectors [N, D] and their classes ``[N]``. ``sample_weight`` ``[N]`` weighs the vectors."""
        self._fit([self], X, y, sample_weight)
        return self

    def path(self, X: Any, y: Any, rates: Sequence[float], sample_weight: Any = None) -> list[LinearProbe]:
        """Returns a head for each of ``rates``, trained on the same batches."""
        heads = [LinearProbe(**self.get_params() | {"rate": rate}) for rate in rates]
        self._fit(heads, X, y, sample_weight)
        return heads

    def _fit(self, heads: Sequence[LinearProbe], X: Any, y: Any, sample_weight: Any) -> None:
        taught, classes = self._taught(X, y, sample_weight, self.class_weight, self.standardize)
        fits = _meddino.fit_probe(
            taught,
            {
                "rates": [float(head.rate) for head in heads],
                "optimizer": self.optimizer,
                "momentum": float(self.momentum),
                "decay": float(self.decay),
                "batch_size": whole("batch_size", self.batch_size, 1),
                "steps": whole("steps", self.steps, 1),
                "warmup": whole("warmup", self.warmup, 0),
                "seed": whole("random_state", self.random_state, 0),
            },
        )
        for head, native in zip(heads, fits, strict=True):
            head._keep(native, classes)

    def _protocol(self) -> dict[str, str]:
        return {"head": "linear probe", **super()._protocol()}


def dinov3_rates(batch_size: int = 128) -> list[float]:
    """Returns the 13 learning rates that DINOv3 tries, for batches of ``batch_size`` vectors."""
    return _meddino.dinov3_rates(whole("batch_size", batch_size, 1))
