"""Around every request of the control API: its id, its line in the log, the limit of its body."""

from __future__ import annotations

import contextvars
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT_BYTES = 1 << 16  # no request of this API needs more
REQUEST_ID_HEADER = "X-Request-Id"
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
logger = logging.getLogger(__name__)


class RequestLog:
    """Gives each request an id (the caller's own where it is a plain one), and writes one line for it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        this_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        request_id.set(this_id)
        started_at, status = time.monotonic(), 0

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = this_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            extra = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "seconds": round(time.monotonic() - started_at, 6),
            }
            logger.info("request", extra=extra)


class BodyLimit:
    """Refuses bodies that are larger than any request needs, before they are read whole."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            if len(body) > BODY_LIMIT_BYTES:
                text = f"the body exceeds the limit of {BODY_LIMIT_BYTES} bytes"
                await JSONResponse({"error": text, "code": "InvalidInput"}, 413)(scope, receive, send)
                return
            if not message.get("more_body", False):
                break
        is_given = False

        async def receive_again() -> MutableMapping[str, Any]:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, receive_again, send)


class RequestIdFilter(logging.Filter):
    """Adds the id of the request under way to every line that it causes, in whatever module."""

    def filter(self, record: logging.LogRecord) -> bool:
        this_id = request_id.get()
        if this_id:
            record.request_id = this_id
        return True
