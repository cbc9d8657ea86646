"""Points inside a prediction at which another accelerator of the same device may come first.

Whoever gives requests their turn on the device says once for the process what a point asks (`set_preemption`). An
engine calls `checkpoint` every millisecond or two of device time, from the thread that predicts: it costs a microsecond
unless another is due. A hand-over costs a GPU 0.14 ms each way, so shorter pieces gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Preemption(Protocol):
    """What lets another accelerator use the device in the middle of a request."""

    def must_yield(self) -> bool:
        """Whether another is due; a look of a microsecond."""

    def checkpoint(self) -> None:
        """Let it have the device, and come back when the device is ours again."""


_preemption: Preemption | None = None
_pacer: ContextVar[Callable[[], None] | None] = ContextVar("pacer", default=None)


def set_preemption(preemption: Preemption | None) -> None:
    """Say what points ask; None: nothing, for a device that is not shared by lease."""
    global _preemption
    _preemption = preemption


def is_preemptible() -> bool:
    """Whether points ask anything, and so whether they are worth waiting for a device that runs ahead."""
    return _preemption is not None


def checkpoint() -> None:
    """Mark a point between two pieces of a prediction; what was started on the device is done, unless it is `paced`."""
    pacer = _pacer.get()
    if pacer is None:
        let_others()
    else:
        pacer()


def let_others() -> None:
    """Give the device to another accelerator where one is due, and come back when it is ours again."""
    if _preemption is not None and _preemption.must_yield():
        _preemption.checkpoint()


@contextmanager
def paced(pacer: Callable[[], None]) -> Iterator[None]:
    """Have points of this context call `pacer`, which waits for the device as it sees fit, then calls `let_others`."""
    token = _pacer.set(pacer)
    try:
        yield
    finally:
        _pacer.reset(token)
