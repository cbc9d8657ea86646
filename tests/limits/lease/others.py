"""What another user can do with a file of the lease: found out by a process of that user."""

from __future__ import annotations

import subprocess
from pathlib import Path


def try_as(uid: int, name: str, folder: Path) -> str:
    """`may write`, `may read` or `no way`."""
    for mode, answer in (("r+", "may write"), ("r", "may read")):
        done = subprocess.run(
            ["/bin/sh", "-c", {"r+": ': <> "$0"', "r": ': < "$0"'}[mode], str(folder / name)],
            user=uid,
            group=uid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=False,
        )
        if done.returncode == 0:
            return answer
    return "no way"
