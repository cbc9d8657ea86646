"""The host's memory: what is written comes back, in SQLite and, where a server is given, in PostgreSQL."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.limits.processes import ProcessIdentity, open_pidfd

KIND = AcceleratorType("small", 2**30, device_share=0.25, usd_per_hour=Decimal("0.13"))
RECORD = AcceleratorRecord(
    accelerator_id="eia-" + "0" * 32,
    name="first",
    kind=KIND,
    device="cpu:0",
    share=0.25,
    token_sha256="ab" * 32,
    created_at=1000.0,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StateStore]:
    url = f"sqlite:///{tmp_path}/state.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    store = StateStore(url)
    store.open()
    yield store
    store.close()


def test_an_accelerator_comes_back_as_it_was_written(store: StateStore) -> None:
    full = replace(
        RECORD,
        state=State.READY,
        uid=61000,
        process=ProcessIdentity.of_pid(os.getpid(), 0),
        endpoints=("unix:/a", "tcp:127.0.0.1:8600"),
        port=8600,
        lease_seconds=30.0,
        sample=Sample(7, 1.5, 0.25),
    )
    store.add(full)
    assert store.get(full.accelerator_id) == full
    assert store.list_all() == (full,)


def test_a_change_keeps_the_other_fields(store: StateStore) -> None:
    store.add(RECORD)
    changed = store.change(RECORD.accelerator_id, state=State.READY, num_restarts=2)
    assert changed == replace(RECORD, state=State.READY, num_restarts=2)
    assert store.get(RECORD.accelerator_id) == changed
    assert store.change("eia-unknown", num_restarts=1) is None


def test_removing_forgets_tags_but_not_usage(store: StateStore) -> None:
    store.add(RECORD)
    store.set_tags(RECORD.accelerator_id, {"a": "1", "b": "2"})
    store.set_tags(RECORD.accelerator_id, {"b": "3"})
    store.remove_tags(RECORD.accelerator_id, ["a", "unknown"])
    assert store.get_tags(RECORD.accelerator_id) == {"b": "3"}
    store.begin_interval(RECORD, at=1000.0)
    store.remove(RECORD.accelerator_id)
    assert store.get(RECORD.accelerator_id) is None
    assert store.get_tags(RECORD.accelerator_id) == {}
    assert len(store.list_intervals(since=0.0)) == 1


def test_a_new_interval_ends_the_open_one(store: StateStore) -> None:
    store.begin_interval(RECORD, at=1000.0)
    store.begin_interval(replace(RECORD, kind=replace(KIND, name="large", usd_per_hour=None)), at=1500.0)
    rows = [(r["accelerator_type"], r["usd_per_hour"], r["ended_at"]) for r in store.list_intervals(0.0)]
    assert rows == [("small", "0.13", 1500.0), ("large", None, None)]
    assert [r["accelerator_type"] for r in store.list_intervals(since=1500.0)] == ["large"]


def test_usage_adds_up_by_the_hour(store: StateStore) -> None:
    store.add_usage("a", 0, Sample(5, 1.0, 0.5))
    store.add_usage("a", 0, Sample(5, 1.0, 0.5))
    store.add_usage("a", 1, Sample(1, 0.25, 0.0))
    assert store.list_usage(since=0.0) == {"a": (11, 2.25, 1.0)}
    assert store.list_usage(since=3600.0) == {"a": (1, 0.25, 0.0)}


def test_a_sample_and_what_is_new_of_it_are_written_together_or_not_at_all(store: StateStore) -> None:
    store.add(replace(RECORD, sample=Sample()))
    key = RECORD.accelerator_id
    assert store.add_sample(key, 0, Sample(5, 1.0, 0.5, {"m": (5, 0.75)}))
    second = Sample(7, 1.25, 0.5, {"m": (5, 0.75), "n": (2, 0.25)})
    assert store.add_sample(key, 1, second)
    assert store.list_usage(since=0.0) == {key: (7, 1.25, 0.5)}
    assert [(r.hour, r.model, r.inferences) for r in store.list_model_hours(0.0)] == [
        (0, "m", 5),
        (1, "n", 2),
    ]
    assert not store.add_sample("gone", 1, second)
    with store._engine.begin() as db:
        db.execute(sa.text("DROP TABLE model_hours"))
    with pytest.raises(sa.exc.SQLAlchemyError):
        store.add_sample(key, 1, Sample(9, 2.0, 0.5, {"n": (4, 0.5)}))
    assert store.list_usage(since=0.0) == {key: (7, 1.25, 0.5)}
    record = store.get(key)
    assert record is not None
    assert record.sample == second


def test_opening_again_keeps_and_another_version_is_refused(store: StateStore) -> None:
    store.add(RECORD)
    store.open()
    assert store.list_all() == (RECORD,)
    set_revision(store, "0099")
    with pytest.raises(InvalidInput, match=r"has schema 0099, and this version .* knows schemas up to 0004"):
        store.open()


def set_revision(store: StateStore, revision: str) -> None:
    with store._engine.begin() as db:
        db.execute(sa.update(schema.revision).values(version_num=revision))


def test_the_database_file_is_its_owners_alone(tmp_path: Path) -> None:
    store = StateStore.at_path(tmp_path / "state.db")
    store.open()
    store.close()
    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////proc/none/x.db", "unknowndb://x", "sqlite://", "sqlite:///:memory:"]
)
def test_a_database_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(InvalidInput, match="database"):
        StateStore(url).open()


def test_a_process_identity_tells_a_reused_number_apart() -> None:
    me = ProcessIdentity.of_pid(os.getpid(), 0)
    assert me.is_alive()
    other = replace(me, start_ticks=me.start_ticks - 1)
    assert not other.is_alive()
    assert open_pidfd(other) is None
    assert not replace(me, boot_id="another").is_alive()
    fd = open_pidfd(me)
    assert fd is not None
    os.close(fd)


def test_a_zombie_is_not_alive() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(ProcessLookupError):
            ProcessIdentity.of_pid(pid, 0)
    finally:
        os.waitpid(pid, 0)


def test_hosts_that_share_a_database_see_their_own_rows(store: StateStore) -> None:
    others = StateStore(store._engine.url)
    old, mine, theirs = (replace(RECORD, accelerator_id="eia-" + d * 32, name=d) for d in "123")
    store.add(old)  # as a host wrote it before rows said whose they are
    store.begin_interval(old, 1.0)
    store.claim("a", [old.accelerator_id])
    others.claim("b", [old.accelerator_id])  # too late
    store.add(mine)
    others.add(replace(theirs, name=mine.name))  # names are unique on one host
    others.begin_interval(theirs, 2.0)
    assert store.list_all() == (old, mine)
    assert [record.accelerator_id for record in others.list_all()] == [theirs.accelerator_id]
    assert store.get(theirs.accelerator_id) is None
    assert store.change(theirs.accelerator_id, port=1) is None
    assert [row["accelerator_id"] for row in store.list_intervals(0.0)] == [old.accelerator_id]
    assert [row["accelerator_id"] for row in others.list_intervals(0.0)] == [theirs.accelerator_id]
    others.close()
