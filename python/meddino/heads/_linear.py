"""A fitted linear head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from ._head import Head

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .. import _meddino

    Doubles: TypeAlias = npt.NDArray[np.float64]


class LinearHead(Head):
    """A fitted linear head."""

    coef_: Doubles
    """Weights of the vectors as they are given, [K, D]; [1, D] of two classes, but for one against the rest."""
    intercept_: Doubles
    """``[K]``, or ``[1]``."""

    def _keep(self, native: _meddino.Head, classes: npt.NDArray[Any]) -> None:
        super()._keep(native, classes)
        linear = native.linear
        assert linear is not None, "the head is linear"
        self.coef_, self.intercept_ = linear

    def decision_function(self, X: Any) -> Doubles:
        """Returns the logits ``X @ coef_.T + intercept_``, [N, K]; ``[N]`` where there is one, of the second class."""
        native, rows = self._given(X)
        scores = native.scores(rows)
        assert scores is not None, "the head is linear"
        return scores[:, 0] if scores.shape[1] == 1 else scores
