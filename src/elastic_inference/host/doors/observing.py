"""The control API's paths for looking: the board, the audit log, an accelerator's last hour, and its log."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Query

from elastic_inference.host.audit import Entry
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors import schemas
from elastic_inference.host.doors.board_schemas import BoardView, HistoryView, LogView
from elastic_inference.host.doors.callers import Caller, make_owner_check
from elastic_inference.host.doors.privacy import HostPaths
from elastic_inference.host.doors.views import BoardViews
from elastic_inference.host.processes.logs import MAX_PART_BYTES, LogReader

DEFAULT_LOG_BYTES = 16 << 10
MAX_ENTRIES = 10_000


def add_observing(app: FastAPI, host: ControlApi, caller: Any) -> None:
    """Add the paths.

    Args:
        caller: The dependency that gives the Caller of a request; see `callers`.
    """
    service, paths = host.service, HostPaths(host)
    views, logs, check_owns = BoardViews(host), LogReader(host.folder.logs), make_owner_check(host)

    @app.get("/v1/board", responses=schemas.errors(), tags=["host"])
    def board(who: Caller = caller) -> BoardView:
        """Show what the host saw last: devices, accelerators and events; a tenant's own for a tenant.

        It is read once a second, and asking does not read it anew.
        """
        return BoardView(**views.whole(who, service.board.snapshot))

    @app.get("/v1/audit", responses=schemas.errors(403), tags=["host"])
    def audit(
        last: Annotated[int, Query(ge=1, le=MAX_ENTRIES, description="How many of them.")] = 50,
        who: Caller = caller,
    ) -> list[Entry]:
        """Show who changed what, from where, and with what outcome; oldest first. To a tenant: of what is its own."""
        who.check_may_attach()
        entries = host.audit.last(last, who.tenant, who.scope.since)
        return entries if who.is_operator else [_for_tenant(who, entry) for entry in entries]

    @app.get(
        "/v1/accelerators/{accelerator_id}/history", responses=schemas.errors(404), tags=["accelerators"]
    )
    def history(accelerator_id: str, who: Caller = caller) -> HistoryView:
        """Show an accelerator's last hour, a point each ten seconds, since the host started."""
        check_owns(who, accelerator_id)
        service.get(accelerator_id)
        return HistoryView.model_validate(service.board.history.of(accelerator_id))

    @app.get("/v1/accelerators/{accelerator_id}/logs", responses=schemas.errors(404), tags=["accelerators"])
    def log(
        accelerator_id: str,
        cursor: Annotated[
            str | None, Query(max_length=60, description="Of the part before; without it: the log's end.")
        ] = None,
        max_bytes: Annotated[int, Query(ge=1, le=MAX_PART_BYTES)] = DEFAULT_LOG_BYTES,
        who: Caller = caller,
    ) -> LogView:
        """Show what an accelerator's processes wrote to standard error: the last five of them."""
        check_owns(who, accelerator_id)
        service.get(accelerator_id)
        part = logs.read(accelerator_id, cursor, max_bytes)
        text = part.text if who.is_operator else paths.hide(part.text)
        return LogView(text=text, cursor=part.cursor, process=part.process, has_more=part.has_more)


def _for_tenant(who: Caller, entry: Entry) -> Entry:
    """Return an entry without from where somebody else came."""
    return entry if entry.who == who.name else replace(entry, address="")
