"""Holds accelerators to their part of a GPU's memory by what the driver says that each process has.

An engine's own limit holds what its allocator gives out. What goes past it (a library's workspace, a second allocator,
code that took the process over) is seen here: whoever has more is ended and started again, before neighbours find no
memory.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from elastic_inference.host.gpus import memory_of_processes
from elastic_inference.units import format_bytes

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
CONTEXT_BYTES = 1 << 30
"""What CUDA's context and its libraries' handles take beside the engine's allocator, which the limit does not count:
several hundred MiB, more with each library that is loaded."""


@dataclass(frozen=True)
class Subject:
    """An accelerator on a GPU.

    Attributes:
        limit_bytes: What its engine may take of the device.
    """

    accelerator_id: str
    pid: int
    limit_bytes: int


def excesses(subjects: Iterable[Subject], used: Mapping[int, int]) -> list[tuple[Subject, str]]:
    """Return who has more than it may, and how that is told.

    Args:
        used: Bytes of device memory by process; a process that is not there has none.
    """
    found = []
    for subject in subjects:
        has = used.get(subject.pid, 0)
        if has > subject.limit_bytes + CONTEXT_BYTES:
            found.append(
                (
                    subject,
                    f"it had {format_bytes(has)} of the GPU's memory; its limit is "
                    f"{format_bytes(subject.limit_bytes)}, and {format_bytes(CONTEXT_BYTES)} for CUDA itself",
                )
            )
    return found


class GpuMemoryWatch:
    """A thread that looks each second, while there is an accelerator to look at.

    Args:
        subjects: Who is on a GPU now.
        end: Ends an accelerator's process, with the reason; it is started again.
        nvml: The module `pynvml`, or one like it; None: that of nvidia-ml-py.
    """

    def __init__(
        self,
        subjects: Callable[[], Iterable[Subject]],
        end: Callable[[str, str], None],
        nvml: Any = None,
    ) -> None:
        self._subjects = subjects
        self._end = end
        self._nvml = nvml
        self._stop = threading.Event()
        self._is_silent = False  # whether the log has said that the driver does not answer
        self._used: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="watch GPU memory", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def used_bytes(self, accelerator_id: str) -> int | None:
        """Device memory of an accelerator's process at the last look, CUDA's own included; None: not known."""
        return self._used.get(accelerator_id)

    def look(self) -> None:
        """Read once, and end whoever has too much."""
        subjects = list(self._subjects())
        used = memory_of_processes(self._nvml) if subjects else {}
        if used is None:
            self._used = {}
            if not self._is_silent:
                logger.warning("the driver does not say which process has how much of a GPU's memory")
            self._is_silent = True
            return
        self._is_silent = False
        self._used = {each.accelerator_id: used[each.pid] for each in subjects if each.pid in used}
        for subject, why in excesses(subjects, used):
            logger.error("accelerator is ended", extra={"accelerator_id": subject.accelerator_id, "why": why})
            self._end(subject.accelerator_id, why)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            with contextlib.suppress(Exception):  # such as a database that is away: the next look counts
                self.look()
