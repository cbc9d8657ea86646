"""Run a piece of Python in an interpreter of its own, in which some modules cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def run_without(blocked: Sequence[str], code: str, *arguments: str) -> str:
    """Run `code` where importing any of `blocked` raises ImportError, as if it were not installed.

    Returns:
        What it printed.

    Raises:
        AssertionError: It failed; with what it wrote to standard error.
    """
    block = f"import sys\nfor name in {list(blocked)!r}:\n    sys.modules[name] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", block + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
