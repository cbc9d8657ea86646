"""The queue of one accelerator: calls come, wait for their turn and are computed one at a time, the first first.

Every call is an event of its own; they are computed together, because when each ends follows from the recursion
`end[n] = max(arrival[n], end[n-1]) + service[n]`, which a running maximum solves. Calls beyond a budget are not drawn:
then a window of each piece of demand stands for the whole of it (`Sampling`), but for accelerators that are so busy
that their queues reach from one piece to the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from elastic_inference.pool.simulation.attachment import Piece
from elastic_inference.pool.simulation.latencies import Latencies
from elastic_inference.pool.simulation.service_time import Floats, ServiceTime

MAX_CHUNK = 500_000  # calls held at once: 4 MB an array
_MIN_WINDOW_CALLS = 400
_WARM_UP_SHARE = 0.25  # of a window, whose queue begins empty
_BUSY_SHARE = 0.7  # of the time, from which on all calls are drawn
_MAX_BUSY_CALLS = 5_000_000  # of one attachment; beyond, windows serve for these too


def serve(arrivals: Floats, services: Floats, free_at: float = -math.inf) -> Floats:
    """Return when each call ends.

    Args:
        arrivals: float64[n], seconds, not falling.
        services: float64[n], seconds.
        free_at: When the accelerator can begin the first.
    """
    if not arrivals.size:
        return arrivals
    done = np.cumsum(services)
    starts = np.maximum(arrivals, free_at)  # later ones are behind the first in any case
    starts -= done
    starts += services
    np.maximum.accumulate(starts, out=starts)
    starts += done
    return starts


@dataclass(frozen=True)
class Serving:
    """A time in which an accelerator serves.

    Attributes:
        service: How long calls take there.
        is_cut: It ends because the host died: what is under way begins anew with the next serving.
    """

    start: float
    end: float
    service: ServiceTime
    is_cut: bool = False


@dataclass
class CallCount:
    """What became of calls.

    Attributes:
        num_offered: Calls that came, with those that a window stands for.
        num_unanswered: Of these, those that no accelerator served before the attachment ended.
        num_late: Beyond the target.
        busy_seconds: Of computation.
        num_drawn: Calls that were computed one by one.
    """

    num_offered: float = 0.0
    num_unanswered: float = 0.0
    num_late: float = 0.0
    busy_seconds: float = 0.0
    num_drawn: int = 0

    def add(self, other: CallCount) -> None:
        """Add another count to this one."""
        for name in ("num_offered", "num_unanswered", "num_late", "busy_seconds", "num_drawn"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Sampling:
    """Which part of the calls is drawn.

    Attributes:
        share: Of all; 1: each.
        target_seconds: Calls that take longer count as late.
    """

    share: float = 1.0
    target_seconds: float = math.inf


def run_calls(
    pieces: Sequence[Piece],
    servings: Sequence[Serving],
    chance: np.random.Generator,
    sampling: Sampling,
    latencies: Latencies,
) -> CallCount:
    """Let one accelerator's calls run.

    Calls begin when it serves first. While its host is lost they come and wait, as those of clients that try again.

    Args:
        pieces: As of an Attachment.
        servings: In order, apart from each other.
        latencies: Takes each call's latency, wire included.
    """
    count = CallCount()
    if not servings:
        return count
    if len(servings) == 1 and _is_sampled(pieces, servings[0], sampling):
        is_new = True
        for piece in _within(pieces, servings[0].start, servings[0].end):
            _run_window(piece, servings[0].service, is_new, chance, sampling, latencies, count)
            is_new = is_new and piece.calls_per_second == 0
        return count
    end = pieces[-1].end
    pending = np.empty(0)
    since = servings[0].start
    for serving in servings:
        service, free_at, is_new = serving.service, serving.start, True
        for arrivals in _arrivals(pieces, since, min(serving.end, end), chance):
            count.num_offered += arrivals.size
            count.num_drawn += arrivals.size
            arrivals = np.concatenate([pending, arrivals])
            services, wires = _draw(service, chance, arrivals.size, is_new)
            is_new = is_new and not arrivals.size
            ends = serve(arrivals, services, free_at)
            whole = int(np.searchsorted(ends, serving.end)) if serving.is_cut else ends.size
            pending, arrivals, ends = arrivals[whole:], arrivals[:whole], ends[:whole]
            count.busy_seconds += float(services[:whole].sum())
            if whole:
                free_at = float(ends[-1])
                _record(ends - arrivals + wires[:whole], sampling, latencies, count, 1.0)
        since = serving.end
    if servings[-1].is_cut:
        unserved = sum(
            (piece.end - piece.start) * piece.calls_per_second for piece in _within(pieces, since, end)
        )
        count.num_offered += unserved
        count.num_unanswered += unserved + pending.size
    return count


def _is_sampled(pieces: Sequence[Piece], serving: Serving, sampling: Sampling) -> bool:
    if serving.is_cut or sampling.share >= 1:
        return False
    busiest = max(piece.calls_per_second for piece in pieces) * serving.service.mean_seconds
    num_calls = sum((piece.end - piece.start) * piece.calls_per_second for piece in pieces)
    return busiest < _BUSY_SHARE or num_calls > _MAX_BUSY_CALLS


def _run_window(
    piece: Piece,
    service: ServiceTime,
    is_new: bool,
    chance: np.random.Generator,
    sampling: Sampling,
    latencies: Latencies,
    count: CallCount,
) -> None:
    """Draw a window of a piece, and let what follows its warm-up stand for the whole.

    Args:
        is_new: The model was loaded just before; that is left out where the window is not the whole.
    """
    length, rate = piece.end - piece.start, piece.calls_per_second
    if rate == 0:
        return
    window = max(sampling.share * length, _MIN_WINDOW_CALLS / rate)
    is_whole = window >= length
    shown = Piece(0.0, min(window, length), rate)
    before = -1.0 if is_whole else _WARM_UP_SHARE * window
    weight = 1.0 if is_whole else length / (window - before)
    free_at = -math.inf
    for arrivals in _arrivals((shown,), 0.0, shown.end, chance):
        services, wires = _draw(service, chance, arrivals.size, is_new and is_whole)
        is_new = is_new and not arrivals.size
        ends = serve(arrivals, services, free_at)
        free_at = float(ends[-1]) if ends.size else free_at
        count.num_drawn += arrivals.size
        first = int(np.searchsorted(arrivals, before))
        count.num_offered += weight * (arrivals.size - first)
        count.busy_seconds += weight * float(services[first:].sum())
        _record((ends - arrivals + wires)[first:], sampling, latencies, count, weight)


def _draw(
    service: ServiceTime, chance: np.random.Generator, count: int, is_new: bool
) -> tuple[Floats, Floats]:
    services, wires = service.draw(chance, count)
    if is_new and count and service.first_seconds:
        services[0] = chance.choice(service.first_seconds)
    return services, wires


def _record(
    seconds: Floats,
    sampling: Sampling,
    latencies: Latencies,
    count: CallCount,
    weight: float,
) -> None:
    count.num_late += weight * np.count_nonzero(seconds > sampling.target_seconds)
    latencies.add(seconds, weight)


def _within(pieces: Sequence[Piece], start: float, end: float) -> Iterator[Piece]:
    for piece in pieces:
        if piece.end > start and piece.start < end:
            yield Piece(max(piece.start, start), min(piece.end, end), piece.calls_per_second)


def _arrivals(
    pieces: Sequence[Piece], start: float, end: float, chance: np.random.Generator
) -> Iterator[Floats]:
    """Draw the Poisson arrivals of pieces between two moments, in chunks; at least one chunk, which may be empty."""
    gathered: list[Floats] = []
    num_gathered = 0
    for piece in _within(pieces, start, end):
        rate, now = piece.calls_per_second, piece.start
        while rate > 0 and now < piece.end:
            expected = rate * (piece.end - now)
            count = min(MAX_CHUNK, math.ceil(expected + 6 * math.sqrt(expected) + 10))
            times = now + np.cumsum(chance.standard_exponential(count)) / rate
            now = float(times[-1])
            gathered.append(times[: np.searchsorted(times, piece.end)])
            num_gathered += gathered[-1].size
            if num_gathered >= MAX_CHUNK:
                yield np.concatenate(gathered)
                gathered, num_gathered = [], 0
    yield np.concatenate(gathered) if gathered else np.empty(0)
