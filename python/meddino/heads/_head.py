"""A fitted head of any kind."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import _meddino
from ._classes import KINDS, labels
from ._vectors import Vectors, rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    Doubles: TypeAlias = npt.NDArray[np.float64]


class NotFittedError(ValueError, AttributeError):
    """A head predicts before it is fitted. scikit-learn's error of this name has the same bases."""


class Head:
    """A fitted head. :func:`load` gives one of a file.

    ``predict`` and the like take vectors [N, D], or :class:`Vectors`, of which a head from a file also checks that they
    are of the kind that it was fitted to.
    """

    classes_: npt.NDArray[Any]
    """The K classes, in the order of probabilities."""
    n_features_in_: int
    """Channels of a vector, D."""
    about: dict[str, Any] | None = None
    """What the file of a loaded head says: ``features``, ``protocol``, ``split``, ``patients``, ``figures``."""
    _native: _meddino.Head

    def _keep(self, native: _meddino.Head, classes: npt.NDArray[Any]) -> None:
        self._native, self.classes_, self.n_features_in_ = native, classes, native.width

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_native")

    def _fitted(self) -> _meddino.Head:
        if not hasattr(self, "_native"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit first")
        return self._native

    def _given(self, X: Any) -> tuple[_meddino.Head, Floats]:
        """Returns the head and the rows of ``X``, which it may be applied to."""
        native = self._fitted()
        if isinstance(X, Vectors) and self.about is not None:
            _meddino.check_head(json.dumps(self.about), X.kind)
        return native, rows(X)

    def predict_proba(self, X: Any) -> Doubles:
        """Returns the probability of each class, [N, K], in the order of ``classes_``."""
        native, rows = self._given(X)
        return native.probabilities(rows)

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Returns the likeliest class of each vector, ``[N]``; of equally likely ones, the first."""
        likeliest = self.predict_proba(X).argmax(1)
        chosen: npt.NDArray[Any] = self.classes_[likeliest]
        return chosen

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Returns the share of vectors whose class is predicted: the accuracy. ``sample_weight`` ``[N]`` weighs them."""
        import numpy as np

        found = self.predict(X)
        truth = labels(y)
        if len(truth) != len(found):
            raise ValueError(f"y: expected a class for each of {len(found)} vectors, found {len(truth)}")
        if (truth.dtype.kind == "U") != (found.dtype.kind == "U"):
            raise TypeError(f"y: expected classes such as {found[0]!r}, which the head predicts, found {truth[0]!r}")
        return float(np.average(found == truth, weights=sample_weight))

    def save(
        self,
        path: str | os.PathLike[str],
        features: Vectors | None = None,
        *,
        patients: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Writes the head to a ``.safetensors`` file, which ``meddino probe predict|evaluate`` take, and
        ``meddino segment --head`` if it is a linear head on patch tokens whose classes are labels.

        - ``features``: the vectors that the head was fitted to, of which the file tells the kind, so that the head is
          applied to nothing else. A loaded head has them already.
        - ``patients``: whom the head was fitted to or chosen by, so that it is not judged on them; by default the cases
          of ``features``. Those of a loaded head stay.

        Numbers are stored as float32. Raises ``ValueError`` if the kind of the features is not known, or ``features``
        have another width; and an ``OSError`` or ``ValueError`` if the file cannot or may not be written: a file that
        meddino did not write is replaced only with ``overwrite``, and a file of ``features`` never.
        """
        native = self._fitted()
        about = self._described(features)
        known = features.cases if patients is None and features is not None else patients or ()
        about["patients"] = sorted({*about["patients"], *map(str, known)})
        files = [] if features is None else features.files
        _meddino.save_head(native, json.dumps(about), os.path.abspath(path), files, overwrite)

    def _described(self, features: Vectors | None) -> dict[str, Any]:
        """Returns what the file says of the head, all but further patients."""
        if features is not None and features.values.shape[1] != self.n_features_in_:
            width = features.values.shape[1]
            raise ValueError(
                f"features: expected vectors of {self.n_features_in_} channels, as the head's, found {width}"
            )
        if self.about is not None:
            if features is not None:
                _meddino.check_head(json.dumps(self.about), features.kind)
            return dict(self.about)
        if features is None:
            raise ValueError(
                "features: expected the Vectors that the head was fitted to (meddino.heads.read), so that the file says "
                "what the head may be applied to"
            )
        kind = self.classes_.dtype.kind
        names = [str(int(c)) if kind in "iuf" else str(c) for c in self.classes_.tolist()]
        protocol = {"made_by": "meddino.heads", "classes_are": KINDS[kind], **self._protocol()}
        return {
            "classes": names,
            "features": features.kind,
            "protocol": protocol,
            "split": {},
            "patients": [],
            "figures": None,
        }

    def _protocol(self) -> dict[str, str]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "_native" in state:
            state["_native"] = self._native.state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_native" in state:
            state = state | {"_native": _meddino.head_of_state(state["_native"])}
        self.__dict__.update(state)
