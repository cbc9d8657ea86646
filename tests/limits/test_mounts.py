"""Finding control groups in what /proc says, as written by several kinds of machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from elastic_inference.limits.machine import usable_cores, usable_memory_bytes
from elastic_inference.limits.mounts import GroupMount, GroupMounts, read_mounts

SEPARATE_V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
    "9:name=systemd:/\n4:memory:/jobs/7\n1:cpu:/\n0::/\n",
)
JOINT_V1_IN_CONTAINER = (
    "900 890 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n",
    "4:cpu,cpuacct:/docker/abc/inner\n",
)
SYSTEMD_V2 = (
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
    "31 23 0:27 / /tmp rw - tmpfs tmpfs rw\n",
    "0::/system.slice/ei.service\n",
)


def fake_proc(directory: Path, files: tuple[str, str]) -> Path:
    (directory / "mountinfo").write_text(files[0])
    (directory / "cgroup").write_text(files[1])
    return directory


def test_separate_v1_controllers_beside_an_empty_v2_hierarchy(tmp_path: Path) -> None:
    found = read_mounts(fake_proc(tmp_path, SEPARATE_V1))
    memory = Path("/sys/fs/cgroup/memory")
    assert found.v1["memory"] == GroupMount(memory, memory / "jobs/7")
    assert found.v1["cpu"].own_group == Path("/sys/fs/cgroup/cpu")
    assert found.v2 is not None
    assert found.v2.own_group == Path("/sys/fs/cgroup/unified")


def test_joint_controllers_of_which_a_container_sees_only_its_part(tmp_path: Path) -> None:
    found = read_mounts(fake_proc(tmp_path, JOINT_V1_IN_CONTAINER))
    assert found.v1["cpu"] == found.v1["cpuacct"]
    assert found.v1["cpu"].own_group == Path("/sys/fs/cgroup/cpu,cpuacct/inner")
    assert found.v2 is None


def test_a_service_of_systemd_on_v2(tmp_path: Path) -> None:
    found = read_mounts(fake_proc(tmp_path, SYSTEMD_V2))
    assert found == GroupMounts(
        {}, GroupMount(Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/system.slice/ei.service"))
    )


@pytest.mark.parametrize("path", ["/elsewhere", "/../../outside"])
def test_an_own_group_that_is_not_mounted_here_is_taken_for_the_top(tmp_path: Path, path: str) -> None:
    root = "/inside" if path == "/elsewhere" else "/"
    files = (f"1 1 0:1 {root} /cg rw - cgroup2 cgroup2 rw\n", f"0::{path}\n")
    found = read_mounts(fake_proc(tmp_path, files))
    assert found.v2 == GroupMount(Path("/cg"), Path("/cg"))


def test_a_mount_point_with_a_space_in_its_name(tmp_path: Path) -> None:
    files = ("1 1 0:1 / /a\\040b rw - cgroup2 cgroup2 rw\n", "0::/\n")
    found = read_mounts(fake_proc(tmp_path, files))
    assert found.v2 is not None
    assert found.v2.mount_point == Path("/a b")


def test_no_proc_means_no_groups(tmp_path: Path) -> None:
    assert read_mounts(tmp_path / "absent") == GroupMounts()


def test_limits_around_this_process_lessen_what_it_may_use(tmp_path: Path) -> None:
    outer, own = tmp_path, tmp_path / "slice" / "service"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text("max 100000\n")
    (own / "memory.max").write_text("max\n")
    (outer / "slice" / "cpu.max").write_text("50000 100000\n")
    (outer / "slice" / "memory.max").write_text("104857600\n")
    mounts = GroupMounts({}, GroupMount(outer, own))
    assert usable_cores(mounts) == 0.5
    assert usable_memory_bytes(mounts) == 104857600


def test_a_v1_quota_around_this_process_lessens_its_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text("75000\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(GroupMounts({"cpu": GroupMount(tmp_path, tmp_path)})) == 0.75


def test_without_limits_the_machine_is_what_may_be_used() -> None:
    assert usable_cores(GroupMounts()) >= 1
    assert usable_memory_bytes(GroupMounts()) > 2**28


@pytest.mark.parametrize(
    ("quota", "period"), [("-1", "100000"), ("0", "100000"), ("1", "0"), ("1", ""), ("", "1")]
)
def test_a_v1_group_without_a_quota_lessens_nothing(tmp_path: Path, quota: str, period: str) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu.cfs_period_us").write_text(f"{period}\n")
    mounts = GroupMounts({"cpu": GroupMount(tmp_path, tmp_path)})
    assert usable_cores(mounts) == len(os.sched_getaffinity(0))
