"""What all tests need, wherever they are run from."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

# What a shell starts in the background may be told to ignore Ctrl-C and hands that on; tests send it to their programs.
signal.signal(signal.SIGINT, signal.default_int_handler)

with contextlib.suppress(
    ModuleNotFoundError
):  # the environments of PyTorch and of foreign clients do without it
    from hypothesis import HealthCheck, settings

    # How long an example takes says something of the machine and its neighbours, and nothing of the code.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

# Tests of the store that embedded accelerators share say where it is; the others leave this user's alone.
os.environ["EI_STORE_SIZE"] = "0"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Give a file's tests to one process, because they share what was costly to start; all of the pool's to one.

    Each of these starts several Ray nodes: two pools at once would take the machine from all others.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "tests/pool" if nodeid.startswith("tests/pool/") else str(super()._split_scope(nodeid))

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def process_as_before() -> Iterator[None]:
    """Take back what a command that ran in this process left: a log to a stream that is closed by now, a priority."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    on_term = signal.getsignal(signal.SIGTERM)
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    if os.getpriority(os.PRIO_PROCESS, 0) != priority:
        os.setpriority(os.PRIO_PROCESS, 0, priority)
    if signal.getsignal(signal.SIGTERM) != on_term:
        signal.signal(signal.SIGTERM, on_term)
