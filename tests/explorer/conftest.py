"""Real parts for measuring: the testing engine known to this process, and started accelerators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from elastic_inference.testing.engine import register

# A measuring process that knows the testing engine too.
TESTING_WORKER = (
    sys.executable,
    "-c",
    "import sys; from elastic_inference.testing.engine import register; register(); "
    "from elastic_inference.explorer.measuring.worker import main; sys.exit(main())",
)


@pytest.fixture(autouse=True, scope="session")
def _testing_engine() -> None:
    register()


@pytest.fixture(scope="session")
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator() as running:
        yield running


@pytest.fixture
def quick_model(tmp_path: Path) -> str:
    """A model that takes 2 ms and one small input."""
    inputs = {"inputs": ("float32", (None, 4))}
    return str(write_model(tmp_path / "quick.testing", inputs=inputs, wait_seconds=0.002))
