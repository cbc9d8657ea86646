"""OpenTelemetry spans of the control API. Accelerators trace predictions by themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Tracing:
    """One span a request, a child of the caller's where it sent a `traceparent` header."""

    def __init__(self, app: App, provider: Any) -> None:
        self._app = app
        self._tracer = provider.get_tracer("elastic_inference.host")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from opentelemetry import propagate
        from opentelemetry.trace import SpanKind, Status, StatusCode

        headers = Headers(scope=scope)
        caller = propagate.extract(
            {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        )
        given = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(scope["method"], caller, SpanKind.SERVER, given) as span:

            async def send_and_note(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await self._app(scope, receive, send_and_note)
            route = getattr(scope.get("route"), "path", None)
            if route is not None:  # known only now; a path would be a name of its own for each accelerator
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
