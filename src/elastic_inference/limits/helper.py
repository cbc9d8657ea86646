"""What root in a container may not do to a process of another user, done by a program with that user."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from elastic_inference.errors import LimitError
from elastic_inference.limits.processes import process_uid

_HELPER_SECONDS = 10.0


def run_as(uid: int, arguments: Sequence[str], pid: int, what: str) -> None:
    """Run a program of util-linux on a process, or a thread, with its own user; one that has ended is fine.

    Not by a thread of ours that changes its own user for the moment: the other one could send it a signal then.

    Args:
        what: What could not be done, for the error.

    Raises:
        LimitError: The program is not installed, or was refused too.
    """
    try:
        finished = subprocess.run(
            arguments,
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LimitError(f"{what}: {error}") from error
    if finished.returncode and process_uid(pid) is not None:
        raise LimitError(f"{what}: {finished.stderr.strip()}")
