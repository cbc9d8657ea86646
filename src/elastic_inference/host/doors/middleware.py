"""Around every request of the control API: its id, its line in the log, the limits of its body and of its kind."""

from __future__ import annotations

import contextvars
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from elastic_inference.host.doors.admission import DoorLimits, Rates, network_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_LIMIT_BYTES = 1 << 16  # no request of this API needs more
_RESERVED = re.compile(r"/v1/health|/v1/accelerators/[^/]+/heartbeat")  # answered however busy the host is
OF_A_POOL = re.compile(
    r"/v1/(placed$|pool/hosts/[^/]+/report$)"
)  # several a second, and nobody asks for them
REQUEST_ID_HEADER = "X-Request-Id"
request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")

_LOGGED_PATH_LENGTH = 200
_REFUSALS_LOGGED_SECONDS = 10.0
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
                "path": scope["path"][:_LOGGED_PATH_LENGTH],
                "status": status,
                "seconds": round(time.monotonic() - started_at, 6),
            }
            level = logging.DEBUG if OF_A_POOL.match(scope["path"]) and status < 400 else logging.INFO
            logger.log(level, "request", extra=extra)


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


class Flood:
    """Refuses what is too much: of one caller, and of all together. Stands before all else, the log included.

    Heartbeats and health are never refused for what others do: a lease must not end because a host is busy.

    Args:
        known_caller: A name for whoever's token or session a request carries; None where it is not known here.
    """

    def __init__(self, app: App, limits: DoorLimits, known_caller: Callable[[Headers], str | None]) -> None:
        self._app = app
        self._limits = limits
        self._known_caller = known_caller
        self._known = Rates(limits.known_per_second, limits.known_burst)
        self._unknown = Rates(limits.unknown_per_second, limits.unknown_burst)
        self._num_under_way = 0
        self._num_refused = 0
        self._told_at = -_REFUSALS_LOGGED_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wait_seconds = self._wait_seconds(scope)
        if wait_seconds > 0:
            await self._refuse("this caller asks too often", wait_seconds)(scope, receive, send)
        elif _RESERVED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
        elif self._num_under_way >= self._limits.num_requests:
            text = f"{self._num_under_way} requests are being answered already"
            await self._refuse(text, 1.0)(scope, receive, send)
        else:
            self._num_under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._num_under_way -= 1

    def _wait_seconds(self, scope: Scope) -> float:
        now = time.monotonic()
        known = self._known_caller(Headers(scope=scope))
        if known is not None:
            return self._known.take(known, now)
        client = scope.get("client")
        return self._unknown.take("a Unix socket" if client is None else network_of(client[0]), now)

    def _refuse(self, why: str, wait_seconds: float) -> JSONResponse:
        self._num_refused += 1
        now = time.monotonic()
        if now - self._told_at >= _REFUSALS_LOGGED_SECONDS:
            logger.warning("too many requests", extra={"why": why, "num_refused": self._num_refused})
            self._num_refused, self._told_at = 0, now
        text = f"{why}; try again in {wait_seconds:.2f} s"
        headers = {"Retry-After": str(math.ceil(wait_seconds))}
        return JSONResponse({"error": text, "code": "ComputeQuotaExceeded"}, 429, headers)


class RequestIdFilter(logging.Filter):
    """Adds the id of the request under way to every line that it causes, in whatever module."""

    def filter(self, record: logging.LogRecord) -> bool:
        this_id = request_id.get()
        if this_id:
            record.request_id = this_id
        return True
