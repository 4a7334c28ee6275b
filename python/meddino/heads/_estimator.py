"""What the heads that are fitted here share: parameters, and what they learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from ._classes import labels
from ._head import Head
from ._vectors import rows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    Floats: TypeAlias = npt.NDArray[np.float32]


class Taught(TypedDict):
    """What the native part learns from."""

    x: Floats
    labels: list[int]
    classes: int
    weights: list[float] | None
    balanced: bool
    standardize: bool


class Estimator(Head):
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
    ) -> tuple[Taught, npt.NDArray[Any]]:
        """Returns what the native part learns from, and the classes."""
        import numpy as np

        if class_weight not in (None, "balanced"):
            raise ValueError(
                f"class_weight: expected None or 'balanced', found {class_weight!r}; other weights are sample_weight's"
            )
        classes, numbers = np.unique(labels(y), return_inverse=True)
        if len(classes) == 1:
            raise ValueError(
                f"y: expected at least two classes, found {classes[0]} only; there is nothing to tell apart"
            )
        taught: Taught = {
            "x": rows(X),
            "labels": numbers.tolist(),
            "classes": len(classes),
            "weights": None if sample_weight is None else np.asarray(sample_weight, np.float64).tolist(),
            "balanced": class_weight == "balanced",
            "standardize": standardize,
        }
        return taught, classes

    def _protocol(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.get_params().items()}


def whole(name: str, value: Any, least: int) -> int:
    """Returns the parameter ``value`` as a whole number from ``least`` up."""
    import operator

    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: expected a whole number from {least} up, found {value!r}")
    return number
