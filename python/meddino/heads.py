"""Heads on frozen features: classifiers with the habits of scikit-learn's, which is not needed.

>>> import numpy
>>> from meddino.heads import LogisticRegression
>>> x = numpy.array([[0, 1], [0.2, 1.1], [1, 0.1], [1.2, 0]], numpy.float32)
>>> head = LogisticRegression(C=10).fit(x, ["lung", "lung", "liver", "liver"])
>>> head.predict(x[1:3]).tolist(), head.score(x, ["lung", "lung", "liver", "liver"])
(['lung', 'liver'], 1.0)

Fitted here: :class:`LogisticRegression`, :class:`LinearProbe`, :class:`Neighbors`. Files of ``meddino features`` as
vectors: :func:`read`. Files of heads, which ``meddino probe`` and ``meddino segment --head`` share: :func:`load`,
:meth:`Head.save`.

Vectors ``X`` are [N, D]: NumPy arrays of any strides, lists, or anything on the CPU with ``__dlpack__``. Features are
float32, and other types are converted to it. Classes ``y`` are N whole numbers, texts or truth values, as an array or a
list. Results are float64. All fits run on the CPU, in float64, with the same result for any number of threads; Python's
other threads run meanwhile, and Ctrl-C ends a fit.

The estimators work in scikit-learn's ``Pipeline``, ``GridSearchCV`` and ``clone`` where it is installed. Every method
raises ``TypeError`` if ``X`` or ``y`` is of another type, and ``ValueError`` if its shape or a value does not fit: NaN,
infinity, one class only, vectors of another width than those of the fit.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict

from . import _meddino
from ._arrays import as_numpy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    Floats: TypeAlias = npt.NDArray[np.float32]
    Doubles: TypeAlias = npt.NDArray[np.float64]

__all__ = [
    "Head",
    "LinearHead",
    "LinearProbe",
    "LogisticRegression",
    "Neighbors",
    "NotFittedError",
    "Vectors",
    "dinov3_cs",
    "dinov3_rates",
    "load",
    "read",
]

_TYPES = {"b": "bool", "i": "int", "u": "int", "f": "float", "U": "text"}
"""What a file calls the classes of each kind of array."""


class _Taught(TypedDict):
    """What the native part learns from."""

    x: Floats
    labels: list[int]
    classes: int
    weights: list[float] | None
    balanced: bool
    standardize: bool


class _Training(TypedDict):
    """How the native part trains a linear probe."""

    rates: list[float]
    optimizer: str
    momentum: float
    decay: float
    batch_size: int
    steps: int
    warmup: int
    seed: int


class NotFittedError(ValueError, AttributeError):
    """A head predicts before it is fitted. scikit-learn's error of this name has the same bases."""


class Vectors(NamedTuple):
    """Vectors of feature files, which :func:`read` gives."""

    values: Floats
    """[N, D]"""
    cases: list[str]
    """The case of each row: the name of its file."""
    slices: list[int] | None
    """The slice of each row; None if the rows are cases."""
    kind: dict[str, str]
    """The model, the preprocessing, and how the vectors are made: what a head for them is bound to."""
    files: list[str]
    """The files."""


def read(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, vector: str = "cls", pool: str | None = None
) -> Vectors:
    """Reads vectors of files that ``meddino features`` or :meth:`meddino.Model.write_features` wrote.

    - ``paths``: ``.safetensors`` files, and folders of them.
    - ``vector``: ``"cls"``, ``"mean"`` (of the patch tokens) or ``"cls+mean"`` of each slice; or ``"patch"``, each
      patch token as a row: slice by slice, row by row.
    - ``pool``: ``"mean"`` or ``"max"`` of a case's slices, so that a row is a case; by default a row is a slice.

    Raises ``FileNotFoundError`` or another ``OSError``, and ``ValueError`` if a file holds no such vectors or NaN, was
    not made as the first one, or is the second of its case.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    chosen = [os.path.abspath(path) for path in several]
    values, cases, slices, kind, files = _meddino.read_vectors(chosen, vector, pool)
    return Vectors(values, cases, slices, kind, [os.fspath(file) for file in files])


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
        return native, _rows(X)

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
        truth = _labels(y)
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
        protocol = {"made_by": "meddino.heads", "classes_are": _TYPES[kind], **self._protocol()}
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


class _Estimator(Head):
    """What the heads that are fitted here share: parameters, as scikit-learn has them."""

    _estimator_type = "classifier"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the parameters by their names. ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Sets parameters by their names. Raises ``ValueError`` if there is no such parameter."""
        known = self._defaults()
        for name, value in params.items():
            if name not in known:
                raise ValueError(f"{name}: {type(self).__name__} has no such parameter; it has {', '.join(known)}")
            setattr(self, name, value)
        return self

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        # All parameters are keywords with defaults.
        return cls.__init__.__kwdefaults__  # type: ignore[return-value]

    def __repr__(self) -> str:
        changed = (
            f"{name}={getattr(self, name)!r}"
            for name, default in self._defaults().items()
            if repr(getattr(self, name)) != repr(default)
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_tags__(self) -> Any:
        # Only scikit-learn calls this, so that it is there.
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(),
        )

    def _taught(
        self, X: Any, y: Any, sample_weight: Any, class_weight: str | None, standardize: bool
    ) -> tuple[_Taught, npt.NDArray[Any]]:
        """Returns what the native part learns from, and the classes."""
        import numpy as np

        if class_weight not in (None, "balanced"):
            raise ValueError(
                f"class_weight: expected None or 'balanced', found {class_weight!r}; other weights are sample_weight's"
            )
        classes, labels = np.unique(_labels(y), return_inverse=True)
        if len(classes) == 1:
            raise ValueError(
                f"y: expected at least two classes, found {classes[0]} only; there is nothing to tell apart"
            )
        taught: _Taught = {
            "x": _rows(X),
            "labels": labels.tolist(),
            "classes": len(classes),
            "weights": None if sample_weight is None else np.asarray(sample_weight, np.float64).tolist(),
            "balanced": class_weight == "balanced",
            "standardize": standardize,
        }
        return taught, classes

    def _protocol(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.get_params().items()}


class LogisticRegression(_Estimator, LinearHead):
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
        iterations = _whole("max_iter", self.max_iter, 1)
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


class LinearProbe(_Estimator, LinearHead):
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
                "batch_size": _whole("batch_size", self.batch_size, 1),
                "steps": _whole("steps", self.steps, 1),
                "warmup": _whole("warmup", self.warmup, 0),
                "seed": _whole("random_state", self.random_state, 0),
            },
        )
        for head, native in zip(heads, fits, strict=True):
            head._keep(native, classes)

    def _protocol(self) -> dict[str, str]:
        return {"head": "linear probe", **super()._protocol()}


class Neighbors(_Estimator):
    """Nearest neighbours as DINO counts them: the ``n_neighbors`` vectors of the largest cosine vote for their classes,
    each with weight ``exp(cosine / temperature)``. More neighbours than vectors are all of them.
    """

    def __init__(self, *, n_neighbors: int = 20, temperature: float = 0.07) -> None:
        self.n_neighbors, self.temperature = n_neighbors, temperature

    def fit(self, X: Any, y: Any) -> Self:
        """Keeps vectors [N, D] and their classes ``[N]``."""
        taught, classes = self._taught(X, y, None, None, False)
        count = _whole("n_neighbors", self.n_neighbors, 1)
        self._keep(_meddino.fit_neighbours(taught, count, float(self.temperature)), classes)
        return self

    def _protocol(self) -> dict[str, str]:
        return {"head": "nearest neighbours", "k": str(self.n_neighbors), **super()._protocol()}


def load(path: str | os.PathLike[str]) -> Head | LinearHead:
    """Reads a head that ``meddino probe fit`` or :meth:`Head.save` wrote: a :class:`LinearHead`, or a :class:`Head` of
    neighbours.

    Its classes are texts, as in the table of labels that it was fitted to, unless :meth:`Head.save` was called on a head
    of numbers. Raises ``FileNotFoundError`` or another ``OSError``, and ``ValueError`` if the file holds no head.
    """
    import numpy as np

    native, about = _meddino.open_head(os.fspath(path))
    head = Head() if native.linear is None else LinearHead()
    head.about = json.loads(about)
    assert head.about is not None
    names, kind = head.about["classes"], head.about["protocol"].get("classes_are", "text")
    kinds: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "bool": lambda name: name == "True"}
    of_name = kinds.get(kind, str)
    try:
        classes = np.array([of_name(name) for name in names])
    except ValueError as problem:
        raise ValueError(f"{path}: says that its classes are {kind}, but names them {', '.join(names)}") from problem
    head._keep(native, classes)
    return head


def dinov3_cs() -> list[float]:
    """Returns the 45 values of C that DINOv3 tries, from 1e-6 to 1e5."""
    return _meddino.dinov3_cs()


def dinov3_rates(batch_size: int = 128) -> list[float]:
    """Returns the 13 learning rates that DINOv3 tries, for batches of ``batch_size`` vectors."""
    return _meddino.dinov3_rates(_whole("batch_size", batch_size, 1))


def _rows(X: Any) -> Floats:
    """Returns ``X`` as float32."""
    import numpy as np

    given = X.values if isinstance(X, Vectors) else X
    array = as_numpy(given, "X") if hasattr(given, "__dlpack__") else np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"X: expected numbers, found an array of {array.dtype}")
    if array.dtype != np.float32:
        with np.errstate(over="ignore"):  # What is too large becomes infinite, which is refused.
            array = array.astype(np.float32)
    return array if array.flags.aligned else array.copy()


def _labels(y: Any) -> npt.NDArray[Any]:
    """Returns the classes ``y``, ``[N]``."""
    import numpy as np

    array = as_numpy(y, "y") if hasattr(y, "__dlpack__") else np.asarray(y)
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.ndim != 1:
        raise ValueError(f"y: expected a class for each vector, [N], found the shape {array.shape}")
    if array.dtype.kind not in _TYPES:
        raise TypeError(f"y: expected whole numbers, texts or truth values, found an array of {array.dtype}")
    if array.dtype.kind == "f" and not (np.isfinite(array) & (np.trunc(array) == array)).all():
        number = array[~(np.isfinite(array) & (np.trunc(array) == array))][0]
        raise ValueError(f"y: expected classes, found the number {number}")
    return array


def _whole(name: str, value: Any, least: int) -> int:
    """Returns the parameter ``value`` as a whole number from ``least`` up."""
    import operator

    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: expected a whole number from {least} up, found {value!r}")
    return number
