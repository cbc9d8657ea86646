"""A host's rows as a SQLite file of their own, taken from a database in use, and put back into one.

Such a file has the tables of `schema`, whatever the database was: rows taken from PostgreSQL can be put into SQLite.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.upgrade import bring_up_to_date, without_password

_OF_A_DATABASE = (schema.meta.name, schema.revision.name)  # and of none of its hosts


def copy_file(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, with what is still in its log, while others use it.

    The target, where it exists, becomes the copy in one transaction: whoever is killed leaves what was there before.

    Raises:
        InvalidInput: One of both cannot be read or written.
    """
    try:
        target.touch(mode=0o600, exist_ok=True)
        with (
            contextlib.closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=60)) as database,
            contextlib.closing(sqlite3.connect(target, timeout=60)) as copy,
        ):
            database.backup(copy)
    except (OSError, sqlite3.Error) as error:
        raise InvalidInput(f"database {source} cannot be copied to {target}: {error}") from error


def check_file(path: Path) -> str:
    """Return the schema of a SQLite database after every page of it was checked.

    Raises:
        InvalidInput: It is damaged, is no host's, or has a schema that this version does not know.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise InvalidInput(f"database {path.name} is damaged: {found}")
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type='table'")}
            revision = schema.FIRST_REVISION
            if schema.revision.name in tables:
                (revision,) = database.execute(f"SELECT version_num FROM {schema.revision.name}").fetchone()
    except sqlite3.Error as error:
        raise InvalidInput(f"database {path.name} is damaged: {error}") from error
    if schema.meta.name not in tables:
        raise InvalidInput(f"database {path.name} is not one of a host: it has no table {schema.meta.name}")
    if revision > schema.REVISION:
        raise InvalidInput(
            f"database {path.name} has schema {revision}, and this version of elastic-inference knows schemas up to "
            f"{schema.REVISION}; install the version that wrote it"
        )
    return str(revision)


def num_accelerators(path: Path) -> int:
    """Count the accelerators in a file that `check_file` has found right."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute(f"SELECT count(*) FROM {schema.accelerators.name}").fetchone()[0])


def take_rows(url: str, host_id: str, target: Path) -> None:
    """Write one host's rows of a database, which others may share, into a new SQLite file.

    Raises:
        InvalidInput: The database cannot be read, or has the schema of another version.
    """
    target.touch(mode=0o600)
    bring_up_to_date(sa.make_url(f"sqlite:///{target}"))
    with _named(url), _begin(url, "SERIALIZABLE") as database, _begin(f"sqlite:///{target}") as copy:
        _check_revision(database, url)
        ids = _accelerator_ids(database, host_id)
        for table in _tables():
            rows = database.execute(sa.select(table).where(_is_of(table, host_id, ids))).mappings().all()
            if rows:
                copy.execute(sa.insert(table), [dict(row) for row in rows])


def put_rows(source: Path, url: str, host_id: str) -> None:
    """Replace one host's rows in a database by those of a file, in one transaction; rows of other hosts stay.

    Args:
        source: Of this version's schema; its rows without a host become this one's.

    Raises:
        InvalidInput: The database cannot be written, or has the schema of another version.
    """
    with _named(url):
        bring_up_to_date(sa.make_url(url))
        with _begin(f"sqlite:///{source}") as copy, _begin(url, "SERIALIZABLE") as database:
            ids = _accelerator_ids(database, host_id) | _accelerator_ids(copy)
            for table in reversed(_tables()):
                if _has_host(table):
                    database.execute(sa.delete(table).where(_is_of(table, host_id, ids)))
            for table in _tables():
                rows = [_as_of(row, host_id) for row in copy.execute(sa.select(table)).mappings()]
                rows = rows if _has_host(table) else _absent(database, table, rows)
                if rows:
                    database.execute(sa.insert(table), rows)


def _tables() -> list[sa.Table]:
    return [table for table in schema.metadata.sorted_tables if table.name not in _OF_A_DATABASE]


def _has_host(table: sa.Table) -> bool:
    return "host_id" in table.c or "accelerator_id" in table.c


def _is_of(table: sa.Table, host_id: str, ids: Collection[str]) -> sa.ColumnElement[bool]:
    """Which rows are a host's: those that say so, and those of its accelerators; else all."""
    if "host_id" in table.c:
        return table.c.host_id == host_id
    return table.c.accelerator_id.in_(sorted(ids)) if "accelerator_id" in table.c else sa.true()


def _accelerator_ids(db: sa.Connection, host_id: str | None = None) -> set[str]:
    """Return the accelerators that a host has and had; None: of all hosts."""
    found: set[str] = set()
    for table in (schema.accelerators, schema.intervals):
        is_wanted = sa.true() if host_id is None else table.c.host_id == host_id
        found.update(db.execute(sa.select(table.c.accelerator_id).where(is_wanted)).scalars())
    return found


def _as_of(row: sa.RowMapping, host_id: str) -> dict[str, Any]:
    """Give a row as one of this host; a number that only counts rows is given anew where it goes."""
    values = dict(row)
    if "host_id" in values:
        values["host_id"] = host_id
    values.pop("number", None)
    return values


def _absent(db: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out rows whose key is there already: they belong to all hosts of the database."""
    keys = [column.name for column in table.primary_key]
    known = {tuple(row) for row in db.execute(sa.select(*(table.c[key] for key in keys)))}
    return [row for row in rows if tuple(row[key] for key in keys) not in known]


def _check_revision(db: sa.Connection, url: str) -> None:
    found = None
    if sa.inspect(db).has_table(schema.revision.name):
        found = db.execute(sa.select(schema.revision.c.version_num)).scalar()
    if found != schema.REVISION:
        raise InvalidInput(
            f"database {without_password(url)} has schema {found or 'of no host'}, and this version of "
            f"elastic-inference copies schema {schema.REVISION}; start a host of this version with it first"
        )


@contextlib.contextmanager
def _begin(url: str, isolation: str | None = None) -> Iterator[sa.Connection]:
    options = {} if isolation is None else {"isolation_level": isolation}
    engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    """Around the use of a database: its errors name it, without its password."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, ModuleNotFoundError) as error:
        shown = without_password(url)
        raise InvalidInput(f"database {shown} cannot be used: {str(error).replace(url, shown)}") from error
