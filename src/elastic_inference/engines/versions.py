"""What a compiled model depends on beside itself: the CPU, and the code here that decided how it is computed."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

_FEATURES = ("flags", "Features")  # of x86, of Arm
_DECIDING = ("engines", "models")


@cache
def cpu_key() -> str:
    """Return a text that is equal for CPUs of equal features: the architecture, and a hash of what it can do."""
    features = ""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() in _FEATURES:
                features = " ".join(sorted(value.split()))
                break
    except OSError:
        features = platform.processor()
    return f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()[:16]}"


@cache
def code_key() -> str:
    """Return a text that is equal for equal code of ours: what is known of operations, cut, rewritten and checked.

    A hash of the sources and not a version number, which somebody would forget to change. It takes 3 ms.
    """
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    paths = sorted(path for part in _DECIDING for path in (package / part).rglob("*.py"))
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16] if paths else version("elastic-inference")
