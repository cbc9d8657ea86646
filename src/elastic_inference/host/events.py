"""What happened on a host, in short: found by comparing two snapshots, or told by whoever refuses. Bounded, in memory.

Who did it stands elsewhere; a host that starts again begins with none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.meter import Reading

MAX_EVENTS = 1000
KEPT_SECONDS = 3600.0
_NUM_MEMORY_ERRORS = "MemoryQuotaExceeded"


class Kind(Enum):
    """What kind of thing happened."""

    ATTACHED = "attached"
    DETACHED = "detached"
    RESIZED = "resized"
    DIED = "died"  # its process ended unasked, or the host ended it because it hung
    SERVES_AGAIN = "serves again"
    SILENT = "does not answer"
    ANSWERS_AGAIN = "answers again"
    OUT_OF_MEMORY = "out of memory"
    WAITS = "waits"  # for capacity that is not there
    BUDGET = "budget"  # a tenant's: nearly spent, spent, or what follows from that
    REFUSED = "refused"  # an attach or a request that was not taken
    HOST = "host"  # of the host as a whole


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        number: Rises by one with each event of this run of the host.
        at: Seconds since 1970, UTC, when it was noticed: at most about a second late.
        accelerator_id: Of which it tells; None where of none.
        tenant: Whose it is; "" for the operator's own, None where it is of the host as a whole.
        text: A sentence without the name.
    """

    number: int
    at: float
    kind: Kind
    accelerator_id: str | None
    name: str
    text: str
    tenant: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {**vars(self), "kind": self.kind.value}


class EventLog:
    """The last events; any thread may add or read."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self._number = 0
        self._lock = threading.Lock()

    def add(
        self,
        at: float,
        kind: Kind,
        text: str,
        accelerator_id: str | None = None,
        name: str = "",
        tenant: str | None = None,
    ) -> None:
        """Note one; those of more than an hour before it are forgotten."""
        with self._lock:
            self._number += 1
            self._events.append(Event(self._number, at, kind, accelerator_id, name, text, tenant))
            while self._events[0].at < at - KEPT_SECONDS:
                self._events.popleft()

    @property
    def last_number(self) -> int:
        """Number of the newest; 0 before the first."""
        return self._number

    def after(self, number: int) -> tuple[Event, ...]:
        """Return those with a higher number, oldest first."""
        with self._lock:
            return tuple(event for event in self._events if event.number > number)


class Seen(NamedTuple):
    """An accelerator as one snapshot shows it; no reading: it was found at the host's start."""

    record: AcceleratorRecord
    reading: Reading | None


class Found(NamedTuple):
    """What a comparison found of one accelerator."""

    kind: Kind
    record: AcceleratorRecord
    text: str


def compare(before: Mapping[str, Seen], after: Mapping[str, Seen]) -> Iterator[Found]:
    """Return what happened between two snapshots, by accelerator in the order of attaching."""
    for accelerator_id, seen in before.items():
        # One whose first process never served was never attached: whoever asked was told why.
        if accelerator_id not in after and seen.record.state is not State.STARTING:
            yield Found(Kind.DETACHED, seen.record, f"{seen.record.kind.name} on {seen.record.device}")
    for accelerator_id, now in after.items():
        earlier = before.get(accelerator_id)
        if now.record.state is State.STARTING:
            continue
        if earlier is None or earlier.record.state is State.STARTING:
            kind = now.record.kind
            yield Found(Kind.ATTACHED, now.record, f"{kind.name} on {now.record.device}")
            # It may have died and been started again before the first look.
            num_restarts = 0 if earlier is None else earlier.record.num_restarts
            began = replace(now.record, state=State.READY, num_restarts=num_restarts)
            yield from _changes(Seen(began, None), now)
        else:
            yield from _changes(earlier, now)


def _changes(before: Seen, after: Seen) -> Iterator[Found]:
    record = after.record
    if record.kind != before.record.kind:
        yield Found(Kind.RESIZED, record, f"{before.record.kind.name} to {record.kind.name}")
    if before.reading is not None and after.reading is not None:
        yield from _readings(before.reading, after.reading, record)
    has_died = record.num_restarts > before.record.num_restarts
    if has_died:
        yield Found(Kind.DIED, record, f"{record.last_exit}; restart {record.num_restarts}")
    # A process that died and was started again between two looks was never seen in between.
    if record.state is State.READY and (has_died or before.record.state is State.RESTARTING):
        yield Found(Kind.SERVES_AGAIN, record, "its models are loaded again")
    elif record.state is before.record.state is State.READY:
        yield from _answers(before.reading, after.reading, record)


def _answers(before: Reading | None, after: Reading | None, record: AcceleratorRecord) -> Iterator[Found]:
    if before is None or after is None:
        return
    if before.is_healthy and not after.is_healthy:
        yield Found(Kind.SILENT, record, "its process does not answer the host")
    elif after.is_healthy and not before.is_healthy:
        yield Found(Kind.ANSWERS_AGAIN, record, "its process answers the host")


def _readings(before: Reading, after: Reading, record: AcceleratorRecord) -> Iterator[Found]:
    num_kills = _added(before.num_oom_kills, after.num_oom_kills)
    if num_kills:
        text = f"the kernel killed {_count(num_kills, 'process', 'processes')}"
        yield Found(Kind.OUT_OF_MEMORY, record, text)
    old, new = _counts(before), _counts(after)
    num_full, num_memory = (_added(old[place], new[place]) for place in (0, 1))
    if num_full:
        yield Found(Kind.REFUSED, record, f"{_count(num_full, 'request', 'requests')}: its queue was full")
    if num_memory:
        text = f"{_count(num_memory, 'request', 'requests')} refused: more memory than it has"
        yield Found(Kind.OUT_OF_MEMORY, record, text)


def _counts(reading: Reading) -> tuple[int, int]:
    """Return requests refused for a full queue, and for memory, since its process began."""
    statistics: Any = reading.statistics
    if not statistics:
        return 0, 0
    memory = sum(model["num_by_outcome"].get(_NUM_MEMORY_ERRORS, 0) for model in statistics["models"])
    return statistics["queue"]["num_refused"], memory


def _added(old: int, new: int) -> int:
    """Return what was added; a counter that went back began anew."""
    return new - old if new >= old else new


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
