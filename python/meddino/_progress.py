"""A progress bar by tqdm, where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def following(unit: str, wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Gives a function ``follow(done, total)`` that moves a bar; None without tqdm, or if no bar is wanted.

    ``unit`` is ``"B"`` for bytes.
    """
    bar = _bar(unit) if wanted else None
    if bar is None:
        yield None
        return

    def follow(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield follow


def _bar(unit: str) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(unit=unit, unit_scale=unit == "B", leave=False)
