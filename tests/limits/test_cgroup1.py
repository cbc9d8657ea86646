"""Limits by cgroup v1 on the kernel of this machine; skipped where the host may not write there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.errors import AcceleratorNotFound, LimitError
from elastic_inference.limits.base import MEBIBYTE, LimitRequest, Limits, held_command
from elastic_inference.limits.cgroup1 import CgroupV1
from elastic_inference.limits.detect import detect
from elastic_inference.limits.mounts import GroupMount, GroupMounts, read_mounts
from tests.waiting import read_line


def new_id() -> str:
    return f"eia-{uuid.uuid4().hex}"


def request(accelerator_id: str, share: float = 0.5, mebibytes: int = 128, **more: bool) -> LimitRequest:
    return LimitRequest(accelerator_id, share, 1.0, mebibytes * MEBIBYTE, **more)


@pytest.fixture
def parent_name() -> str:
    return f"elastic-inference-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def limits(parent_name: str) -> Iterator[Limits]:
    try:
        found = detect("cgroup v1", parent_name=parent_name)
    except LimitError as error:
        pytest.skip(f"needs cgroup v1: {error}")
    yield found
    for accelerator_id in found.list_existing():
        found.release(accelerator_id)
    found.close()


class Held:
    """A Python program held by limits before it starts; told by `tell`, answering by `line`."""

    def __init__(self, limits: Limits, accelerator_id: str, program: str) -> None:
        self.process = subprocess.Popen(
            held_command([sys.executable, "-c", program]), stdin=-1, stdout=-1, stderr=-1, text=True
        )
        limits.add_process(accelerator_id, self.process.pid)
        self.tell("go")

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        return read_line(self.process)

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate(timeout=60)


@contextlib.contextmanager
def held(limits: Limits, accelerator_id: str, program: str) -> Iterator[Held]:
    started = Held(limits, accelerator_id, program)
    try:
        yield started
    finally:
        started.close()


def test_what_an_accelerator_starts_is_held_with_it_and_dies_with_its_group(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    program = "import subprocess; c = subprocess.Popen(['sleep', '100']); print(c.pid, flush=True); c.wait()"
    with held(limits, accelerator_id, program) as started:
        child_pid = int(started.line())
        assert limits.processes(accelerator_id) == tuple(sorted((started.process.pid, child_pid)))
        limits.release(accelerator_id)
        assert started.process.wait(30) == -9
        assert limits.processes(accelerator_id) == ()
    with pytest.raises(AcceleratorNotFound):
        limits.usage(accelerator_id)
    limits.release(accelerator_id)


def test_the_quota_of_the_kernel_holds_a_busy_accelerator_back(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id, share=0.2))
    program = (
        "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\nwhile True: pass"
    )
    with held(limits, accelerator_id, program) as started:
        assert started.line() == "done"
        usage = limits.usage(accelerator_id)
        assert usage.cpu_seconds > 0.25  # the kernel counts up to its last tick
        assert usage.throttled_seconds > 0
        assert 0 < usage.memory_bytes < usage.memory_limit_bytes == 128 * MEBIBYTE


def test_too_much_memory_is_an_error_in_the_process_before_it_is_a_kill(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    program = (
        "try: bytearray(200 << 20)\nexcept MemoryError: print('refused', flush=True)\n"
        "print(len(bytearray(64 << 20)), flush=True)"
    )
    with held(limits, accelerator_id, program) as started:
        assert started.line() == "refused"
        assert started.line() == str(64 << 20)
    assert limits.usage(accelerator_id).num_oom_kills == 0


def test_memory_that_the_data_limit_does_not_see_is_stopped_by_the_kernel(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    # Shared anonymous memory counts to no RLIMIT_DATA, but to the group.
    program = (
        "import mmap; m = mmap.mmap(-1, 200 << 20)\n"
        "for _ in range(200): m.write(bytes(1 << 20))\n"
        "print('had it')"
    )
    with held(limits, accelerator_id, program) as started:
        assert started.line() == ""
        assert started.process.wait(30) == -9
    assert limits.usage(accelerator_id).num_oom_kills == 1


def test_an_accelerator_killed_for_memory_is_started_again_under_the_same_limits(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    for _ in range(2):
        with held(limits, accelerator_id, "print('up', flush=True); input()") as started:
            assert started.line() == "up"
            started.process.kill()
            started.process.wait(30)
    assert limits.list_existing() == (accelerator_id,)


def test_a_running_accelerator_gets_more_and_then_less_memory(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    program = (
        "import sys\nfor line in sys.stdin:\n"
        "  try: print(len(bytearray(int(line) << 20)), flush=True)\n"
        "  except MemoryError: print('refused', flush=True)"
    )
    with held(limits, accelerator_id, program) as started:
        started.tell("200")
        assert started.line() == "refused"
        applied = limits.update(request(accelerator_id, mebibytes=512, share=1.0))
        assert applied.rlimit_data_bytes > 400 * MEBIBYTE
        started.tell("200")
        assert started.line() == str(200 << 20)
        limits.update(request(accelerator_id, mebibytes=96))
        started.tell("200")
        assert started.line() == "refused"
        assert limits.usage(accelerator_id).memory_limit_bytes == 96 * MEBIBYTE


def test_quota_period_and_weight_stand_in_the_files_of_the_kernel(limits: Limits, parent_name: str) -> None:
    accelerator_id = new_id()
    group = read_mounts().v1["cpu"].own_group / parent_name / accelerator_id

    def values() -> list[int]:
        return [
            int((group / f"cpu.{name}").read_text()) for name in ("cfs_quota_us", "cfs_period_us", "shares")
        ]

    limits.apply(request(accelerator_id, share=0.5))
    assert values() == [5000, 10_000, 512]
    limits.update(request(accelerator_id, share=0.02))
    assert values() == [1000, 50_000, 20]
    limits.update(request(accelerator_id, share=0.25, may_burst=True))
    assert values() == [-1, 10_000, 256]


PINS_ITSELF = """
import os, sys, threading
def serve():
    for line in sys.stdin:
        try: os.sched_setaffinity(0, {int(line)})
        except OSError as error: print(error.strerror, flush=True)
        else: print(*os.sched_getaffinity(0), flush=True)
threading.Thread(target=serve).start()
"""


@pytest.fixture
def cpuset(limits: Limits, parent_name: str) -> Path:
    """The group of cpuset that holds those of the accelerators."""
    if "no cpuset" in limits.reason or "cpuset" not in read_mounts().v1:
        pytest.skip("needs the v1 controller cpuset, mounted and writable")
    return read_mounts().v1["cpuset"].own_group / parent_name


def two_cores() -> tuple[int, int]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("needs two cores")
    return cores[0], cores[1]


def cores_of_threads(pid: int) -> list[set[int]]:
    return [os.sched_getaffinity(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")]


def test_a_thread_with_an_affinity_of_its_own_is_moved_by_the_kernel_and_cannot_go_back(
    limits: Limits, cpuset: Path
) -> None:
    first, second = two_cores()
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    with held(limits, accelerator_id, PINS_ITSELF) as started:
        started.tell(str(first))
        assert started.line() == str(first)
        (cpuset / accelerator_id / "cpuset.cpus").write_text(str(second))
        assert cores_of_threads(started.process.pid) == [{second}, {second}]
        started.tell(str(first))
        assert started.line() == "Invalid argument"
        assert cores_of_threads(started.process.pid) == [{second}, {second}]


def test_cores_are_held_by_cpuset_and_given_back_to_threads_that_had_fewer(
    limits: Limits, cpuset: Path
) -> None:
    first, second = two_cores()
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    with held(limits, accelerator_id, PINS_ITSELF) as started:
        assert limits.keep_to_cores(accelerator_id, frozenset({first})) == "cpuset"
        started.tell(str(second))
        assert started.line() == "Invalid argument"
        started.tell(str(first))
        assert started.line() == str(first)
        assert limits.keep_to_cores(accelerator_id, frozenset({first, second})) == "cpuset"
        assert cores_of_threads(started.process.pid) == [{first, second}, {first, second}]
        limits.update(request(accelerator_id, mebibytes=256))
        limits.keep_to_cores(accelerator_id, frozenset({second}))
        limits.apply(request(accelerator_id))  # as a host that takes it over
        assert cores_of_threads(started.process.pid) == [{second}, {second}]
    limits.release(accelerator_id)
    assert not (cpuset / accelerator_id).exists()
    limits.keep_to_cores(accelerator_id, frozenset({first}))


def test_processes_of_an_earlier_host_that_used_no_cpuset_are_put_in(
    limits: Limits, cpuset: Path, parent_name: str
) -> None:
    accelerator_id = new_id()
    earlier = CgroupV1(read_mounts(), parent_name, use_cpuset=False)
    earlier.apply(request(accelerator_id))
    program = "import subprocess; c = subprocess.Popen(['sleep', '100']); print(c.pid, flush=True); c.wait()"
    with held(earlier, accelerator_id, program) as started:
        child_pid = int(started.line())
        core = min(os.sched_getaffinity(0))
        assert earlier.keep_to_cores(accelerator_id, frozenset({core})) == "affinity of threads"
        assert limits.list_existing() == (accelerator_id,)
        limits.apply(request(accelerator_id))
        members = {int(line) for line in (cpuset / accelerator_id / "cgroup.procs").read_text().split()}
        assert members == {started.process.pid, child_pid}
        assert limits.keep_to_cores(accelerator_id, frozenset({core})) == "cpuset"
        limits.release(accelerator_id)
        assert not (cpuset / accelerator_id).exists()


def test_a_host_whose_own_cores_are_limited_gives_no_others(cpuset: Path, parent_name: str) -> None:
    first, second = two_cores()
    mounts, own = read_mounts(), cpuset.parent / f"{cpuset.name}-own"
    own.mkdir()
    try:
        (own / "cpuset.mems").write_text((own.parent / "cpuset.mems").read_text())
        (own / "cpuset.cpus").write_text(str(first))
        inside = GroupMounts({**mounts.v1, "cpuset": GroupMount(mounts.v1["cpuset"].mount_point, own)})
        limits, accelerator_id = CgroupV1(inside, parent_name), new_id()
        limits.apply(request(accelerator_id))
        with held(limits, accelerator_id, "print('up', flush=True); input()") as started:
            assert started.line() == "up"
            assert cores_of_threads(started.process.pid) == [{first}]
            with pytest.raises(LimitError, match=r"cpuset\.cpus did not take"):
                limits.keep_to_cores(accelerator_id, frozenset({second}))
        limits.release(accelerator_id)
        limits.close()
    finally:
        own.rmdir()


@pytest.mark.usefixtures("limits")
def test_where_cpuset_cannot_be_written_the_other_limits_hold_and_say_so(
    parent_name: str, tmp_path: Path
) -> None:
    mounts = GroupMounts({**read_mounts().v1, "cpuset": GroupMount(tmp_path, tmp_path)})  # no group takes it
    found, accelerator_id = detect("cgroup v1", parent_name=parent_name, mounts=mounts), new_id()
    assert "no cpuset: " in found.reason
    assert str(tmp_path) in found.reason
    found.apply(request(accelerator_id))
    with held(found, accelerator_id, "print('up', flush=True); input()") as started:
        assert started.line() == "up"
        core = min(os.sched_getaffinity(0))
        assert found.keep_to_cores(accelerator_id, frozenset({core})) == "affinity of threads"
        assert cores_of_threads(started.process.pid) == [{core}]
    found.release(accelerator_id)


def test_a_refused_request_leaves_no_group(limits: Limits) -> None:
    with pytest.raises(LimitError, match="less than the kernel can hold"):
        limits.apply(request(new_id(), share=0.0001))
    assert limits.list_existing() == ()


def test_a_process_that_has_ended_cannot_be_held(limits: Limits) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    ended = subprocess.Popen(["true"])
    ended.wait(30)
    with pytest.raises(LimitError, match=r"cgroup\.procs did not take"):
        limits.add_process(accelerator_id, ended.pid)


@pytest.mark.parametrize("forged", ["..", "../x", "eia-", "", "eia-" + "0" * 32 + "/.."])
def test_a_forged_id_reaches_no_file(limits: Limits, forged: str) -> None:
    with pytest.raises(AcceleratorNotFound):
        limits.release(forged)
    with pytest.raises(AcceleratorNotFound):
        limits.usage(forged)


def test_a_host_started_in_another_session_finds_the_groups_of_its_predecessor(
    limits: Limits, parent_name: str
) -> None:
    accelerator_id = new_id()
    limits.apply(request(accelerator_id))
    with held(limits, accelerator_id, "print('up', flush=True); input()") as started:
        assert started.line() == "up"
        mounts, session = read_mounts(), f"elastic-inference-test-session-{os.getpid()}"
        own = mounts.v1["memory"].own_group / session
        own.mkdir()
        try:
            elsewhere = GroupMounts({**mounts.v1, "memory": GroupMount(mounts.v1["memory"].mount_point, own)})
            successor = CgroupV1(elsewhere, parent_name)
            assert successor.list_existing() == (accelerator_id,)
            assert successor.processes(accelerator_id) == (started.process.pid,)
            successor.release(accelerator_id)
            assert started.process.wait(30) == -9
            assert limits.list_existing() == ()
        finally:
            own.rmdir()


def test_controllers_that_are_mounted_together_are_one_directory(tmp_path: Path) -> None:
    joint, memory = GroupMount(tmp_path / "cc", tmp_path / "cc"), GroupMount(tmp_path / "m", tmp_path / "m")
    limits = CgroupV1(GroupMounts({"cpu": joint, "cpuacct": joint, "cpuset": joint, "memory": memory}), "p")
    assert limits._directories("eia-" + "0" * 32) == (
        tmp_path / "cc" / "p" / ("eia-" + "0" * 32),
        tmp_path / "m" / "p" / ("eia-" + "0" * 32),
    )


def test_a_machine_without_the_memory_controller_is_refused_by_name(tmp_path: Path) -> None:
    mount = GroupMount(tmp_path, tmp_path)
    with pytest.raises(LimitError, match="memory are not mounted"):
        CgroupV1(GroupMounts({"cpu": mount, "cpuacct": mount}))
