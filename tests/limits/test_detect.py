"""Finding the way of limiting that works."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput, LimitError
from elastic_inference.limits.detect import MODES, detect
from elastic_inference.limits.mounts import GroupMount, GroupMounts


def test_what_is_found_works_and_leaves_no_probe() -> None:
    limits = detect(parent_name="elastic-inference-test-detect")
    try:
        assert limits.name in MODES
        assert limits.list_existing() == ()
    finally:
        limits.close()


def test_a_machine_without_groups_falls_to_rlimit_and_says_why() -> None:
    limits = detect(mounts=GroupMounts())
    assert limits.name == "rlimit and duty cycle"
    assert "no cgroup v2: the v2 hierarchy is not mounted" in limits.reason
    assert "no cgroup v1: the v1 controllers cpu, cpuacct, memory are not mounted" in limits.reason


def test_groups_that_look_right_but_take_no_process_are_not_believed(tmp_path: Path) -> None:
    mount = GroupMount(tmp_path, tmp_path)  # plain directories, as when the hierarchy is a copy or read-only
    limits = detect(mounts=GroupMounts({"cpu": mount, "cpuacct": mount, "memory": mount}))
    assert limits.name == "rlimit and duty cycle"
    assert "did not take" in limits.reason


def test_a_way_asked_for_is_not_replaced_by_another() -> None:
    assert detect("rlimit and duty cycle").name == "rlimit and duty cycle"
    with pytest.raises(LimitError, match="no cgroup v2"):
        detect("cgroup v2", mounts=GroupMounts())
    with pytest.raises(InvalidInput, match="cgroup v3"):
        detect("cgroup v3")


def test_a_limited_group_around_the_host_is_not_escaped(tmp_path: Path) -> None:
    own = tmp_path / "session"
    own.mkdir()
    (own / "memory.max").write_text("1000000\n")
    with pytest.raises(LimitError, match="which the top would escape"):
        detect("cgroup v2", mounts=GroupMounts({}, GroupMount(tmp_path, own)))
