"""What a load is doing: engines say it as they go, and whoever loads may listen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum


class Stage(Enum):
    """A part of a load that may take seconds; the value is what users read."""

    WAITING = "waiting for another load"
    READING = "reading"
    REWRITING = "rewriting"  # and proving that what is rewritten computes the same
    CHOOSING = "choosing a precision by recorded requests"
    COMPILING = "compiling"
    WARMING_UP = "warming up"
    PROVING = "comparing with the reference"


Tell = Callable[[str], object]
_tell: ContextVar[Tell | None] = ContextVar("tell", default=None)


def begin(stage: Stage) -> None:
    """Say that this part begins."""
    tell = _tell.get()
    if tell is not None:
        tell(stage.value)


@contextmanager
def told_to(tell: Tell | None) -> Iterator[None]:
    """Have what is said in this block go to `tell`; None: to nobody."""
    token = _tell.set(tell)
    try:
        yield
    finally:
        _tell.reset(token)
