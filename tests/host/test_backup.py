"""A host's state as one file: taken while it is used, checked, and put back while its accelerators answer."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from elastic_inference import EIPredictor
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.copies import copy_file, put_rows, take_rows
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.backup import read_backup, restore_backup, write_backup
from elastic_inference.host.processes.folders import HostFolder
from tests.host.accounts.test_upgrade import FIRST, load_sqlite
from tests.host.conftest import HostProcess
from tests.host.support import predictor, wait_until

StartHost = Callable[..., HostProcess]


@contextmanager
def calls_without_end(predict: EIPredictor) -> Iterator[list[Any]]:
    """Calls that go on until the end of the block; what each came to, an answer or an error."""
    stop, outcomes = threading.Event(), []

    def call() -> None:
        while not stop.is_set():
            try:
                outcomes.append(predict({"x": np.array([3], np.int32)})["y"].tolist())
            except Exception as error:
                outcomes.append(error)

    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(call)
        try:
            yield outcomes
        finally:
            stop.set()
        calls.result(60)


def run_ei(*arguments: str, code: int = 0) -> None:
    assert main(arguments) == code


def test_a_restore_under_running_accelerators_costs_no_call(
    start_host: StartHost, state_dir: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--state-dir", str(state_dir))
    file = tmp_path / "host.tar"
    host = start_host()
    kept = host.session().attach("cpu.quarter")
    with (
        predictor(kept.endpoints[0], kept.token, model) as predict,
        calls_without_end(predict) as outcomes,
    ):
        wait_until(lambda: len(outcomes) > 5, "first answers")
        run_ei("host", "backup", str(file), *where, "--json")
        assert json.loads(capsys.readouterr().out)["num_accelerators"] == 1
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        later = host.session().attach("cpu.quarter")
        run_ei("host", "restore", str(file), *where, code=ExitCode.BAD_INPUT)
        assert f"another host runs with state directory {state_dir}" in capsys.readouterr().err
        host.session().request("POST", "/v1/host/stop", {"keep_running": True})
        assert host.process.wait(60) == 0
        run_ei("host", "restore", str(file), *where)
        told = capsys.readouterr().out
        assert "before-restore.tar" in told
        assert "are valid again, the operator's and tenants', those too that were revoked since" in told
        host = start_host()
        so_far = len(outcomes)
        wait_until(lambda: len(outcomes) > so_far + 20, "answers after the restore")
    assert {str(outcome) for outcome in outcomes} == {"[6]"}
    # The one that was attached after the backup is gone, as the backup knows nothing of it.
    assert [each["accelerator_id"] for each in host.session().request("GET", "/v1/accelerators")] == [
        kept.accelerator_id
    ]
    assert host.session().describe(kept.accelerator_id).endpoints == kept.endpoints
    assert not (state_dir / "accelerators" / later.accelerator_id).exists()
    assert read_backup(state_dir / "before-restore.tar").num_accelerators == 2


def test_a_machine_that_was_lost_is_put_together_from_a_backup(
    start_host: StartHost, state_dir: Path, model: Path, tmp_path: Path
) -> None:
    host = start_host()
    attached = host.session().attach("cpu.quarter", lease_seconds=None)
    operator_token = host.operator_token
    with predictor(attached.endpoints[0], attached.token, model) as predict:
        assert predict({"x": np.array([3], np.int32)})["y"].tolist() == [6]
        write_backup(HostFolder(state_dir), None, tmp_path / "host.tar")
        assert host.end() == 0
        state_dir.rename(state_dir.with_name("lost"))
        found, before = restore_backup(tmp_path / "host.tar", HostFolder(state_dir), None)
        assert (found.num_accelerators, before) == (1, None)
        host = start_host()
        assert host.operator_token == operator_token
        # Same address and token; the model comes again from the client.
        assert predict({"x": np.array([4], np.int32)})["y"].tolist() == [8]
    assert host.session().describe(attached.accelerator_id).endpoints == attached.endpoints


def record(number: int) -> AcceleratorRecord:
    from elastic_inference.host.accounts.catalogue import AMAZON_TYPES

    kind = next(iter(AMAZON_TYPES))
    return AcceleratorRecord(
        f"eia-{number:032x}", f"n{number}", kind, "cpu:0", 0.1, "0" * 64, float(number), State.READY
    )


def test_a_copy_of_a_database_in_use_is_of_one_moment(tmp_path: Path) -> None:
    """Writers add an accelerator before its interval; no copy has the second without the first."""
    store = StateStore.at_path(tmp_path / "state.db")
    store.open()
    stop = threading.Event()

    def write() -> int:
        number = 0
        while not stop.is_set():
            store.add(record(number))
            store.begin_interval(record(number), float(number))
            number += 1
        return number

    counts = []
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write)
        try:
            while len(counts) < 10 or counts[-1] < 20:
                copy = tmp_path / f"copy{len(counts)}.db"
                copy_file(tmp_path / "state.db", copy)
                with closing(sqlite3.connect(copy)) as db:
                    (num_accelerators,) = db.execute("SELECT count(*) FROM accelerators").fetchone()
                    (num_intervals,) = db.execute("SELECT count(*) FROM intervals").fetchone()
                assert 0 <= num_accelerators - num_intervals <= 1
                counts.append(num_accelerators)
        finally:
            stop.set()
        assert written.result(60) >= counts[-1]
    store.close()
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_hosts_that_share_a_database_are_put_back_one_by_one(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    url = (
        f"sqlite:///{tmp_path}/shared.db"
        if database == "sqlite"
        else request.getfixturevalue("postgresql_url")
    )
    stores = {}
    for host_id, numbers in (("a", (1, 2)), ("b", (11,))):
        stores[host_id] = StateStore(url)
        stores[host_id].open()
        stores[host_id].claim(host_id, ())
        for number in numbers:
            stores[host_id].add(record(number))
            stores[host_id].begin_interval(record(number), 1.0)
            stores[host_id].add_usage(record(number).accelerator_id, 7, Sample(number, 0.5, 0.0))
            stores[host_id].set_tags(record(number).accelerator_id, {"team": host_id})
    take_rows(url, "a", tmp_path / "a.db")
    a, b = stores["a"], stores["b"]
    a.remove(record(1).accelerator_id)
    a.add_usage(record(2).accelerator_id, 7, Sample(1000, 0.5, 0.0))
    a.add(record(3))
    a.begin_interval(record(3), 2.0)
    b.add_usage(record(11).accelerator_id, 8, Sample(5, 0.5, 0.0))
    before = b.list_all(), b.list_intervals(0.0), b.list_hours(0.0, [record(11).accelerator_id])
    for _ in range(2):
        put_rows(tmp_path / "a.db", url, "a")
    assert a.list_all() == (record(1), record(2))
    assert [row["accelerator_id"] for row in a.list_intervals(0.0)] == [
        record(n).accelerator_id for n in (1, 2)
    ]
    assert a.list_usage(0.0, [record(n).accelerator_id for n in (1, 2)]) == {
        record(1).accelerator_id: (1, 0.5, 0.0), record(2).accelerator_id: (2, 0.5, 0.0),
    }  # fmt: skip
    assert a.get_tags(record(1).accelerator_id) == {"team": "a"}
    assert (b.list_all(), b.list_intervals(0.0), b.list_hours(0.0, [record(11).accelerator_id])) == before
    a.begin_interval(record(2), 3.0)  # numbers go on
    for store in stores.values():
        store.close()


def test_a_backup_goes_from_postgresql_to_sqlite_and_back(
    start_host: StartHost,
    state_dir: Path,
    postgresql_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_postgresql = ("--database", postgresql_url)
    host = start_host("--keep-running", *in_postgresql)
    attached = host.session().attach("cpu.quarter")
    process = host.session().describe(attached.accelerator_id)
    file, again = str(tmp_path / "host.tar"), str(tmp_path / "again.tar")
    monkeypatch.setenv("EI_STATE_DIR", str(state_dir))
    run_ei("host", "backup", file, *in_postgresql)
    assert host.end() == 0
    run_ei("host", "restore", file)
    host = start_host("--keep-running")
    assert host.session().request("GET", "/v1/host")["database"] == "sqlite"
    assert host.session().describe(attached.accelerator_id) == process
    run_ei("host", "backup", again)
    assert host.end() == 0
    run_ei("host", "restore", again, *in_postgresql)
    host = start_host(*in_postgresql)
    assert host.session().request("GET", "/v1/host")["database"] == "postgresql"
    shown = host.session().request("GET", f"/v1/accelerators/{attached.accelerator_id}")
    assert (shown["state"], shown["num_restarts"]) == ("ready", 0)


@pytest.fixture
def made(state_dir: Path, tmp_path: Path) -> Path:
    """A backup of a state of an older version."""
    state_dir.mkdir()
    load_sqlite(state_dir / "state.db")
    (state_dir / "host.id").write_text("0123456789abcdef")
    (state_dir / "tls").mkdir()
    (state_dir / "tls" / "ca.pem").write_text("a certificate")
    backup = write_backup(HostFolder(state_dir), None, tmp_path / "made.tar")
    assert sorted(backup.files) == ["host.id", "state.db", "tls/ca.pem"]
    assert backup.schema == "0001"
    return tmp_path / "made.tar"


def test_a_backup_of_an_older_version_is_upgraded(made: Path, state_dir: Path, postgresql_url: str) -> None:
    restore_backup(made, HostFolder(state_dir), postgresql_url)
    store = StateStore(postgresql_url)
    store.open()
    store.claim("0123456789abcdef", ())
    assert next(each.accelerator_id for each in store.list_all()) == FIRST
    assert store.list_usage(0.0) == {FIRST: (1003, 12.75, 0.5)}
    store.close()


def rewritten(made: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> Path:
    """The backup with each of its members changed, or left out where that gives None."""
    target = made.with_name("rewritten.tar")
    with tarfile.open(made) as old, tarfile.open(target, "w") as new:
        for member in old:
            part = old.extractfile(member)
            assert part is not None
            changed = change(member.name, part.read())
            if changed is not None:
                info = tarfile.TarInfo(changed[0])
                info.size = len(changed[1])
                new.addfile(info, io.BytesIO(changed[1]))
    return target


def in_manifest(old: str, new: str) -> Callable[[str, bytes], tuple[str, bytes]]:
    def change(name: str, content: bytes) -> tuple[str, bytes]:
        return name, content.replace(old.encode(), new.encode()) if name == "backup.json" else content

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda name, content: (name, content[:-1] + b"?"), "is not what this version writes"),
        (lambda name, content: (name, content[:5000]), "SHA-256"),
        (lambda name, content: None if name == "host.id" else (name, content), "no file host.id"),
        (lambda name, content: None if name == "backup.json" else (name, content), "no file backup.json"),
        (in_manifest('"format": 1', '"format": 2'), "format 2, and this version reads format 1"),
        (in_manifest("tls/ca.pem", "tls/../../x"), "holds 'tls/../../x'"),
        (in_manifest("tls/ca.pem", "state.db-wal"), "holds 'state.db-wal'"),
        (in_manifest('"state.db"', '"state.dc"'), "holds 'state.dc'"),
        (in_manifest('"schema"', '"shape"'), "is not what this version writes"),
    ],
)
def test_a_backup_that_is_not_as_it_was_written_is_refused_and_nothing_is_touched(
    made: Path, state_dir: Path, change: Callable[[str, bytes], tuple[str, bytes] | None], words: str
) -> None:
    before = {path: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}
    bad = rewritten(made, change)
    for use in (lambda: read_backup(bad), lambda: restore_backup(bad, HostFolder(state_dir), None)):
        with pytest.raises(InvalidInput, match=words):
            use()
    after = {path: path.read_bytes() for path in state_dir.rglob("*") if path.is_file()}
    after.pop(state_dir / "lock")
    assert after == before


def test_what_is_no_backup_or_of_another_host_is_refused(made: Path, state_dir: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a tar")
    for path, words in ((text, "cannot be read"), (tmp_path / "none", "No such file")):
        with pytest.raises(InvalidInput, match=words):
            restore_backup(path, HostFolder(state_dir), None)
    (state_dir / "host.id").write_text("another")
    with pytest.raises(InvalidInput, match="is that of host another, and the backup is of host 0123"):
        restore_backup(made, HostFolder(state_dir), None)
    _, before = restore_backup(made, HostFolder(state_dir), None, may_replace_another=True)
    assert (state_dir / "host.id").read_text() == "0123456789abcdef"
    assert before is not None
    assert read_backup(before).host_id == "another"
    _, again = restore_backup(made, HostFolder(state_dir), None)
    assert again == state_dir / "before-restore-2.tar"
    assert read_backup(before).host_id == "another"  # what the first one kept is there still


def test_a_backup_replaces_a_backup_and_nothing_else(made: Path, state_dir: Path) -> None:
    database = HostFolder(state_dir).database
    content = database.read_bytes()
    with pytest.raises(InvalidInput, match="is no backup; it is not written over"):
        write_backup(HostFolder(state_dir), None, database)
    assert database.read_bytes() == content
    write_backup(HostFolder(state_dir), None, made)
    assert read_backup(made).host_id == "0123456789abcdef"


def test_a_newer_database_and_a_folder_without_state_are_refused(
    made: Path, state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    run_ei("host", "backup", str(tmp_path / "b.tar"), "--state-dir", str(empty), code=ExitCode.BAD_INPUT)
    assert f"{empty} holds no host's state" in capsys.readouterr().err
    run_ei("host", "restore", str(made), "--check")
    assert "schema 0001, 2 accelerators" in capsys.readouterr().out
    engine = sa.create_engine(f"sqlite:///{state_dir}/state.db")
    with engine.begin() as db:
        schema.revision.create(db)
        db.execute(sa.insert(schema.revision).values(version_num="9999"))
    engine.dispose()
    with pytest.raises(InvalidInput, match="has schema 9999, and this version"):
        write_backup(HostFolder(state_dir), None, tmp_path / "c.tar")
    assert not list(tmp_path.glob(".*"))
    assert not (tmp_path / "c.tar").exists()


@pytest.mark.usefixtures("made")
def test_options_of_the_hosts_file_say_where_the_state_lies(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "host.toml"
    file.write_text(f'state_dir = "{state_dir}"\nspares = 0\n')
    run_ei("host", "backup", str(tmp_path / "b.tar"), "--config", str(file), "--json")
    assert json.loads(capsys.readouterr().out)["host_id"] == "0123456789abcdef"
