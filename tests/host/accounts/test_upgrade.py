"""Databases of older versions: upgraded in place with all their rows, copied before, refused where they are newer.

`recorded/schema_*.sql` are dumps of what hosts of those times wrote, by sqlite3's iterdump and pg_dump.
"""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.line import Waiter
from elastic_inference.host.accounts.records import State
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.tenant_store import TenantStore
from elastic_inference.host.accounts.tenants import Budget, Quota, Tenant, TenantToken
from elastic_inference.host.accounts.upgrade import MIGRATIONS, bring_up_to_date
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.host import Host

RECORDED = Path(__file__).parent / "recorded"
FIRST, SECOND = "eia-" + "a" * 32, "eia-" + "b" * 32
NEXT_STEP = """
import os
import sqlalchemy as sa
from alembic import op

revision, down_revision = "0005", "{head}"

def upgrade():
    with op.batch_alter_table("accelerators") as table:
        table.add_column(sa.Column("note", sa.Text, nullable=False, server_default="none"))
        table.alter_column("name", new_column_name="label")
    {then}
"""


def load_sqlite(path: Path, schema_number: str = "0001") -> sa.URL:
    path.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as db:
        db.executescript((RECORDED / f"schema_{schema_number}.sqlite.sql").read_text("utf-8"))
    return sa.make_url(f"sqlite:///{path}")


def load(request: pytest.FixtureRequest, tmp_path: Path, schema_number: str) -> sa.URL:
    if request.param == "sqlite":
        return load_sqlite(tmp_path / "state.db", schema_number)
    url: str = request.getfixturevalue("postgresql_url")
    engine = sa.create_engine(url)
    connection = engine.raw_connection()
    connection.cursor().execute((RECORDED / f"schema_{schema_number}.postgresql.sql").read_text("utf-8"))
    connection.commit()
    connection.close()
    engine.dispose()
    return sa.make_url(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """URL of a database of schema 0001 with rows."""
    return load(request, tmp_path, "0001")


@pytest.fixture(params=["sqlite", "postgresql"])
def before_tenants(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    """URL of a database of schema 0003 with rows, as hosts wrote it that knew no tenants."""
    return load(request, tmp_path, "0003")


def with_engine(url: sa.URL, ask: Callable[[sa.Connection], Any]) -> Any:
    engine = sa.create_engine(url)
    try:
        with engine.begin() as db:
            return ask(db)
    finally:
        engine.dispose()


def differences(db: sa.Connection) -> list[Any]:
    """What Alembic would change to make the tables those of `schema`."""
    return list(compare_metadata(MigrationContext.configure(db), schema.metadata))


def everything(db: sa.Connection) -> dict[str, Any]:
    """All rows of all tables, and the columns."""
    found = sa.MetaData()
    found.reflect(db)
    return {
        name: [tuple(table.columns.keys()), *sorted(map(tuple, db.execute(sa.select(table))), key=str)]
        for name, table in found.tables.items()
    }


def migrations_with(folder: Path, then: str) -> str:
    """Our steps and a next one."""
    location = folder / "migrations"
    shutil.copytree(str(files("elastic_inference.host.accounts") / "migrations"), location)
    text = NEXT_STEP.format(head=schema.REVISION, then=then)
    (location / "versions" / "v0005_note.py").write_text(text)
    return str(location)


def test_a_recorded_database_is_upgraded_with_all_its_rows(recorded: sa.URL) -> None:
    store = StateStore(recorded.render_as_string(hide_password=False))
    store.open()
    first, second = store.list_all()
    assert (first.accelerator_id, first.state, first.uid, first.port) == (FIRST, State.READY, 60600, 8600)
    assert first.kind.usd_per_hour == Decimal("0.05")
    assert first.process is not None
    assert first.process.start_ticks == 987654
    assert first.sample == Sample(7, 1.5, 0.25)
    assert (second.accelerator_id, second.name, second.process) == (SECOND, "o'second; -- ü", None)
    assert store.get_tags(FIRST) == {"team": "vision", "cost": "a'b"}
    assert [row["usd_per_hour"] for row in store.list_intervals(0.0)] == ["0.05", "0.13", "0.13"]
    assert store.list_usage(0.0) == {FIRST: (1003, 12.75, 0.5)}
    assert store.get_meta("host_id") == "0123456789abcdef"
    store.open()
    store.begin_interval(second, 1764268000.0)  # numbers go on after those that were there
    store.close()
    assert with_engine(recorded, differences) == []


def test_what_was_before_tenants_is_the_operators(before_tenants: sa.URL) -> None:
    store = StateStore(before_tenants.render_as_string(hide_password=False))
    store.open()
    store.claim("0123456789abcdef", [])
    assert [(record.name, record.tenant) for record in store.list_all()] == [
        ("first", ""),
        ("o'second; -- ü", ""),
    ]
    assert store.list_all()[0].sample == Sample(7, 1.5, 0.25)
    intervals = store.list_intervals(0.0)
    assert [(row["usd_per_hour"], row["ended_at"], row["tenant"]) for row in intervals] == [
        ("0.05", None, ""),
        (None, 1764265000.0, ""),
    ]
    assert store.list_intervals(0.0, tenant="vision") == []
    tenants = TenantStore(store)
    assert (tenants.list_all(), tenants.list_tokens(), tenants.list_waiters()) == ((), (), ())
    tenants.add(Tenant("vision", 1764268000.0, Quota(max_share=0.5), Budget(Decimal("10.50"))))
    tenants.add_token(TenantToken("ab12", "vision", "ci", 1764268000.0, None, "ef" * 32))
    waiter = tenants.add_waiter(Waiter("ticket", "vision", "cpu.half", 2, 1764268000.0))
    (tenant,) = tenants.list_all()
    assert (tenant.quota.max_share, tenant.budget) == (0.5, Budget(Decimal("10.50")))
    assert (tenants.list_waiters(), waiter.number) == ((waiter,), 1)
    tenants.remove("vision")
    assert (tenants.list_all(), tenants.list_tokens(), tenants.list_waiters()) == ((), (), ())
    store.close()
    assert with_engine(before_tenants, differences) == []


def test_new_and_upgraded_databases_have_the_same_tables(tmp_path: Path, recorded: sa.URL) -> None:
    new = sa.make_url(f"sqlite:///{tmp_path}/new.db")
    if recorded.get_backend_name() != "sqlite":
        with_engine(recorded, schema.metadata.drop_all)
        new = recorded
    bring_up_to_date(new)
    assert with_engine(new, differences) == []


def test_steps_end_in_the_schema_that_the_program_says() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    steps = ScriptDirectory.from_config(config)
    assert steps.get_heads() == [schema.REVISION]
    assert steps.get_bases() == [schema.FIRST_REVISION]
    numbers = [step.revision for step in steps.walk_revisions()]
    assert numbers == sorted(numbers, reverse=True)  # they are compared as text


def test_programs_of_before_refuse_what_they_cannot_read(recorded: sa.URL) -> None:
    bring_up_to_date(recorded)
    where = schema.meta.c.key == "schema_version"
    select = sa.select(schema.meta.c.value).where(where)
    assert with_engine(recorded, lambda db: db.execute(select).scalar()) == "2"


def test_a_sqlite_file_is_copied_before_with_what_is_in_its_log_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    url = load_sqlite(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("INSERT INTO meta VALUES ('late', 'in the log')")
        db.commit()
        before = with_engine(url, everything)
        bring_up_to_date(url)
    copy = tmp_path / "state.db.before-0001"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert with_engine(sa.make_url(f"sqlite:///{copy}"), everything) == before
    assert ("late", "in the log") in before["meta"]
    assert not list(tmp_path.glob("*.partial"))


def test_the_next_column_locks_nobody_out(tmp_path: Path, recorded: sa.URL) -> None:
    bring_up_to_date(recorded)
    before = with_engine(recorded, everything)
    bring_up_to_date(recorded, migrations_with(tmp_path, then="pass"), "0005")
    after = with_engine(recorded, everything)
    assert after["elastic_inference_schema"] == [("version_num",), ("0005",)]
    columns, *rows = after["accelerators"]
    assert columns == tuple(
        "label" if name == "name" else name for name in (*before["accelerators"][0], "note")
    )
    assert [row[:-1] for row in rows] == before["accelerators"][1:]
    assert {row[-1] for row in rows} == {"none"}
    indexes = with_engine(recorded, lambda db: sa.inspect(db).get_indexes("accelerators"))
    assert [index["name"] for index in indexes] == ["ix_accelerators_token_sha256"]
    with pytest.raises(
        InvalidInput, match=r"has schema 0005, and this version .* up to 0004; install the newer"
    ):
        bring_up_to_date(recorded)


def test_a_step_that_fails_leaves_the_database_as_it_was(tmp_path: Path, recorded: sa.URL) -> None:
    before = with_engine(recorded, everything)
    broken = migrations_with(tmp_path, then='op.execute("SELECT no_such_column FROM meta")')
    with pytest.raises(InvalidInput, match=r"from schema 0001 to 0005, and is as it was: .*no_such_column"):
        bring_up_to_date(recorded, broken, "0005")
    assert with_engine(recorded, everything) == before


def test_a_host_killed_in_an_upgrade_leaves_the_database_as_it_was(tmp_path: Path, recorded: sa.URL) -> None:
    before = with_engine(recorded, everything)
    killed = migrations_with(tmp_path, then="os._exit(9)")
    code = (
        "import sys, sqlalchemy; from elastic_inference.host.accounts.upgrade import bring_up_to_date; "
        "bring_up_to_date(sqlalchemy.make_url(sys.argv[1]), sys.argv[2], '0005')"
    )
    url = recorded.render_as_string(hide_password=False)
    ended = subprocess.run(
        [sys.executable, "-c", code, url, killed], capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 9, ended.stderr
    assert with_engine(recorded, everything) == before
    bring_up_to_date(recorded)
    assert with_engine(recorded, differences) == []


def test_a_database_that_cannot_be_copied_is_not_touched(tmp_path: Path) -> None:
    url = load_sqlite(tmp_path / "state.db")
    before = with_engine(url, everything)
    (tmp_path / "state.db.before-0001").mkdir()
    with pytest.raises(InvalidInput, match=r"cannot be copied to .*before-0001 before its upgrade"):
        bring_up_to_date(url)
    assert with_engine(url, everything) == before


def test_a_version_that_nobody_wrote_is_refused(tmp_path: Path) -> None:
    url = load_sqlite(tmp_path / "state.db")
    with_engine(
        url, lambda db: db.exec_driver_sql("UPDATE meta SET value = '7' WHERE key = 'schema_version'")
    )
    with pytest.raises(InvalidInput, match="schema version 7, which no version"):
        bring_up_to_date(url)


def test_a_host_starts_on_the_state_of_an_older_one(
    state_dir: Path, open_host: Callable[..., Host], capsys: pytest.CaptureFixture[str]
) -> None:
    state_dir.mkdir()
    load_sqlite(state_dir / "state.db")
    with closing(sqlite3.connect(state_dir / "state.db")) as db:
        db.execute(
            "DELETE FROM accelerators"
        )  # whose processes are long gone; to start them anew is tested elsewhere
        db.commit()
    host = open_host()
    assert host.host_id == "0123456789abcdef"
    assert [row.accelerator_id for row in host.service.usage()] == [FIRST, SECOND]
    assert (state_dir / "state.db.before-0001").exists()
    assert capsys.readouterr().out == ""
