"""Which processor this machine has, which of its instructions decide how fast low precisions are, and who uses it."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import psutil

# As Linux names them: vectors of 512 bits, products of bfloat16 and of bytes, and tiles of both.
_DECISIVE = (
    "avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm",
)  # fmt: skip


@cache
def processor() -> str:
    """Return its name and those of these instructions that it has, such as `AMD EPYC (avx2 avx512f)`."""
    name, flags = platform.machine(), set[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = (part.strip() for part in line.partition(":"))
            if key == "model name":
                name = value
            elif key in ("flags", "Features"):
                flags = set(value.split())
                break
    has = " ".join(flag for flag in _DECISIVE if flag in flags)
    return f"{name} ({has})" if has else name


class Bystanders:
    """How much of the machine others use from now on: times that were taken beside them are not the model's own.

    Args:
        pids: Processes that count as this one's own; they must live until `share` is asked.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = (os.getpid(), *pids)
        self._start = self._look()

    def share(self) -> float:
        """0 to 1 of all cores since the start."""
        busy, own, elapsed = (now - then for now, then in zip(self._look(), self._start, strict=True))
        return min(1.0, max(0.0, (busy - own) / max(elapsed * (os.cpu_count() or 1), 1e-9)))

    def _look(self) -> tuple[float, float, float]:
        total = psutil.cpu_times()
        busy = (
            total.user
            + total.system
            + total.nice
            + getattr(total, "irq", 0.0)
            + getattr(total, "softirq", 0.0)
        )
        own = 0.0
        for pid in self._pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = psutil.Process(pid).cpu_times()
                own += times.user + times.system
        return busy, own, time.monotonic()
