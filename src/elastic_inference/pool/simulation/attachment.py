"""What is asked of a pool over time: attachments, each with the calls that it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elastic_inference.pool.model import Request


@dataclass(frozen=True)
class Piece:
    """A time in which calls come at one rate. Seconds from the start of the demand."""

    start: float
    end: float
    calls_per_second: float


@dataclass(frozen=True)
class Attachment:
    """One accelerator from attach to detach.

    Attributes:
        name: Unique in a demand.
        request: What is asked for.
        pieces: Without gaps, in order; attach is at the first one's start and detach at the last one's end.
    """

    name: str
    request: Request
    pieces: tuple[Piece, ...]

    @property
    def start(self) -> float:
        return self.pieces[0].start

    @property
    def end(self) -> float:
        return self.pieces[-1].end

    @property
    def num_calls(self) -> float:
        """How many calls are to be expected."""
        return sum((each.end - each.start) * each.calls_per_second for each in self.pieces)


def span_seconds(demand: Sequence[Attachment]) -> float:
    """Return when the last attachment ends."""
    return max((each.end for each in demand), default=0.0)
