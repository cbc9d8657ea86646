"""How processes are started: users, spares, logs, waiting between starts."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import elastic_inference
from elastic_inference.engines.registry import engine_to_import
from elastic_inference.errors import InvalidInput, StartFailed
from elastic_inference.host import priority
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import State
from elastic_inference.host.host import Host
from elastic_inference.host.processes.backoff import Backoff
from elastic_inference.host.processes.child import describe_exit
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.host.processes.isolation import Isolation, find_isolation, parse_uids
from elastic_inference.host.processes.launch import Launcher
from elastic_inference.host.processes.users import Users
from elastic_inference.host.tokens import HostSecret, hash_token, is_token, make_token, write_private
from elastic_inference.limits.base import AppliedLimits, LimitRequest
from elastic_inference.limits.gpu import check_mps, describe_gpu, gpu_environment
from tests.host.support import wait_until

SMALL = AcceleratorType("small", 256 * 1024**2, device_share=0.1)


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_until_one_lives() -> None:
    backoff = Backoff()
    assert [backoff.after(0.0) for _ in range(9)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0]
    assert backoff.after(5.0) == 0.0
    assert backoff.after(0.5) == 0.1


@pytest.mark.parametrize(
    "text", ["", "61000", "61000-", "-5", "0-10", "999-2000", "62000-61000", "1000-99999999999"]
)
def test_users_that_are_no_range_of_their_own_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="must be FIRST-LAST"):
        parse_uids(text)


def test_users_are_read_with_both_ends() -> None:
    assert parse_uids("61000-61002") == range(61000, 61003)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (None, "ended"),
        (0, "exited with status 0"),
        (-9, "killed by SIGKILL"),
        (-64, "killed by SIGRTMAX"),
        (-99, "killed by signal 99"),
    ],
)
def test_exits_are_described(status: int | None, told: str) -> None:
    assert describe_exit(status) == told


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others cannot give processes users of their own")
def test_a_directory_that_is_closed_to_others_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    isolation = find_isolation(closed, range(61000, 61010))
    assert isolation.uids is None
    assert isolation.statement.startswith("root, because other users may not enter ")


def test_a_path_that_is_too_long_for_sockets_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="107 bytes"):
        HostFolder(tmp_path / ("x" * 100)).make()


def test_a_spare_that_died_is_not_given_out(open_host: Callable[..., Host]) -> None:
    host = open_host(user_types=(SMALL,), num_spares=1)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the spare process")
    spare = host.launcher._spares[0]
    os.kill(spare.pid, signal.SIGKILL)
    wait_until(lambda: spare.poll() is not None, "its end")
    record, _ = host.service.attach("small")
    assert record.state is State.READY


def test_a_spare_has_imported_the_engine_of_most_models(open_host: Callable[..., Host]) -> None:
    engine = engine_to_import(["cpu:0"])
    if engine is None:
        pytest.skip("the first engine is not installed")
    host = open_host(user_types=(SMALL,), num_spares=1)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the spare process")
    maps = Path(f"/proc/{host.launcher._spares[0].pid}/maps").read_text()
    assert engine.requires in maps
    assert engine_to_import(["cpu:0", "cuda:0"]) is None


@pytest.mark.skipif(not priority.may_change(), reason="may not change priorities")
def test_a_spare_runs_when_nothing_else_does_until_it_is_given_out(open_host: Callable[..., Host]) -> None:
    host = open_host(user_types=(SMALL,), num_spares=1)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the spare process")
    spare = host.launcher._spares[0].pid
    autogroup = Path(f"/proc/{spare}/autogroup")
    assert (os.sched_getscheduler(spare), os.getpriority(os.PRIO_PROCESS, spare)) == (os.SCHED_IDLE, 19)
    assert not autogroup.exists() or autogroup.read_text().endswith("nice 19\n")
    record, _ = host.service.attach("small")
    assert record.process is not None
    assert record.process.pid == spare
    for thread in Path(f"/proc/{spare}/task").iterdir():
        assert os.sched_getscheduler(int(thread.name)) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, int(thread.name)) == 0
    assert not autogroup.exists() or autogroup.read_text().endswith("nice 0\n")


@pytest.fixture
def held_launcher(tmp_path: Path, state_dir: Path) -> Iterator[tuple[Launcher, Path]]:
    """A launcher whose processes begin with their imports when a file is there, and the file's path."""
    gate, program = tmp_path / "gate", tmp_path / "python"
    program.write_text(f'#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.01; done\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    folder = HostFolder(state_dir)
    folder.make()
    source = str(Path(elastic_inference.__file__).parents[1])
    launcher = Launcher(folder, Isolation(str(program), source, None, ""), Users(None, folder.path))
    launcher.open()
    yield launcher, gate
    launcher.close()


def test_a_spare_counts_when_its_imports_are_done(held_launcher: tuple[Launcher, Path]) -> None:
    launcher, gate = held_launcher
    launcher.refill()
    wait_until(lambda: len(launcher._spares) == 1, "the spare process")
    assert launcher.num_spares_ready == 0
    gate.touch()
    wait_until(lambda: launcher.num_spares_ready == 1, "its imports")


def test_a_wait_for_imports_ends_with_the_process_its_time_or_the_wish_for_it(
    held_launcher: tuple[Launcher, Path],
) -> None:
    launcher, gate = held_launcher
    wake_read, wake_write = os.pipe()
    child = launcher.take(None, "eia-1.0")
    in_time = time.monotonic() + 60
    with pytest.raises(StartFailed, match="did not become ready"):
        child.wait_until_waiting(time.monotonic(), wake_read)
    os.write(wake_write, b"x")
    with pytest.raises(StartFailed, match="did not become ready"):
        child.wait_until_waiting(in_time, wake_read)
    os.read(wake_read, 1)
    gate.touch()
    child.wait_until_waiting(in_time, wake_read)
    child.wait_until_waiting(in_time, wake_read)  # it says so only once
    child.kill()
    gate.unlink()
    dead = launcher.take(None, "eia-2.0")
    os.kill(dead.pid, signal.SIGKILL)
    with pytest.raises(StartFailed, match="it wrote no log"):
        dead.wait_until_waiting(in_time, wake_read)
    dead.kill()
    os.close(wake_read)
    os.close(wake_write)


def test_limits_hold_what_an_accelerator_does_and_not_its_start(
    open_host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = open_host(user_types=(SMALL,))
    limits, seen = host.limits, list[str]()
    apply, add_process = limits.apply, limits.add_process

    def note_apply(request: LimitRequest) -> AppliedLimits:
        seen.append("no ceiling" if request.may_burst else "its share")
        return apply(request)

    def note_process(accelerator_id: str, pid: int) -> None:
        # One of its packages; a process that has only just been started has none of them yet.
        has_imported = "psutil" in Path(f"/proc/{pid}/maps").read_text()
        seen.append("imported" if has_imported else "imports")
        add_process(accelerator_id, pid)

    monkeypatch.setattr(limits, "apply", note_apply)
    monkeypatch.setattr(limits, "add_process", note_process)
    record, _ = host.service.attach("small")
    expected = ["its share", "imported", "no ceiling", "its share"]
    assert seen == expected
    assert record.process is not None
    os.kill(record.process.pid, signal.SIGKILL)  # one that is started again has no spare process
    wait_until(lambda: seen == expected * 2, "the restart")


def test_a_spare_keeps_its_home_when_those_of_earlier_runs_are_removed(
    open_host: Callable[..., Host],
) -> None:
    host = open_host(user_types=(SMALL,), num_spares=1)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the spare process")
    (host.folder.path / "homes" / "old").mkdir()
    host.launcher.clean_homes(frozenset())
    assert not (host.folder.path / "homes" / "old").exists()
    record, _ = host.service.attach("small")
    assert record.process is not None
    assert Path(os.readlink(f"/proc/{record.process.pid}/cwd")).is_dir()


def test_accelerators_find_packages_where_the_host_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("", "wheels", "/elsewhere")))
    for directory in (closed, Path("/tmp")):  # closed to other users, and open to them
        found = find_isolation(directory, range(61000, 61010)).python_path.split(os.pathsep)
        assert found[:2] == [str(tmp_path / "wheels"), "/elsewhere"]


def test_all_users_taken_is_told(open_host: Callable[..., Host]) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: others cannot give processes users of their own")
    service = open_host(user_types=(SMALL,), uids=range(63100, 63102)).service
    first, _ = service.attach("small")
    service.attach("small")
    with pytest.raises(Exception, match="all users 63100 to 63101 are taken"):
        service.attach("small")
    service.detach(first.accelerator_id)
    assert service.attach("small")[0].uid == 63100


def test_logs_of_the_last_processes_are_kept_and_no_more(open_host: Callable[..., Host]) -> None:
    host = open_host(user_types=(SMALL,))
    record, _ = host.service.attach("small")
    for kills in range(1, 7):
        process = host.service.get(record.accelerator_id).process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        wait_until(
            lambda kills=kills: (
                (now := host.service.get(record.accelerator_id)).num_restarts == kills
                and now.state is State.READY
            ),
            f"restart {kills}",
        )
    logs = sorted(p.name for p in (host.folder.path / "logs").iterdir())
    assert logs == [f"{record.accelerator_id}.{n}.log" for n in range(2, 7)]


def test_a_gpu_accelerator_is_told_its_part() -> None:
    assert gpu_environment("", 0.5, 1024**3) == {}
    environment = gpu_environment("GPU-0f", 0.125, 3 * 1024**3, "mps", "/run/mps")
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-0f"
    assert environment["CUDA_MPS_PIPE_DIRECTORY"] == "/run/mps"
    assert environment["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "13"
    assert environment["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=3072M"


@pytest.mark.parametrize("sharing", ["lease", "mig"])
def test_a_daemon_that_happens_to_run_is_kept_away_from_other_ways_of_sharing(sharing: str) -> None:
    environment = gpu_environment("GPU-0f", 0.5, 1024**3, sharing)
    assert not Path(environment.pop("CUDA_MPS_PIPE_DIRECTORY")).exists()
    assert not any(name.startswith("CUDA_MPS") for name in environment)


@pytest.mark.parametrize(
    ("device", "sharing", "told"),
    [
        ("cpu:0", "lease", {}),
        ("cuda:1", "lease", {"gpu": "12% of cuda:1's time and what others leave idle, by lease"}),
        ("cuda:1", "mps", {"gpu": "13% of cuda:1's threads, by MPS"}),
        ("cuda:1:0", "mig", {"gpu": "all of the MIG instance cuda:1:0"}),
    ],
)
def test_a_report_says_how_a_gpu_is_shared(device: str, sharing: str, told: dict[str, str]) -> None:
    assert describe_gpu(device, 0.125, sharing, may_burst=True) == told


def test_mps_is_used_only_where_its_daemon_runs(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match=f"none runs for {tmp_path}"):
        check_mps(str(tmp_path))
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text(f"{os.getpid()}\n")
    check_mps(str(tmp_path))
    (tmp_path / "nvidia-cuda-mps-control.pid").write_text("999999999")
    with pytest.raises(StartFailed, match="nvidia-cuda-mps-control -d"):
        check_mps(str(tmp_path))


def test_tokens_are_random_and_compared_by_hash(tmp_path: Path) -> None:
    one, other = make_token(), make_token()
    assert one != other
    assert is_token(one, hash_token(one))
    assert not is_token(other, hash_token(one))
    assert not is_token("", None)
    assert not is_token("\udcff", hash_token(one))
    secret = HostSecret(tmp_path / "secret")
    assert (
        HostSecret(tmp_path / "secret").admin_token("a") == secret.admin_token("a") != secret.admin_token("b")
    )


def test_a_private_file_is_its_owners_alone_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "token"
    write_private(path, "first")
    write_private(path, "second")
    assert path.read_text() == "second"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
