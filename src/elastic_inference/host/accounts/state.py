"""The host's memory over restarts: SQLite (or PostgreSQL by URL) through SQLAlchemy. Decides nothing."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from elastic_inference.errors import InvalidInput, NameTaken
from elastic_inference.host.accounts import schema
from elastic_inference.host.accounts.records import AcceleratorRecord, State, type_from_json, type_to_json
from elastic_inference.host.accounts.sums import HourRow, ModelHourRow
from elastic_inference.host.accounts.upgrade import bring_up_to_date, tune_sqlite, without_password
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.limits.processes import ProcessIdentity

if TYPE_CHECKING:
    from typing_extensions import Self


class StateStore:
    """A database, of which a host sees its own rows. Every method is one transaction, and any thread may call it."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            shown = without_password(url)
            why = str(error).replace(url, shown)
            raise InvalidInput(f"database URL {shown!r} cannot be used: {why}") from error
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", tune_sqlite)
        # One writer at a time: SQLite has no more, and a host writes little.
        self._lock = threading.RLock()
        self._host_id: str | None = None  # None: all rows are seen

    @classmethod
    def at_path(cls, path: Path) -> Self:
        """Return the database in a SQLite file, for its owner alone."""
        path.touch(mode=0o600, exist_ok=True)
        return cls(f"sqlite:///{path}")

    def open(self) -> None:
        """Make the tables where they are absent, and upgrade those of an older version; see `upgrade`.

        Raises:
            InvalidInput: The database cannot be reached or upgraded, or was written by a newer version.
        """
        try:
            bring_up_to_date(self._engine.url)
        except sa.exc.SQLAlchemyError as error:
            raise InvalidInput(
                f"database {without_password(self._engine.url)} cannot be used: {error}"
            ) from error

    def before_each_transaction(self, call: Callable[[], None]) -> None:
        """Let something be done before each transaction begins, such as making room for it."""
        sa.event.listen(self._engine, "begin", lambda _: call())

    def claim(self, host_id: str, accelerator_ids: Iterable[str]) -> None:
        """See from now on what is this host's alone.

        Args:
            accelerator_ids: Accelerators that are this host's where their rows do not say whose they are: they were
                written before rows did. What is billed of accelerators that are gone is then this host's too.
        """
        ids = list(accelerator_ids)
        accelerators, intervals = schema.accelerators, schema.intervals
        is_ours = intervals.c.accelerator_id.in_(ids) | intervals.c.ended_at.is_not(None)
        with self._lock, self._engine.begin() as db:
            for table, condition in (
                (accelerators, accelerators.c.accelerator_id.in_(ids)),
                (intervals, is_ours),
            ):
                db.execute(
                    sa.update(table).where(condition & (table.c.host_id == "")).values(host_id=host_id)
                )
        self._host_id = host_id

    def _is_mine(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.true() if self._host_id is None else table.c.host_id == self._host_id

    @property
    def host_id(self) -> str:
        """Whose rows are seen; "" before `claim`."""
        return self._host_id or ""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """One transaction, for what keeps further tables."""
        with self._lock, self._engine.begin() as db:
            yield db

    @property
    def dialect(self) -> str:
        """Which database it is, such as sqlite."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Close all connections; twice is fine."""
        self._engine.dispose()

    def get_meta(self, key: str) -> str | None:
        """Return a value that the host keeps about itself."""
        with self._lock, self._engine.begin() as db:
            return db.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == key)).scalar()

    def set_meta(self, key: str, value: str) -> None:
        """Keep a value, over an older one of the same key."""
        with self._lock, self._engine.begin() as db:
            if not db.execute(
                sa.update(schema.meta).where(schema.meta.c.key == key).values(value=value)
            ).rowcount:
                db.execute(sa.insert(schema.meta).values(key=key, value=value))

    # Accelerators

    def add(self, record: AcceleratorRecord) -> None:
        """Remember an accelerator; raises NameTaken where another has its name."""
        with self._lock, self._engine.begin() as db:
            self._check_name(db, record.name, record.tenant)
            row = _to_row(record) | {"host_id": self._host_id or ""}
            db.execute(sa.insert(schema.accelerators).values(**row))

    def check_name(self, name: str, tenant: str = "") -> None:
        """Raise NameTaken where an accelerator of this tenant has it; `add` looks again, in its own transaction."""
        with self._lock, self._engine.begin() as db:
            self._check_name(db, name, tenant)

    def _check_name(self, db: sa.Connection, name: str, tenant: str) -> None:
        table = schema.accelerators
        named = (table.c.name == name) & (table.c.tenant == tenant)
        query = sa.select(table).where(named & self._is_mine(table))
        row = db.execute(query).mappings().first()
        if row is not None:
            raise NameTaken(
                f"accelerator {row['accelerator_id']} of this host has the name {name!r:.120}; choose another name, "
                "or detach that one first"
            )

    def change(self, accelerator_id: str, **values: Any) -> AcceleratorRecord | None:
        """Change fields of an accelerator; gives it back as it is now, None where it is gone."""
        with self._lock, self._engine.begin() as db:
            record = self._get(db, accelerator_id)
            if record is None:
                return None
            return self._change(db, record, values)

    def _change(
        self, db: sa.Connection, record: AcceleratorRecord, values: Mapping[str, Any]
    ) -> AcceleratorRecord:
        record = replace(record, **values)
        row = _to_row(record)
        db.execute(
            sa.update(schema.accelerators)
            .where(schema.accelerators.c.accelerator_id == record.accelerator_id)
            .values(**{name: row[name] for name in values})
        )
        return record

    def get(self, accelerator_id: str) -> AcceleratorRecord | None:
        """One accelerator, or None."""
        with self._lock, self._engine.begin() as db:
            return self._get(db, accelerator_id)

    def list_all(self) -> tuple[AcceleratorRecord, ...]:
        """All accelerators, oldest first."""
        table = schema.accelerators
        query = (
            sa.select(table).where(self._is_mine(table)).order_by(table.c.created_at, table.c.accelerator_id)
        )
        with self._lock, self._engine.begin() as db:
            return tuple(_from_row(row) for row in db.execute(query).mappings())

    def remove(self, accelerator_id: str) -> None:
        """Forget an accelerator and its tags, not its usage."""
        with self._lock, self._engine.begin() as db:
            for table in (schema.accelerators, schema.tags):
                db.execute(sa.delete(table).where(table.c.accelerator_id == accelerator_id))

    def _get(self, db: sa.Connection, accelerator_id: str) -> AcceleratorRecord | None:
        table = schema.accelerators
        query = sa.select(table).where(self._is_mine(table) & (table.c.accelerator_id == accelerator_id))
        row = db.execute(query).mappings().first()
        return None if row is None else _from_row(row)

    # Usage

    def begin_interval(self, record: AcceleratorRecord, at: float) -> None:
        """From `at` on this accelerator costs what its type costs; an interval that is open ends."""
        usd = record.kind.usd_per_hour
        with self._lock, self._engine.begin() as db:
            self._end(db, record.accelerator_id, at)
            db.execute(
                sa.insert(schema.intervals).values(
                    accelerator_id=record.accelerator_id,
                    name=record.name,
                    accelerator_type=record.kind.name,
                    usd_per_hour=None if usd is None else str(usd),
                    started_at=at,
                    host_id=self._host_id or "",
                    tenant=record.tenant,
                )
            )

    def end_interval(self, accelerator_id: str, at: float) -> None:
        """From `at` on it costs nothing."""
        with self._lock, self._engine.begin() as db:
            self._end(db, accelerator_id, at)

    def _end(self, db: sa.Connection, accelerator_id: str, at: float) -> None:
        is_open = (schema.intervals.c.accelerator_id == accelerator_id) & schema.intervals.c.ended_at.is_(
            None
        )
        db.execute(sa.update(schema.intervals).where(is_open).values(ended_at=at))

    def list_intervals(
        self, since: float, only: Collection[str] | None = None, tenant: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows of attached time that reach beyond `since`, oldest first.

        Args:
            only: Of these accelerators; None: of all that were ever attached.
            tenant: Of this one alone; "": of the operator's own; None: of all.
        """
        intervals = schema.intervals
        is_whose = sa.true() if tenant is None else intervals.c.tenant == tenant
        reaches = schema.intervals.c.ended_at.is_(None) | (schema.intervals.c.ended_at > since)
        query = (
            sa.select(schema.intervals)
            .where(reaches & self._is_mine(intervals) & is_whose & _is_one_of(intervals, only))
            .order_by(schema.intervals.c.started_at, schema.intervals.c.number)
        )
        with self._lock, self._engine.begin() as db:
            return [dict(row) for row in db.execute(query).mappings()]

    def add_sample(self, accelerator_id: str, hour: int, sample: Sample) -> bool:
        """Write down an accelerator's counters and add what is new of them to its hour; all of it or nothing.

        Returns:
            False where it is gone, and nothing was written.
        """
        with self._lock, self._engine.begin() as db:
            record = self._get(db, accelerator_id)
            if record is None:
                return False
            self._change(db, record, {"sample": sample})
            # As it is now, and not as whoever asked last read it: another may have added since.
            self._add_usage(db, accelerator_id, hour, sample.since(record.sample))
            return True

    def add_usage(self, accelerator_id: str, hour: int, added: Sample) -> None:
        """Add to what an accelerator and its models did in an hour (hours since 1970, UTC)."""
        with self._lock, self._engine.begin() as db:
            self._add_usage(db, accelerator_id, hour, added)

    def _add_usage(self, db: sa.Connection, accelerator_id: str, hour: int, added: Sample) -> None:
        key = {"accelerator_id": accelerator_id, "hour": hour}
        names = ("inferences", "device_seconds", "throttled_seconds")
        _add_to(db, schema.usage_hours, key, {name: getattr(added, name) for name in names})
        for model, (inferences, seconds) in added.models.items():
            if inferences or seconds:
                figures = {"inferences": inferences, "service_seconds": seconds}
                _add_to(db, schema.model_hours, {**key, "model": model}, figures)

    def list_usage(
        self, since: float, only: Collection[str] | None = None
    ) -> dict[str, tuple[int, float, float]]:
        """Inferences, device seconds and throttled seconds by accelerator, from the hour of `since` on.

        Args:
            only: Of these accelerators; None: of all that were ever attached.
        """
        table = schema.usage_hours.c
        query = (
            sa.select(
                table.accelerator_id,
                sa.func.sum(table.inferences),
                sa.func.sum(table.device_seconds),
                sa.func.sum(table.throttled_seconds),
            )
            .where((table.hour >= int(since // 3600)) & _is_one_of(schema.usage_hours, only))
            .group_by(table.accelerator_id)
        )
        with self._lock, self._engine.begin() as db:
            return {row[0]: (int(row[1]), float(row[2]), float(row[3])) for row in db.execute(query)}

    def list_hours(self, since: float, only: Collection[str] | None = None) -> list[HourRow]:
        """Return what accelerators did hour by hour, from the hour of `since` on; `only`: of these accelerators."""
        table = schema.usage_hours
        is_wanted = (table.c.hour >= int(since // 3600)) & _is_one_of(table, only)
        with self._lock, self._engine.begin() as db:
            return [HourRow(*row) for row in db.execute(sa.select(table).where(is_wanted))]

    def list_model_hours(self, since: float, only: Collection[str] | None = None) -> list[ModelHourRow]:
        """Return what models did hour by hour, from the hour of `since` on; `only`: on these accelerators."""
        table = schema.model_hours
        is_wanted = (table.c.hour >= int(since // 3600)) & _is_one_of(table, only)
        with self._lock, self._engine.begin() as db:
            return [ModelHourRow(*row) for row in db.execute(sa.select(table).where(is_wanted))]

    # Tags

    def get_tags(self, accelerator_id: str) -> dict[str, str]:
        """Return the tags of an accelerator; {} where it has none."""
        query = sa.select(schema.tags.c.key, schema.tags.c.value).where(
            schema.tags.c.accelerator_id == accelerator_id
        )
        with self._lock, self._engine.begin() as db:
            return {row[0]: row[1] for row in db.execute(query.order_by(schema.tags.c.key))}

    def set_tags(self, accelerator_id: str, tags: dict[str, str]) -> None:
        """Set tags; others stay."""
        with self._lock, self._engine.begin() as db:
            self._drop_tags(db, accelerator_id, tags)
            for key, value in tags.items():
                db.execute(sa.insert(schema.tags).values(accelerator_id=accelerator_id, key=key, value=value))

    def remove_tags(self, accelerator_id: str, keys: Iterable[str]) -> None:
        """Take tags away; absent ones are fine."""
        with self._lock, self._engine.begin() as db:
            self._drop_tags(db, accelerator_id, keys)

    def _drop_tags(self, db: sa.Connection, accelerator_id: str, keys: Iterable[str]) -> None:
        mine = schema.tags.c.accelerator_id == accelerator_id
        db.execute(sa.delete(schema.tags).where(mine & schema.tags.c.key.in_(list(keys))))


def _add_to(db: sa.Connection, table: sa.Table, key: Mapping[str, Any], figures: Mapping[str, float]) -> None:
    """Add to the figures of a row, which is made where there is none."""
    is_it = sa.and_(*(table.c[name] == value for name, value in key.items()))
    more = {name: table.c[name] + figure for name, figure in figures.items()}
    if not db.execute(sa.update(table).where(is_it).values(**more)).rowcount:
        db.execute(sa.insert(table).values(**key, **figures))


def _is_one_of(table: sa.Table, only: Collection[str] | None) -> sa.ColumnElement[bool]:
    return sa.true() if only is None else table.c.accelerator_id.in_(list(only))


def _to_row(record: AcceleratorRecord) -> dict[str, Any]:
    row = {f.name: getattr(record, f.name) for f in fields(record)}
    row["kind"] = json.dumps(type_to_json(record.kind))
    row["state"] = record.state.value
    row["process"] = None if record.process is None else json.dumps(asdict(record.process))
    row["endpoints"] = json.dumps(record.endpoints)
    row["sample"] = json.dumps(asdict(record.sample))
    return row


def _from_row(row: sa.RowMapping) -> AcceleratorRecord:
    values: dict[str, Any] = dict(row)
    values.pop("host_id")
    values["kind"] = type_from_json(json.loads(values["kind"]))
    values["state"] = State(values["state"])
    if values["process"] is not None:
        values["process"] = ProcessIdentity(**json.loads(values["process"]))
    values["endpoints"] = tuple(json.loads(values["endpoints"]))
    values["sample"] = Sample.from_json(json.loads(values["sample"]))
    return AcceleratorRecord(**values)
