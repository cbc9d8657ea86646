"""Which versions of the package may be parts of one pool, and which one is installed on this machine by now."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass

from elastic_inference.errors import InvalidInput, StartFailed

PROTOCOL = 2
"""Of what a pool and its hosts say to each other. To be raised with each change that the other side would not take."""

_CHECK_SECONDS = 60.0
_SHOWN_CHARACTERS = 400


@dataclass(frozen=True)
class Version:
    """What a part of a pool is, or would be if it were started now."""

    version: str
    protocol: int

    def __str__(self) -> str:
        return f"{self.version} (protocol {self.protocol})"


def running() -> Version:
    """Return what this process is; its version as it is installed now, so ask when it starts."""
    return Version(importlib.metadata.version("elastic-inference"), PROTOCOL)


def installed() -> Version:
    """Return what a process that starts now would be: a process is asked, which imports all that a host needs.

    Raises:
        StartFailed: It cannot; with its last words.
    """
    command = [sys.executable, "-m", "elastic_inference", "pool", "run-host", "--check", "--json"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CHECK_SECONDS,
            check=True,
        )
        told = json.loads(done.stdout)
        return Version(str(told["version"]), int(told["protocol"]))
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip() or "nothing was said")[-_SHOWN_CHARACTERS:]
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, KeyError) as error:
        why = str(error)
    raise StartFailed(f"what is installed there cannot run a host: {why}")


def check_together(what: str, part: Version, pool: Version) -> None:
    """Raise InvalidInput where something of this version cannot be a part of a pool of that one."""
    if part.protocol != pool.protocol:
        raise InvalidInput(
            f"{what} has version {part}, and the pool {pool}; parts of a pool speak one protocol: install a version "
            "that does, or stop the pool and start it with the same version everywhere"
        )
