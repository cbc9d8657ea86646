"""Brings a host's database to this program's schema: makes a new one, upgrades an older one, refuses a newer one.

Everything happens in one transaction, in SQLite too, so that a host killed on the way leaves what was there before.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts import schema

logger = logging.getLogger(__name__)

MIGRATIONS = "elastic_inference.host.accounts:migrations"
# Before Alembic, the schema's version was a row of `meta`.
_OLD_KEY, _OLD_VERSION, _NO_LONGER_READABLE = "schema_version", "1", "2"


def bring_up_to_date(url: sa.URL, migrations: str = MIGRATIONS, revision: str = schema.REVISION) -> None:
    """Make, upgrade or check the tables.

    Before an upgrade, a SQLite database is copied to a file beside it, `state.db.before-REVISION`.

    Args:
        migrations: Alembic's `script_location`.
        revision: Its last step.

    Raises:
        InvalidInput: The database was written by a newer version, or cannot be copied or upgraded.
        SQLAlchemyError: It cannot be reached.
    """
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidInput(
            f"database {without_password(url)} is in memory, so nothing would be kept; name a file"
        )
    engine = _engine(url)
    try:
        with engine.begin() as db:
            found = _found_revision(db)
            if found is None:
                _make(db)
                return
        if found > revision:
            raise InvalidInput(
                f"database {without_password(url)} has schema {found}, and this version of elastic-inference knows "
                f"schemas up to {revision}; install the newer version again, or go back to the copy that it made "
                "before upgrading"
            )
        if found < revision:
            _upgrade(engine, found, revision, migrations)
    finally:
        engine.dispose()


def tune_sqlite(connection: Any, _record: Any) -> None:
    """Set up a new connection: WAL, so that a host killed at any moment leaves a database that opens again."""
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", tune_sqlite)
        # Python's driver begins no transaction for CREATE and ALTER; so it is kept out of that, and we begin them.
        sa.event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _found_revision(db: sa.Connection) -> str | None:
    """Return the schema that the database has; None for a database that is new."""
    tables = sa.inspect(db).get_table_names()
    if schema.revision.name in tables:
        return str(db.execute(sa.select(schema.revision.c.version_num)).scalar_one())
    if schema.meta.name not in tables:
        return None
    old = db.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == _OLD_KEY)).scalar()
    if old not in (None, _OLD_VERSION):
        raise InvalidInput(
            f"database {without_password(db.engine.url)} has schema version {old}, which no version of "
            "elastic-inference wrote"
        )
    return None if old is None else schema.FIRST_REVISION


def _make(db: sa.Connection) -> None:
    schema.metadata.create_all(db)
    db.execute(sa.insert(schema.revision).values(version_num=schema.REVISION))
    db.execute(sa.insert(schema.meta).values(key=_OLD_KEY, value=_NO_LONGER_READABLE))


def _upgrade(engine: sa.Engine, found: str, revision: str, migrations: str) -> None:
    from alembic import command
    from alembic.config import Config

    copy = _copy(engine.url, found)
    config = Config()
    config.set_main_option("script_location", migrations)
    try:
        with engine.begin() as db:
            if not sa.inspect(db).has_table(schema.revision.name):
                schema.revision.create(db)
                db.execute(sa.insert(schema.revision).values(version_num=found))
            config.attributes["connection"] = db
            command.upgrade(config, revision)
    except Exception as error:  # whatever a step did wrong, its transaction is undone
        raise InvalidInput(
            f"database {without_password(engine.url)} cannot be upgraded from schema {found} to {revision}, "
            f"and is as it was: {error}"
        ) from error
    logger.info("database upgraded", extra={"from": found, "to": revision, "copy": str(copy or "none")})


def _copy(url: sa.URL, found: str) -> Path | None:
    """Copy a SQLite file, with what is still in its log; None for another database, which its operator copies."""
    if url.get_backend_name() != "sqlite":
        return None
    path = Path(str(url.database))
    copy = path.with_name(f"{path.name}.before-{found}")
    partial = copy.with_name(f"{copy.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        with (
            contextlib.closing(sqlite3.connect(path)) as source,
            contextlib.closing(sqlite3.connect(partial)) as target,
        ):
            source.backup(target)
        os.replace(partial, copy)
    except (OSError, sqlite3.Error) as error:
        raise InvalidInput(
            f"database {path} cannot be copied to {copy} before its upgrade: {error}"
        ) from error
    return copy


def without_password(url: str | sa.URL) -> str:
    """Write a URL for an error, which others may read."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        return re.sub(r":[^/@][^@]*@", ":***@", str(url))
    query = {name: "***" if "password" in name else value for name, value in parsed.query.items()}
    return parsed.set(query=query).render_as_string(hide_password=True)
