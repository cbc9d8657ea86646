"""Disks for tests: a small one, and one that may only be read."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(megabytes: int = 8) -> Iterator[Path]:
    """Mount a disk of so many MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, who may mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="ei-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False, timeout=120).returncode:
        folder.rmdir()
        pytest.skip("needs the right to mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=120)
        folder.rmdir()


def make_read_only(folder: Path) -> None:
    """Let nobody write to a disk of `small_disk`, root neither."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, timeout=120)
