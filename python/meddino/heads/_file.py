"""Heads from files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from .. import _meddino
from ._head import Head
from ._linear import LinearHead


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
