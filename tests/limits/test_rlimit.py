"""Limits that need no right: RLIMIT_DATA, and a share that the accelerator holds itself."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pytest

from elastic_inference.errors import AcceleratorNotFound, LimitError
from elastic_inference.limits.base import MEBIBYTE, LimitRequest, held_command
from elastic_inference.limits.rlimit import RlimitAndDutyCycle
from tests.waiting import read_line


def new_id() -> str:
    return f"eia-{uuid.uuid4().hex}"


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(held_command([sys.executable, "-c", program]), stdin=-1, stdout=-1, text=True)


def ask(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return read_line(process)


ALLOCATES = """
import sys
print('up', flush=True)
for line in sys.stdin:
    try: print(len(bytearray(int(line) << 20)), flush=True)
    except MemoryError: print('refused', flush=True)
"""


def test_memory_is_held_from_the_start_and_resized_while_running() -> None:
    limits, accelerator_id = RlimitAndDutyCycle(), new_id()
    applied = limits.apply(LimitRequest(accelerator_id, 0.5, 2.0, 128 * MEBIBYTE))
    assert applied.rlimit_data_bytes == 128 * MEBIBYTE
    assert applied.duty_cycle_share == 1.0  # one thread: half of two cores
    with start(ALLOCATES) as process:
        limits.add_process(accelerator_id, process.pid)
        assert ask(process, "go") == "up"
        assert ask(process, "200") == "refused"
        limits.update(LimitRequest(accelerator_id, 0.25, 2.0, 512 * MEBIBYTE))
        assert ask(process, "200") == str(200 << 20)
        usage = limits.usage(accelerator_id)
        assert usage.memory_limit_bytes == 512 * MEBIBYTE
        assert usage.cpu_seconds > 0
        assert usage.memory_bytes > 0
        limits.release(accelerator_id)
        assert process.wait(30) == -9


def test_release_kills_what_the_accelerator_started_too() -> None:
    limits, accelerator_id = RlimitAndDutyCycle(), new_id()
    limits.apply(LimitRequest(accelerator_id, 0.5, 2.0, 128 * MEBIBYTE))
    program = "import subprocess; c = subprocess.Popen(['sleep', '100']); print(c.pid, flush=True); c.wait()"
    with start(program) as p:
        limits.add_process(accelerator_id, p.pid)
        child_pid = int(ask(p, "go"))
        assert child_pid in limits.processes(accelerator_id)
        limits.release(accelerator_id)
    assert limits.processes(accelerator_id) == ()
    assert limits.list_existing() == ()


def test_all_that_an_accelerator_started_is_kept_to_cores() -> None:
    limits, accelerator_id = RlimitAndDutyCycle(), new_id()
    limits.apply(LimitRequest(accelerator_id, 0.5, 2.0, 128 * MEBIBYTE))
    program = "import subprocess; c = subprocess.Popen(['sleep', '100']); print(c.pid, flush=True); c.wait()"
    core = min(os.sched_getaffinity(0))
    with start(program) as p:
        limits.add_process(accelerator_id, p.pid)
        child_pid = int(ask(p, "go"))
        assert limits.keep_to_cores(accelerator_id, frozenset({core})) == "affinity of threads"
        assert [os.sched_getaffinity(pid) for pid in (p.pid, child_pid)] == [{core}, {core}]
        limits.release(accelerator_id)
    limits.keep_to_cores(accelerator_id, frozenset({core}))


def test_a_bursting_accelerator_is_not_held_and_says_so() -> None:
    applied = RlimitAndDutyCycle().apply(LimitRequest(new_id(), 0.5, 2.0, 128 * MEBIBYTE, may_burst=True))
    assert applied.duty_cycle_share is None
    assert "not held" in applied.describe()["compute"]


def test_an_unknown_accelerator_and_an_ended_process_are_refused() -> None:
    limits, accelerator_id = RlimitAndDutyCycle(), new_id()
    with pytest.raises(AcceleratorNotFound):
        limits.usage(accelerator_id)
    limits.apply(LimitRequest(accelerator_id, 0.5, 2.0, 128 * MEBIBYTE))
    ended = subprocess.Popen(["true"])
    ended.wait(30)
    with pytest.raises(LimitError, match="has ended"):
        limits.add_process(accelerator_id, ended.pid)
    limits.release(accelerator_id)
