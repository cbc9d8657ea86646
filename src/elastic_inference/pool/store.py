"""The pool's memory over restarts: a host's tables, and beside them which host has what. Decides nothing.

Every transaction first sees that no other pool service has taken over: so two can never act at once, whatever they
believe. A host's SQLite file does for one machine; PostgreSQL by URL for a pool whose service may move.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from elastic_inference.errors import Fenced, InvalidInput
from elastic_inference.host.accounts import schema as host_schema
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.upgrade import without_password
from elastic_inference.pool import schema
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.offer import HostOffer

_EPOCH_KEY = "pool_epoch"


@dataclass(frozen=True)
class HostRow:
    """A host as the pool remembers it.

    Attributes:
        url: Of its control API.
        token: By which the pool is its operator.
        epoch: Under which it was admitted last; see `HostView.epoch`.
    """

    host_id: str
    node_id: str
    url: str
    token: str
    epoch: int
    state: HostState
    offer: HostOffer


@dataclass(frozen=True)
class PlacementRow:
    """Where an accelerator is.

    Attributes:
        host_id: None while it is nowhere: its host was lost, and no other has room yet.
        host_epoch: Of that host when it got the accelerator.
        number: Rises each time that it is placed elsewhere.
        limits: What is in force for it, as its host says.
    """

    accelerator_id: str
    host_id: str | None
    host_epoch: int
    number: int
    request: Request
    limits: dict[str, str]


class PoolStore(StateStore):
    """A pool's database. Every method is one transaction, and any thread may call it."""

    epoch = 0

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._known: dict[str, PlacementRow] = {}  # nobody else writes them

    def open(self) -> None:
        """Make the tables where they are absent.

        Raises:
            InvalidInput: The database cannot be reached, or was written by a newer version.
        """
        super().open()
        try:
            with self._engine.begin() as db:
                if not sa.inspect(db).has_table(schema.revision.name):
                    schema.metadata.create_all(db)
                    db.execute(sa.insert(schema.revision).values(version_num=schema.REVISION))
                found = db.execute(sa.select(schema.revision.c.version_num)).scalar_one()
        except sa.exc.SQLAlchemyError as error:
            raise InvalidInput(
                f"database {without_password(self._engine.url)} cannot be used: {error}"
            ) from error
        if found != schema.REVISION:
            raise InvalidInput(
                f"database {without_password(self._engine.url)} has pool schema {found}, and this version of "
                f"elastic-inference knows {schema.REVISION}; install the newer version again"
            )

    def take_over(self) -> int:
        """Be the pool service from now on: whatever an earlier one still begins is refused with Fenced."""
        if self._engine.dialect.name == "sqlite":
            # Python's driver would begin its transaction after the look at the epoch.
            sa.event.listen(self._engine, "connect", lambda db, _: setattr(db, "isolation_level", None))
            sa.event.listen(self._engine, "begin", lambda db: db.exec_driver_sql("BEGIN IMMEDIATE"))
            self._engine.dispose()  # connections that were made before
        with self._lock:
            earlier = int(self.get_meta(_EPOCH_KEY) or 0)
            self.set_meta(_EPOCH_KEY, str(earlier + 1))
            self.epoch = earlier + 1
        sa.event.listen(self._engine, "begin", self._check_epoch)
        return self.epoch

    def is_current(self) -> bool:
        """Whether no other pool service has taken over."""
        try:
            self.get_meta(_EPOCH_KEY)
        except Fenced:
            return False
        return True

    def _check_epoch(self, db: sa.Connection) -> None:
        meta = host_schema.meta
        query = sa.select(meta.c.value).where(meta.c.key == _EPOCH_KEY)
        if db.dialect.name != "sqlite":
            query = query.with_for_update(read=True)  # whoever takes over waits until this is done
        found = int(db.execute(query).scalar_one())
        if found != self.epoch:
            raise Fenced(f"another pool service took over (epoch {found}, this one's is {self.epoch})")

    # Hosts

    def list_hosts(self) -> list[HostRow]:
        """All hosts that the pool knows."""
        with self._lock, self._engine.begin() as db:
            rows = db.execute(sa.select(schema.hosts).order_by(schema.hosts.c.host_id)).mappings().all()
        return [
            HostRow(**{**row, "state": HostState(row["state"]), "offer": HostOffer.load(row["offer"])})
            for row in rows
        ]

    def put_host(self, row: HostRow) -> None:
        """Remember a host, over what was known of it."""
        values = {**vars(row), "state": row.state.value, "offer": row.offer.dump()}
        self._put(schema.hosts, schema.hosts.c.host_id == row.host_id, values)

    def remove_host(self, host_id: str) -> None:
        """Forget a host."""
        with self._lock, self._engine.begin() as db:
            db.execute(sa.delete(schema.hosts).where(schema.hosts.c.host_id == host_id))

    # Placements

    def list_placements(self) -> list[PlacementRow]:
        """Where all accelerators are."""
        with self._lock, self._engine.begin() as db:
            rows = db.execute(sa.select(schema.placements)).mappings().all()
        found = [
            PlacementRow(
                **{**row, "request": request_from_json(row["request"]), "limits": json.loads(row["limits"])}
            )
            for row in rows
        ]
        self._known = {row.accelerator_id: row for row in found}
        return found

    def placement(self, accelerator_id: str) -> PlacementRow | None:
        """Where an accelerator is, as listed or put last; None for one that is not attached. Waits for nothing."""
        return self._known.get(accelerator_id)

    def put_placement(self, row: PlacementRow) -> None:
        """Remember where an accelerator is, over what was known of it."""
        values = {**vars(row), "request": request_to_json(row.request), "limits": json.dumps(row.limits)}
        self._put(schema.placements, schema.placements.c.accelerator_id == row.accelerator_id, values)
        self._known[row.accelerator_id] = row

    def remove(self, accelerator_id: str) -> None:
        """Forget an accelerator, its tags and its place, not its usage."""
        with self._lock, self._engine.begin() as db:
            for table in (host_schema.accelerators, host_schema.tags, schema.placements):
                db.execute(sa.delete(table).where(table.c.accelerator_id == accelerator_id))
        self._known.pop(accelerator_id, None)

    def _put(self, table: sa.Table, where: sa.ColumnElement[bool], values: dict[str, Any]) -> None:
        with self._lock, self._engine.begin() as db:
            if not db.execute(sa.update(table).where(where).values(**values)).rowcount:
                db.execute(sa.insert(table).values(**values))


def request_to_json(request: Request) -> str:
    """Write a request for the database."""
    value = asdict(request)
    return json.dumps({k: sorted(v) if isinstance(v, frozenset) else v for k, v in value.items()})


def request_from_json(text: str) -> Request:
    """Read what `request_to_json` wrote."""
    value: dict[str, Any] = json.loads(text)
    sets = {name: frozenset(each) for name, each in value.items() if isinstance(each, list)}
    return Request(**{**value, **sets})
