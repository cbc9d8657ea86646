"""Limits by cgroup v2: on a directory that answers as the kernel does, and on a real hierarchy without controllers."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.errors import AcceleratorNotFound, LimitError
from elastic_inference.limits.base import MEBIBYTE, LimitRequest, held_command
from elastic_inference.limits.cgroup2 import CgroupV2
from elastic_inference.limits.files import CgroupFiles, kill_all, remove_groups
from elastic_inference.limits.mounts import GroupMount, GroupMounts, read_mounts
from tests.limits.fake_cgroup2 import FakeCgroup2Files
from tests.waiting import read_line

ID = "eia-" + "ab" * 16


def request(share: float = 0.25, memory_bytes: int = 512 * MEBIBYTE, may_burst: bool = False) -> LimitRequest:
    return LimitRequest(ID, share, 4.0, memory_bytes, may_burst)


@pytest.fixture
def files(tmp_path: Path) -> FakeCgroup2Files:
    return FakeCgroup2Files(tmp_path)


@pytest.fixture
def limits(tmp_path: Path, files: FakeCgroup2Files) -> CgroupV2:
    return CgroupV2(GroupMounts({}, GroupMount(tmp_path, tmp_path)), files=files, machine_cores=4.0)


def group(root: Path) -> Path:
    return root / "elastic-inference" / ID


def test_quota_weight_and_memory_stand_in_the_files_of_the_group(limits: CgroupV2, tmp_path: Path) -> None:
    applied = limits.apply(request())
    values = {name: (group(tmp_path) / name).read_text().strip() for name in
              ("cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "memory.oom.group")}  # fmt: skip
    assert values == {
        "cpu.max": "10000 10000",
        "cpu.weight": "2500",
        "memory.max": str(512 * MEBIBYTE),
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    }
    assert applied.num_threads == 1
    assert applied.duty_cycle_share is None
    assert "10 ms in each 10 ms" in applied.describe()["compute"]
    assert "512.0 MiB by cgroup v2" in applied.describe()["memory"]


def test_bursting_is_weight_without_a_quota(limits: CgroupV2, tmp_path: Path) -> None:
    applied = limits.apply(request(may_burst=True))
    assert (group(tmp_path) / "cpu.max").read_text() == "max 10000\n"
    assert (group(tmp_path) / "cpu.weight").read_text() == "2500\n"
    assert applied.num_threads == 4
    assert "no quota" in applied.describe()["compute"]


def test_the_whole_device_has_no_quota_but_most_of_it_has(limits: CgroupV2, tmp_path: Path) -> None:
    applied = limits.apply(LimitRequest(ID, 1.0, 3.8, 512 * MEBIBYTE))
    assert (group(tmp_path) / "cpu.max").read_text() == "max 10000\n"
    assert "the whole device" in applied.describe()["compute"]
    limits.update(LimitRequest(ID, 0.9, 3.8, 512 * MEBIBYTE))
    assert (group(tmp_path) / "cpu.max").read_text() == "34200 10000\n"
    limits.update(LimitRequest(ID, 1.0, 2.0, 512 * MEBIBYTE))
    assert (group(tmp_path) / "cpu.max").read_text() == "20000 10000\n"


def test_cores_stand_in_the_file_of_the_group(limits: CgroupV2, tmp_path: Path) -> None:
    limits.apply(request())
    assert (group(tmp_path) / "cpuset.cpus").read_text().strip() == ""  # all that the host may use
    assert limits.keep_to_cores(ID, frozenset({3, 0})) == "cpuset"
    assert (group(tmp_path) / "cpuset.cpus").read_text() == "0,3\n"
    limits.update(request(share=0.5))
    assert (group(tmp_path) / "cpuset.cpus").read_text() == "0,3\n"


@pytest.mark.parametrize(("offered", "is_wanted"), [("cpu memory", True), ("cpuset cpu memory", False)])
def test_without_cpuset_the_limits_hold_and_cores_are_a_matter_of_threads(
    tmp_path: Path, offered: str, is_wanted: bool
) -> None:
    files, mounts = FakeCgroup2Files(tmp_path, offered), GroupMounts({}, GroupMount(tmp_path, tmp_path))
    limits = CgroupV2(mounts, files=files, machine_cores=4.0, use_cpuset=is_wanted)
    limits.apply(request())
    assert limits.keep_to_cores(ID, frozenset({0})) == "affinity of threads"
    assert not (group(tmp_path) / "cpuset.cpus").exists()


def test_a_group_of_an_earlier_host_without_cpuset_is_given_it(limits: CgroupV2, tmp_path: Path) -> None:
    files, mounts = FakeCgroup2Files(tmp_path), GroupMounts({}, GroupMount(tmp_path, tmp_path))
    CgroupV2(mounts, files=files, machine_cores=4.0, use_cpuset=False).apply(request())
    assert limits.keep_to_cores(ID, frozenset({0})) == "affinity of threads"
    limits.apply(request())
    assert limits.keep_to_cores(ID, frozenset({0})) == "cpuset"


def test_cores_of_an_accelerator_without_a_group_are_fine(limits: CgroupV2) -> None:
    limits.keep_to_cores(ID, frozenset({0}))


def test_all_accelerators_together_outweigh_other_work(limits: CgroupV2, tmp_path: Path) -> None:
    limits.apply(request())
    assert (tmp_path / "elastic-inference" / "cpu.weight").read_text() == "4000\n"


def test_a_share_below_a_millisecond_in_ten_gets_a_longer_period(limits: CgroupV2, tmp_path: Path) -> None:
    limits.apply(request(share=0.01))
    assert (group(tmp_path) / "cpu.max").read_text() == "1000 25000\n"


def test_a_share_that_the_kernel_cannot_hold_is_refused_and_leaves_no_group(
    limits: CgroupV2, tmp_path: Path
) -> None:
    with pytest.raises(LimitError, match="less than the kernel can hold"):
        limits.apply(request(share=0.0001))
    assert not group(tmp_path).exists()


def test_a_service_that_sits_in_its_own_group_moves_to_a_leaf_first(
    limits: CgroupV2, files: FakeCgroup2Files, tmp_path: Path
) -> None:
    files.write(tmp_path / "cgroup.procs", os.getpid())
    limits.apply(request())
    leaf = tmp_path / "elastic-inference-host"
    assert files.processes(leaf) == (os.getpid(),)
    again = CgroupV2(GroupMounts({}, GroupMount(tmp_path, leaf)), files=files, machine_cores=4.0)
    assert again.list_existing() == (ID,)


def test_a_group_shared_with_others_is_refused_and_says_what_to_do(
    limits: CgroupV2, files: FakeCgroup2Files, tmp_path: Path
) -> None:
    files.write(tmp_path / "cgroup.procs", 1)
    with pytest.raises(LimitError, match=r"also holds the processes \[1\].*Delegate=yes"):
        limits.apply(request())


def test_a_hierarchy_without_the_controllers_is_refused_by_name(tmp_path: Path) -> None:
    mounts = GroupMounts({}, GroupMount(tmp_path, tmp_path))
    with pytest.raises(LimitError, match="does not offer the controllers memory"):
        CgroupV2(mounts, files=FakeCgroup2Files(tmp_path, "cpu pids"))


def test_a_resize_below_what_is_in_use_is_refused_and_the_old_limit_stands(
    limits: CgroupV2, tmp_path: Path
) -> None:
    limits.apply(request())
    (group(tmp_path) / "memory.current").write_text(str(300 * MEBIBYTE))
    (group(tmp_path) / "memory.stat").write_text(f"anon 0\ninactive_file {20 * MEBIBYTE}\n")
    with pytest.raises(LimitError, match=r"280\.0 MiB.*256\.0 MiB"):
        limits.update(request(memory_bytes=256 * MEBIBYTE))
    assert limits.usage(ID).memory_limit_bytes == 512 * MEBIBYTE
    assert limits.update(request(memory_bytes=288 * MEBIBYTE)).rlimit_data_bytes < 288 * MEBIBYTE
    assert limits.usage(ID).memory_limit_bytes == 288 * MEBIBYTE


def test_usage_reads_what_the_kernel_counts(limits: CgroupV2, tmp_path: Path) -> None:
    limits.apply(request())
    (group(tmp_path) / "cpu.stat").write_text("usage_usec 1500000\nthrottled_usec 250000\n")
    (group(tmp_path) / "memory.events").write_text("oom 2\noom_kill 2\n")
    usage = limits.usage(ID)
    assert (usage.cpu_seconds, usage.throttled_seconds, usage.num_oom_kills) == (1.5, 0.25, 2)


def test_an_accelerator_without_a_group_is_not_found(limits: CgroupV2) -> None:
    for call in (
        lambda: limits.usage(ID),
        lambda: limits.update(request()),
        lambda: limits.add_process(ID, 1),
    ):
        with pytest.raises(AcceleratorNotFound):
            call()


def test_release_and_close_leave_nothing(limits: CgroupV2, tmp_path: Path) -> None:
    limits.apply(request())
    limits.release(ID)
    limits.release(ID)
    limits.close()
    limits.close()
    assert [entry for entry in tmp_path.iterdir() if entry.is_dir()] == []


@pytest.fixture
def real_group() -> Iterator[Path]:
    mount = read_mounts().v2
    if mount is None or not os.access(mount.own_group, os.W_OK) or os.geteuid() != 0:
        pytest.skip("needs a v2 hierarchy that this user may write")
    directory = mount.own_group / f"elastic-inference-test-{uuid.uuid4().hex}"
    CgroupFiles().make(directory)
    yield directory
    kill_all(CgroupFiles(), [directory])
    remove_groups(CgroupFiles(), [directory])


def test_on_a_real_v2_hierarchy_children_are_counted_and_killed_with_the_group(real_group: Path) -> None:
    files = CgroupFiles()
    script = "sh -c 'while :; do :; done' & echo started; wait"
    with subprocess.Popen(held_command(["sh", "-c", script]), stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        files.write(real_group / "cgroup.procs", process.pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert read_line(process) == "started"
        assert len(files.processes(real_group)) == 2
        kill_all(files, [real_group])
        assert files.processes(real_group) == ()
    assert files.table(real_group / "cpu.stat")["usage_usec"] > 0


HAND_ON = """
import sys
from elastic_inference.errors import LimitError
from elastic_inference.limits import cgroup2
from elastic_inference.limits.mounts import read_mounts

cgroup2._CONTROLLERS = (sys.argv[1],)
limits = cgroup2.CgroupV2(read_mounts())
try:
    limits._prepare_parents(1.0)
except LimitError as error:
    print(error)  # without the controller cpu there is no cpu.weight, which comes last
print(read_mounts().v2.own_group.name)
print((limits._parent / "cgroup.controllers").read_text().strip())
"""


def test_on_a_real_v2_hierarchy_a_service_moves_to_a_leaf_and_hands_its_controller_on(
    real_group: Path,
) -> None:
    top, files = real_group.parent, CgroupFiles()
    offered = (top / "cgroup.controllers").read_text().split()
    handed_on = (top / "cgroup.subtree_control").read_text().split()
    free = [name for name in offered if name not in handed_on]
    if not free:
        pytest.skip("needs a v2 controller that nothing uses yet")
    files.write(top / "cgroup.subtree_control", f"+{free[0]}")
    try:
        command = held_command([sys.executable, "-c", HAND_ON, free[0]])
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
            files.write(real_group / "cgroup.procs", process.pid)
            output, _ = process.communicate("go\n", timeout=60)
        refusal, own_group, controllers = output.splitlines()
        assert "cpu.weight did not take" in refusal
        assert own_group == "elastic-inference-host"
        assert controllers == free[0]
    finally:
        for child in files.groups(real_group):
            kill_all(files, [child])
        remove_groups(files, files.groups(real_group))
        files.write(real_group / "cgroup.subtree_control", f"-{free[0]}")
        files.write(top / "cgroup.subtree_control", f"-{free[0]}")
