"""The host's HTTP side as one application: its doors side by side, and what is common to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.admission import DoorLimits
from elastic_inference.host.doors.api import add_control_api
from elastic_inference.host.doors.auditing import Audit
from elastic_inference.host.doors.aws import make_aws_app
from elastic_inference.host.doors.aws_directory import CredentialsFile, HostDirectory
from elastic_inference.host.doors.callers import Callers, bearer_of, make_authenticator
from elastic_inference.host.doors.feed import Feed
from elastic_inference.host.doors.metrics import add_metrics
from elastic_inference.host.doors.middleware import BodyLimit, Flood, RequestLog
from elastic_inference.host.doors.observing import add_observing
from elastic_inference.host.doors.page import add_page
from elastic_inference.host.doors.privacy import HostPaths
from elastic_inference.host.doors.sessions import Sessions
from elastic_inference.host.doors.tenants import add_tenants
from elastic_inference.host.doors.tracing import Tracing
from elastic_inference.protocol.status import encode_error

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Addition:
    """Paths beside those of every control API, such as those by which a pool and its hosts speak.

    Attributes:
        add: Adds them; given the application, and the dependency that gives the Caller of a request.
        name_of: A name for whoever has a token that only these paths know; None where they do not know it either.
    """

    add: Callable[[FastAPI, Any], None]
    name_of: Callable[[str], str | None] = lambda _: None


def make_app(
    host: ControlApi,
    limits: DoorLimits | None = None,
    tracer_provider: Any = None,
    feed: Feed | None = None,
    addition: Addition | None = None,
) -> FastAPI:
    """Return the control API and the page of a host.

    Args:
        tracer_provider: Of OpenTelemetry; None: no spans are made.
        addition: Paths beside the host's own.
        feed: Whoever ends it ends the streams of the page; None: nobody does.
    """
    limits = limits or DoorLimits()
    sessions = Sessions(f"ei_session_{host.host_id[:8]}", time.monotonic)
    callers = Callers(host, sessions)

    def known_caller(headers: Headers) -> str | None:
        token = bearer_of(headers.get("Authorization", ""))
        caller = callers.of_token(token) if token else callers.of_session(headers)
        if caller is None:
            return addition.name_of(token) if addition is not None and token else None
        return caller.name

    app = FastAPI(
        title="elastic-inference host",
        version=host.version,
        description="Attach, list, resize and detach accelerators. Inference goes to the accelerators themselves.",
        redirect_slashes=False,  # an empty name at a path's end is no other path
    )
    _add_error_handlers(app, HostPaths(host))
    app.add_middleware(BodyLimit)
    if tracer_provider is not None:
        app.add_middleware(Tracing, provider=tracer_provider)
    app.add_middleware(Audit, log=host.audit, now=time.time, tenant_of=host.service.tenants.tenant_of)
    app.add_middleware(RequestLog)
    app.add_middleware(Flood, limits=limits, known_caller=known_caller)
    caller = make_authenticator(callers)
    add_control_api(app, host, caller)
    add_tenants(app, host, caller)
    add_observing(app, host, caller)
    add_metrics(app, host, caller)
    add_page(
        app, callers, sessions, feed or Feed(host, limits.num_listeners), host.certificates.files is not None
    )
    if addition is not None:
        addition.add(app, caller)
    _document_errors(app)
    _mount_amazon(app, host)
    return app


def _mount_amazon(app: FastAPI, host: ControlApi) -> None:
    """Amazon's API for the operator, who finds its access key in the state directory."""
    credentials = CredentialsFile(host.folder.path / "aws.credentials")
    credentials.make()
    app.mount("/aws", make_aws_app(HostDirectory(host), credentials.find_secret))


def _document_errors(app: FastAPI) -> None:
    """Take FastAPI's own form of a bad input out of the document: ours is 400, with our body."""
    document = app.openapi()
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _add_error_handlers(app: FastAPI, paths: HostPaths) -> None:
    @app.exception_handler(ElasticInferenceError)
    def ours(request: Request, error: ElasticInferenceError) -> JSONResponse:
        status, body = encode_error(error)
        caller = getattr(request.state, "caller", None)
        if caller is None or not caller.is_operator:
            body = paths.hide_all(body)
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(body, status, headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        problems = [f"{_field(p)}: {p['msg']}{_given(p)}" for p in error.errors()]
        fields = {"fields": [_field(p) for p in error.errors()]}
        return JSONResponse({"error": "; ".join(problems), "code": "InvalidInput", "fields": fields}, 400)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = f"{request.method} {request.url.path}: {error.detail}"
        headers = dict(error.headers or {})
        return JSONResponse({"error": text, "code": "InvalidInput"}, error.status_code, headers)

    @app.exception_handler(DBAPIError)
    def no_database(request: Request, error: DBAPIError) -> JSONResponse:
        logger.error("the database failed", exc_info=error, extra={"path": request.url.path})
        text = "the database does not answer, and the log of this host or pool says why; try again"
        return JSONResponse({"error": text, "code": "ElasticInferenceError"}, 503)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("request failed", exc_info=error, extra={"path": request.url.path})
        text = "the host failed; its log says why, under the request id of this answer"
        return JSONResponse({"error": text, "code": "ElasticInferenceError"}, 500)


def _field(problem: Any) -> str:
    """Return a field's name without the place where FastAPI found it (body, query), which callers need not know."""
    return ".".join(map(str, problem["loc"][1:])) or "the body"


def _given(problem: Any) -> str:
    """Return the value that was given, where it is short enough to be told."""
    value = problem.get("input")
    return "" if value is None or isinstance(value, dict | list) else f", not {value!r:.100}"
