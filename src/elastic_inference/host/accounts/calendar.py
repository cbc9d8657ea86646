"""The host's own calendar: seconds since 1970 that run as fast as the machine does, whatever becomes of its clock.

What is billed are differences of these. The machine's clock is looked at once for each run of the machine; from then on
counts how long it has run. A host that starts again within the same run goes on with the same calendar.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from elastic_inference.host.tokens import write_private
from elastic_inference.limits.processes import boot_id

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Anchor:
    """What ties the calendar to a run of the machine.

    Attributes:
        boot_id: Which run.
        began_at: When it began, in seconds since 1970.
        seen_at: The last moment at which the host was seen to run.
    """

    boot_id: str
    began_at: float
    seen_at: float

    @classmethod
    def at_start(
        cls, last: Anchor | None, this_boot: str, uptime_seconds: float, wall_seconds: float, is_free: bool
    ) -> Anchor:
        """Return the anchor of a host that starts.

        Args:
            last: That of the run of the host before; None for the first.
            is_free: Whether nothing is being billed, so that the calendar may follow a clock that was set.
        """
        if last is not None and last.boot_id == this_boot and not is_free:
            return last
        if last is not None and not is_free:
            wall_seconds = max(wall_seconds, last.seen_at)  # what was billed is not billed again
        return cls(this_boot, wall_seconds - uptime_seconds, wall_seconds)


def uptime() -> float:
    """For how many seconds the machine has run, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Calendar:
    """Seconds since 1970, kept over restarts of the host in a file.

    Attributes:
        ended_at: Where the machine has started anew since the host ran last: the last moment before; else None. How
            long it was off nobody knows, and nobody pays for it.
    """

    def __init__(
        self,
        path: Path,
        is_free: bool,
        wall: Callable[[], float] = time.time,
        uptime: Callable[[], float] = uptime,
    ) -> None:
        self._path = path
        self._uptime = uptime
        last = _read(path)
        self._anchor = Anchor.at_start(last, boot_id(), uptime(), wall(), is_free)
        is_new_run = last is not None and last.boot_id != self._anchor.boot_id
        self.ended_at = last.seen_at if last is not None and is_new_run else None
        self.save()

    def now(self) -> float:
        """Seconds since 1970."""
        return self._anchor.began_at + self._uptime()

    def save(self) -> None:
        """Write down that the host runs now; a disk that is full is none of the calendar's business."""
        anchor = Anchor(self._anchor.boot_id, self._anchor.began_at, self.now())
        with contextlib.suppress(OSError):
            write_private(self._path, json.dumps(asdict(anchor)))


def _read(path: Path) -> Anchor | None:
    try:
        return Anchor(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("the calendar is begun anew", extra={"path": str(path), "why": str(error)})
        return None
