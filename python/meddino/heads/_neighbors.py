"""Nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _meddino
from ._estimator import Estimator, whole

if TYPE_CHECKING:
    from typing_extensions import Self


class Neighbors(Estimator):
    """Nearest neighbours as DINO counts them: the ``n_neighbors`` vectors of the largest cosine vote for their classes,
    each with weight ``exp(cosine / temperature)``. More neighbours than vectors are all of them.
    """

    def __init__(self, *, n_neighbors: int = 20, temperature: float = 0.07) -> None:
        self.n_neighbors, self.temperature = n_neighbors, temperature

    def fit(self, X: Any, y: Any) -> Self:
        """Keeps vectors [N, D] and their classes ``[N]``."""
        taught, classes = self._taught(X, y, None, None, False)
        count = whole("n_neighbors", self.n_neighbors, 1)
        self._keep(_meddino.fit_neighbours(taught, count, float(self.temperature)), classes)
        return self

    def _protocol(self) -> dict[str, str]:
        return {"head": "nearest neighbours", "k": str(self.n_neighbors), **super()._protocol()}
