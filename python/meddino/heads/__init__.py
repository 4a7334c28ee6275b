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

from ._file import load
from ._head import Head, NotFittedError
from ._linear import LinearHead
from ._logistic import LogisticRegression, dinov3_cs
from ._neighbors import Neighbors
from ._probe import LinearProbe, dinov3_rates
from ._vectors import Vectors, read

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

for _name in __all__:
    # The name by which programs import it: pickles and help() show it, and pickles of earlier versions have it.
    globals()[_name].__module__ = __name__
