"""Two hosts on one machine, and a host that lost its memory: nobody gets another's user, port or process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from elastic_inference.errors import CapacityExceeded, PermissionDenied
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.host import Host
from elastic_inference.limits.mounts import read_mounts
from elastic_inference.limits.processes import process_uid
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.test_recovery import only_record, process_of

StartHost = Callable[..., HostProcess]
OpenHost = Callable[..., Host]
TINY = AcceleratorType("tiny", 192 * 1024**2, device_share=0.05)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others have no other users")


def accelerator_groups(pid: int) -> list[Path]:
    """The control groups that are a process's own; none where limits are held in another way."""
    mounts = read_mounts(Path(f"/proc/{pid}"))
    found = {mount.own_group for mount in (*mounts.v1.values(), mounts.v2) if mount is not None}
    return [group for group in found if group.name.startswith("eia-")]


@needs_root
def test_two_hosts_give_their_tenants_different_users(start_host: StartHost, state_dir: Path) -> None:
    with new_state_dir() as other_dir, _starter(other_dir) as start_other:
        hosts = start_host("--uids", "63200-63209"), start_other("--uids", "63200-63209")
        for host in hosts:
            host.session().attach("cpu.quarter")
        uids = [only_record(directory).uid for directory in (state_dir, other_dir)]
        assert len(set(uids)) == 2
        # Also while one of them is away: its process runs, and then its folder is there.
        hosts[0].kill()
        hosts[1].session().attach("cpu.quarter")
        os.kill(process_of(state_dir).pid, 9)
        hosts[1].session().attach("cpu.quarter")
        others = {path.stat().st_uid for path in (other_dir / "accelerators").iterdir()}
        assert len(others) == 3
        assert uids[0] not in others


@pytest.mark.parametrize("mode", [(), ("--limits", "rlimit and duty cycle")])
def test_a_host_that_lost_its_database_ends_what_it_no_longer_knows(
    start_host: StartHost, state_dir: Path, mode: tuple[str, ...]
) -> None:
    host = start_host(*mode)
    host.session().attach("cpu.half")
    process = process_of(state_dir)
    host.kill()
    for path in state_dir.glob("state.db*"):
        path.unlink()
    host = start_host(*mode)
    assert not process.is_alive()
    assert host.session().request("GET", "/v1/accelerators") == []
    assert list((state_dir / "accelerators").iterdir()) == []
    host.session().attach("cpu.whole")


def test_a_host_whose_folder_was_removed_ends_what_it_no_longer_knows(
    start_host: StartHost, state_dir: Path
) -> None:
    host = start_host()
    host.session().attach("cpu.half")
    process = process_of(state_dir)
    host.kill()
    groups = accelerator_groups(process.pid)
    shutil.rmtree(state_dir)
    host = start_host()
    assert not process.is_alive()
    assert [group for group in groups if group.exists()] == []
    host.session().attach("cpu.whole")
    assert process_uid(process.pid) is None


def test_many_attaches_at_once_never_choose_one_port(open_host: OpenHost) -> None:
    service = open_host(user_types=(TINY,)).service
    with ThreadPoolExecutor(8) as pool:
        records = [record for record, _ in pool.map(lambda _: service.attach("tiny"), range(8))]
    assert len({record.port for record in records}) == 8
    assert all(record.num_restarts == 0 for record in records)


@needs_root
def test_too_few_users_are_told_with_figures(open_host: OpenHost) -> None:
    service = open_host(user_types=(TINY,), uids=range(63170, 63172)).service
    for _ in range(2):
        service.attach("tiny")
    with pytest.raises(CapacityExceeded, match=r"all users 63170 to 63171 are taken, 2 of 2 by this host"):
        service.attach("tiny")
    assert len(service.list_all()) == 2
    assert len(service.capacity.held) == 2


def test_two_hosts_on_one_database_leave_each_other_alone(start_host: StartHost, state_dir: Path) -> None:
    database = ("--database", f"sqlite:///{state_dir.parent}/shared.db")
    with new_state_dir() as other_dir, _starter(other_dir) as start_other:
        first, second = start_host(*database), start_other(*database)
        mine, theirs = (host.session().attach("cpu.quarter", name="one") for host in (first, second))
        assert first.operator_token != second.operator_token
        store = StateStore(database[1])
        processes = {record.accelerator_id: record.process for record in store.list_all()}
        store.close()
        first.kill()
        first = start_host(*database)
        for host, attached in ((first, mine), (second, theirs)):
            session = host.session()
            assert [a["accelerator_id"] for a in session.request("GET", "/v1/accelerators")] == [
                attached.accelerator_id
            ]
            assert len(session.request("GET", "/v1/usage")) == 1
            process = processes[attached.accelerator_id]
            assert process is not None
            assert process.is_alive()
        with pytest.raises(PermissionDenied):
            first.session(theirs.token).describe(theirs.accelerator_id)
        assert second.end() == 0
        assert first.session().describe(mine.accelerator_id).accelerator_id == mine.accelerator_id
