"""Writes into the audit log what requests changed, or tried to; questions and heartbeats are left out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from elastic_inference.host.audit import AuditLog, Entry
from elastic_inference.host.doors.middleware import OF_A_POOL, App, Receive, Scope, Send, request_id

_READING = ("GET", "HEAD", "OPTIONS")
_HEARTBEAT = re.compile(r"/v1/accelerators/[^/]+/heartbeat")
_ABOUT = re.compile(r"/v1/accelerators/([^/]+)")
_ABOUT_TENANT = re.compile(r"/v1/tenants/([^/]+)")


class Audit:
    """Around every request.

    Args:
        now: Seconds since 1970.
        tenant_of: Whose an accelerator is; None: nobody's that is known.
    """

    def __init__(
        self,
        app: App,
        log: AuditLog,
        now: Callable[[], float],
        tenant_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._app = app
        self._log = log
        self._now = now
        self._tenant_of = tenant_of
        self._writer = ThreadPoolExecutor(1, "audit")  # one, so that entries keep their order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _READING or _is_heartbeat(scope["path"]):
            await self._app(scope, receive, send)
            return
        is_written = False
        about = _ABOUT.match(scope["path"])
        owner = None if about is None else self._tenant_of(about[1])  # now: a detach forgets it

        async def write_and_send(message: MutableMapping[str, Any]) -> None:
            nonlocal is_written
            if message["type"] == "http.response.start":
                is_written = True
                if not (scope.get("state") or {}).get("is_waiting"):  # who waits asks again each second
                    await self._write(self._entry(scope, message["status"], owner))
            await send(message)

        try:
            await self._app(scope, receive, write_and_send)
        finally:
            if not is_written:
                await self._write(self._entry(scope, 500, owner))

    async def _write(self, entry: Entry) -> None:
        """Write it before the caller hears of it; in a thread, because a disk may hang and heartbeats must not."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._log.append, entry)

    def _entry(self, scope: Scope, status: int, owner: str | None) -> Entry:
        state, client = scope.get("state") or {}, scope.get("client")
        caller, about = state.get("caller"), _ABOUT.match(scope["path"])
        accelerator_id = about[1] if about else str(state.get("accelerator_id", ""))
        about_tenant = _ABOUT_TENANT.match(scope["path"])
        by = None if caller is None else caller.tenant
        of = about_tenant[1] if about_tenant else owner or self._tenant_of(accelerator_id)
        of = of or str(state.get("tenant", ""))
        return Entry(
            at=round(self._now(), 3),
            who="unknown" if caller is None else caller.name,
            address="unix" if client is None else str(client[0]),
            door={"page": "page", "aws": "amazon"}.get(scope["path"].split("/")[1], "api"),
            method=scope["method"],
            path=scope["path"],
            accelerator_id=accelerator_id,
            status=status,
            request_id=request_id.get(),
            tenant=by or of,
            detail=str(state.get("detail", "")),
        )


def _is_heartbeat(path: str) -> bool:
    """Whether it comes by itself several times a minute, from accelerators' clients and from hosts of a pool."""
    return bool(_HEARTBEAT.fullmatch(path) or OF_A_POOL.match(path))
