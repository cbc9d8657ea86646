"""Which processor this machine has, and which of its instructions decide how fast low precisions are."""

from __future__ import annotations

import contextlib
import platform
from functools import cache
from pathlib import Path

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
