"""Users of accelerators: claimed for all hosts of a machine, also for those that do not run just now."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from elastic_inference.errors import CapacityExceeded
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.processes.users import Users

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others cannot run as other users")

UIDS = range(64100, 64103)


def test_hosts_never_give_the_same_user(tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    first, second = (Users(UIDS, tmp_path / name, claims) for name in ("a", "b"))
    assert [first.take(), second.take(), first.take()] == [64100, 64101, 64102]
    with pytest.raises(
        CapacityExceeded, match=r"all users 64100 to 64102 are taken, 1 of 3 by this host"
    ) as e:
        second.take()
    assert (e.value.requested, e.value.available) == ("1 user", "none of 3")
    first.give_back(64102)
    first.give_back(64102)
    first.give_back(None)
    assert second.take() == 64102
    assert not second.take_back(64100)
    assert sorted(path.name for path in claims.iterdir()) == ["64100", "64101", "64102"]


def test_a_user_whose_folder_is_there_is_kept_for_its_host(tmp_path: Path, state_dir: Path) -> None:
    claims, folder = tmp_path / "claims", HostFolder(state_dir)
    folder.make()
    first = Users(UIDS, folder.path, claims)
    uid = first.take()
    assert uid is not None
    folder.accelerator("eia-1").make(uid, None)
    first.close()  # as when the host ends, or is killed
    second = Users(UIDS, tmp_path / "b", claims)
    assert second.take() != uid
    assert not second.take_back(uid)
    assert Users(UIDS, folder.path, claims).take_back(uid)


def test_claims_of_hosts_whose_folders_are_gone_are_removed(tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    first = Users(UIDS, tmp_path / "a", claims)
    first.take()
    first.close()
    assert [path.name for path in claims.iterdir()] == ["64100"]
    Users(UIDS, tmp_path / "b", claims)
    assert list(claims.iterdir()) == []


def test_a_user_as_which_something_runs_is_passed_over(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], user=64100, group=64100, extra_groups=[]) as process:
        try:
            assert Users(UIDS, tmp_path / "a", tmp_path / "claims").take() == 64101
        finally:
            process.kill()


def test_a_folder_is_given_whole_to_another_user_and_nothing_beside_it(state_dir: Path) -> None:
    outside = state_dir.parent / "outside"
    outside.write_text("somebody else's")
    folder = HostFolder(state_dir)
    folder.make()
    mine = folder.accelerator("eia-1")
    mine.make(64100, None)
    blob = mine.store / "blob"
    blob.write_text("a model")
    os.chown(blob, 64100, 64100)
    os.link(outside, mine.store / "hard")
    (mine.store / "soft").symlink_to(outside)
    mine.make(64101, None)
    owners = {
        path.lstat().st_uid for path in (mine.path, mine.store, mine.artifacts, blob, mine.store / "soft")
    }
    assert owners == {64101}
    assert outside.stat().st_uid == 0
