"""A machine whose /dev/shm is small, as in containers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.small_models import write_saved_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _may_unshare() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs the command unshare")
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no mount namespace of its own can be had here: {done.stderr.strip()}")


def run(folder: Path, size: str) -> dict[str, Any]:
    model = write_saved_model(folder / "model", seed=3)
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-m", "tests.integration.small_shared_memory", str(model), size],
        capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_all_answers_are_right_and_nothing_stays_taken(tmp_path: Path) -> None:
    """8 threads want 0.1 to 0.7 MiB each of 1 MiB."""
    found = run(tmp_path, "1m")
    assert found["counts"] == {"right": 48}
    assert (found["before"], found["after"]) == ("unix + shared memory", "unix")
    assert any("shared memory is not used: no region of" in note for note in found["notes"])
    assert found["second"] == "unix + shared memory"
    assert found["names"] == []


def test_one_that_holds_no_region_at_all(tmp_path: Path) -> None:
    found = run(tmp_path, "4k")
    assert found["counts"] == {"right": 48}
    assert (found["before"], found["after"], found["second"]) == ("unix", "unix", "unix")
