"""Logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _meddino
from ._estimator import Estimator, whole
from ._linear import LinearHead

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self


class LogisticRegression(Estimator, LinearHead):
    """Logistic regression with an L2 penalty, fitted in float64: scikit-learn's objective, and its values within 1e-6.

    - ``C``: the inverse strength of the penalty.
    - ``one_against_rest``: each class against the others instead of softmax, as scikit-learn's
      ``OneVsRestClassifier``.
    - ``class_weight``: ``"balanced"`` weighs classes alike, None each vector.
    - ``standardize``: whether to standardise channels first, as ``meddino probe`` does. ``coef_`` is of vectors as they
      are given.
    - ``tol``, ``max_iter``: the fit ends when no entry of the gradient is larger than ``tol``, or after ``max_iter``
      iterations with a ``RuntimeWarning``.

    ``fit`` raises ``ValueError`` also if a parameter is out of its range.
    """

    n_iter_: npt.NDArray[np.int32]
    """Iterations of the fit, ``[1]``: of all classes together with ``one_against_rest``."""

    def __init__(
        self,
        *,
        C: float = 1.0,
        one_against_rest: bool = False,
        class_weight: str | None = None,
        standardize: bool = False,
        tol: float = 1e-4,
        max_iter: int = 1000,
    ) -> None:
        self.C, self.one_against_rest, self.class_weight = C, one_against_rest, class_weight
        self.standardize, self.tol, self.max_iter = standardize, tol, max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the head to vectors [N, D] and their classes ``[N]``. ``sample_weight`` ``[N]`` weighs the vectors."""
        self._fit([self], X, y, sample_weight)
        return self

    def path(self, X: Any, y: Any, Cs: Sequence[float], sample_weight: Any = None) -> list[LogisticRegression]:
        """Returns a head for each of ``Cs`` (:func:`dinov3_cs`), fitted to the same vectors.

        Each fit starts where the one before it ended, so that ascending values take the least time.
        """
        heads = [LogisticRegression(**self.get_params() | {"C": C}) for C in Cs]
        self._fit(heads, X, y, sample_weight)
        return heads

    def _fit(self, heads: Sequence[LogisticRegression], X: Any, y: Any, sample_weight: Any) -> None:
        import numpy as np

        taught, classes = self._taught(X, y, sample_weight, self.class_weight, self.standardize)
        iterations = whole("max_iter", self.max_iter, 1)
        cs = [float(head.C) for head in heads]
        fits = _meddino.fit_logistic(taught, cs, bool(self.one_against_rest), float(self.tol), iterations)
        for head, (native, count, converged) in zip(heads, fits, strict=True):
            head._keep(native, classes)
            head.n_iter_ = np.array([count], np.int32)
            if not converged:
                advice = "raise max_iter or tol, or standardize"
                warnings.warn(
                    f"{head!r} did not converge in {count} iterations; {advice}", RuntimeWarning, stacklevel=3
                )

    def _protocol(self) -> dict[str, str]:
        name = "logistic regression" + (", one against rest" if self.one_against_rest else "")
        return {"head": name, "c": str(self.C), **super()._protocol()}


def dinov3_cs() -> list[float]:
    """Returns the 45 values of C that DINOv3 tries, from 1e-6 to 1e5."""
    return _meddino.dinov3_cs()
