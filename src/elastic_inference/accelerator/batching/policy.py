"""Which of the requests that wait run together, and what running together costs. Pure: time is an argument."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAIN = 0.9
"""Together must take less than this part of the time that they take one by one: less is the noise of a measurement."""
DELAY_SHARE = 0.1
"""Of one row's run, for which one that has the turn waits for those who ran together just before. Eight clients of a
model whose batch costs as one row run by 1 and 7 otherwise, and so half as often."""
RECENT_RUNS = 7
RECENT_SECONDS = 60.0
"""What was measured longer ago says nothing of now; the trial's figure then counts again, and so is tried again."""
FEWEST_RUNS = 3  # before recent runs count more than the trial
FIRST_PAUSE_SECONDS = 1.0  # after a batch that failed
LONGEST_PAUSE_SECONDS = 64.0


@dataclass(frozen=True)
class Candidate:
    """A request that has or awaits its turn.

    Attributes:
        num_rows: Along axis 0 of its inputs; 0 for one that cannot run with the others, such as another model's.
        deadline: By when its answer is of use; infinite where that is never too late.
    """

    num_rows: int
    deadline: float = math.inf


@dataclass(frozen=True)
class Plan:
    """What runs together with the request that has the turn.

    Attributes:
        size: Rows that the engine computes; what the requests lack of it is filled up.
        taken: Places of those that come along, in the order of their waiting.
    """

    size: int
    taken: tuple[int, ...]


def plan(
    leader: Candidate, waiting: Sequence[Candidate], seconds_of: Mapping[int, float], now: float
) -> Plan | None:
    """Choose the batch that saves the largest part of the time that its requests take one by one.

    A request comes along only if the whole batch ends by its deadline, and by those of all whom it overtakes, so that
    nobody is late for the sake of others. Engines run no sizes but those that were tried: each has kernels of its own,
    which were compared then, and compiling them for another size takes longer than what it would save.

    Args:
        waiting: In the order of their coming.
        seconds_of: Seconds of a run by its rows; that of one row is among them.

    Returns:
        None where it is best to run alone.
    """
    best, least = None, GAIN
    for size, seconds in seconds_of.items():
        end = now + seconds
        if size <= leader.num_rows or end > leader.deadline:
            continue
        taken = _fitting(waiting, size - leader.num_rows, end)
        requests = [leader.num_rows, *(waiting[index].num_rows for index in taken)]
        cost = seconds / sum(_seconds_alone(num_rows, seconds_of) for num_rows in requests)
        if taken and cost < least:
            best, least = Plan(size, taken), cost
    return best


def delay_seconds(
    leader: Candidate,
    waiting: Sequence[Candidate],
    num_expected: int,
    seconds_of: Mapping[int, float],
    longest_seconds: float | None,
    now: float,
) -> float:
    """Return how long a request that has the turn waits for others to come.

    It waits for no more rows than ran together just before: whoever got those answers calls again at once, or is gone.
    It waits for nobody while requests of another kind wait for the device.

    Args:
        num_expected: Rows that ran the last time.
        seconds_of: As `plan` takes them.
        longest_seconds: What the user allows; None: DELAY_SHARE of one row's run.
    """
    num_rows = leader.num_rows + sum(candidate.num_rows for candidate in waiting)
    if num_rows >= min(num_expected, max(seconds_of)) or any(not other.num_rows for other in waiting):
        return 0.0
    longest = DELAY_SHARE * seconds_of[1] if longest_seconds is None else longest_seconds
    return max(0.0, min(longest, leader.deadline - seconds_of[max(seconds_of)] - now))


def _fitting(waiting: Sequence[Candidate], room: int, end: float) -> tuple[int, ...]:
    taken = []
    for index, candidate in enumerate(waiting):
        if end > candidate.deadline:
            break  # it would be late, in the batch or overtaken by those who came later
        if 0 < candidate.num_rows <= room:
            taken.append(index)
            room -= candidate.num_rows
    return tuple(taken)


def _seconds_alone(num_rows: int, seconds_of: Mapping[int, float]) -> float:
    """Estimate how long a request takes by itself: at least as long as the next smaller size that was measured."""
    smaller = max((size for size in seconds_of if size <= num_rows), default=1)
    return seconds_of[smaller]


class Costs:
    """Seconds of a run by its rows: what the trial measured, or lately calls.

    The trial adds sizes in its own thread, while requests run: what is replaced as a whole needs no lock.

    Args:
        tried: Seconds of a run by its rows, as a trial found them; one row is among them.

    Attributes:
        num_rows_last: Rows of requests in the run before.
    """

    def __init__(self, tried: Mapping[int, float]) -> None:
        self._tried = dict(tried)
        self._recent: defaultdict[int, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=RECENT_RUNS)
        )
        self._num_failed = 0
        self._resumes_at = -math.inf
        self.num_rows_last = 1

    def add(self, size: int, seconds: float) -> None:
        """Let this many rows run together."""
        self._tried = {**self._tried, size: seconds}

    def forbid(self, size: int) -> None:
        """Run no batch of this size or above again."""
        self._tried = {known: seconds for known, seconds in self._tried.items() if known < size or known == 1}

    def note(self, size: int, num_rows: int, seconds: float, now: float) -> None:
        """Remember how long a run of this size took that ended now, and how many rows of requests it had."""
        self.num_rows_last = num_rows
        if size in self._tried:
            self._recent[size].append((now, seconds))
        if size > 1:
            self._num_failed = 0

    def failed(self, now: float) -> None:
        """Pause after a batch that failed, each time longer: one caller's bad values must not make all run twice."""
        self._resumes_at = now + min(FIRST_PAUSE_SECONDS * 2**self._num_failed, LONGEST_PAUSE_SECONDS)
        self._num_failed += 1

    def sizes(self) -> Sequence[int]:
        """Return the rows of batches that may run."""
        return sorted(size for size in self._tried if size > 1)

    def largest(self) -> tuple[int, float, float]:
        """Return the rows of the largest batch, and the seconds in which the trial ran it, and one row alone."""
        size = max(self._tried)
        return size, self._tried[size], self._tried[1]

    def seconds_of(self, now: float) -> dict[int, float]:
        """Return seconds of a run by its rows; one row alone while batches pause."""
        tried = self._tried
        sizes = tried if now >= self._resumes_at else (1,)
        return {size: self._lately(size, now) or tried[size] for size in sizes}

    def _lately(self, size: int, now: float) -> float | None:
        recent = [seconds for at, seconds in self._recent[size] if now - at <= RECENT_SECONDS]
        return statistics.median(recent) if len(recent) >= FEWEST_RUNS else None
