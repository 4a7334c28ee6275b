"""The devices of this machine, and whether two models agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _meddino
from ._arrays import floats

if TYPE_CHECKING:
    from ._model import Model


class Device(NamedTuple):
    """A GPU."""

    number: int
    """What ``device`` takes, as a text."""
    name: str
    """The adapter's name."""
    api: str
    """The graphics API: Vulkan, Metal, DX12 or OpenGL."""
    kind: str
    """Such as ``discrete GPU`` or ``software``."""
    driver: str
    """The driver's name and version."""
    standing: str
    """Whether, and when, ``device="auto"`` tries it."""


def devices() -> list[Device]:
    """Lists this machine's GPUs, in the order in which ``device="auto"`` tries them; what it never takes comes last."""
    return [Device(*row) for row in _meddino.devices()]


class Distance(NamedTuple):
    """The distance of two models at one step."""

    tap: str
    """``patch_embed``, ``blocks.3``, ``x_prenorm``, ``x_norm_clstoken``, ..."""
    relative_l2: float
    """``|got - want| / |want|`` over the whole tensor."""
    largest: float
    """The largest absolute difference."""
    cosine: float
    """The least cosine between the two versions of a token."""
    passes: bool
    """Whether it is within the tolerance of the precision."""


def verify(got: Model, want: Model, x: Any) -> list[Distance]:
    """Compares two models, such as one on a GPU and one on the CPU, at every step from ``x`` [B, C, H, W] to the
    features.

    The tolerance is that of ``meddino verify`` for the precision of ``got``. Raises ``ValueError`` if the models have
    different sizes, and as :class:`Model` does.
    """
    return [Distance(*row) for row in _meddino.verify(got._engine, want._engine, floats(x, "x"))]
