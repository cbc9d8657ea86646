"""The control API over HTTP: which request may do what, and how errors are told. What it does is the service's.

An accelerator's token opens only what is its own: of another's, not even the existence shows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.requests import Request

from elastic_inference.errors import AcceleratorNotFound, ElasticInferenceError, PermissionDenied
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.doors import metrics, schemas
from elastic_inference.host.doors.aws import make_aws_app
from elastic_inference.host.doors.aws_directory import CredentialsFile, HostDirectory
from elastic_inference.host.doors.middleware import BodyLimit, RequestLog
from elastic_inference.host.doors.tracing import Tracing
from elastic_inference.host.host import Host, offered_memory_bytes
from elastic_inference.host.service import MAX_DRAIN_SECONDS, Busy
from elastic_inference.host.tokens import hash_token
from elastic_inference.protocol.status import encode_error

logger = logging.getLogger(__name__)

MAX_SINCE = 4e9  # the year 2096; beyond it no hour fits into the database's integers
_bearer = HTTPBearer(auto_error=False, description="The operator's token, or an accelerator's own.")


class Forbidden(PermissionDenied):
    """The token is known, but does not allow this."""


@dataclass(frozen=True)
class Caller:
    """Who calls: the operator (None), or the tenant of one accelerator."""

    accelerator_id: str | None

    @property
    def is_operator(self) -> bool:
        """Whether it may do everything."""
        return self.accelerator_id is None

    def check_operator(self) -> None:
        """Raise Forbidden unless it is the operator."""
        if not self.is_operator:
            raise Forbidden("only the operator may do this, not an accelerator's token")

    def check_owns(self, accelerator_id: str) -> None:
        """Raise AcceleratorNotFound, as for one that does not exist, unless this one is the caller's to see."""
        if self.accelerator_id not in (None, accelerator_id):
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.ErrorView} for status in (400, 401, *statuses)}


def make_app(host: Host, tracer_provider: Any = None) -> FastAPI:
    """The control API of a host; with spans where an OpenTelemetry tracer provider is given."""
    app = FastAPI(
        title="elastic-inference host",
        version=host.version,
        description="Attach, list, resize and detach accelerators. Inference goes to the accelerators themselves.",
    )
    _add_error_handlers(app)
    app.add_middleware(BodyLimit)
    if tracer_provider is not None:
        app.add_middleware(Tracing, provider=tracer_provider)
    app.add_middleware(RequestLog)
    caller = _authenticator(host)
    _add_accelerators(app, host, caller)
    _add_host(app, host, caller)
    _document_errors(app)
    _mount_amazon(app, host)
    return app


def _mount_amazon(app: FastAPI, host: Host) -> None:
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


def _authenticator(host: Host) -> Any:
    def authenticate(
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        if credentials is not None:
            if host.is_operator(credentials.credentials):
                return Caller(None)
            record = host.store.find_token(hash_token(credentials.credentials))
            if record is not None:
                return Caller(record.accelerator_id)
        raise PermissionDenied("the bearer token is missing or not known here")

    return Depends(authenticate)


def _add_accelerators(app: FastAPI, host: Host, caller: Any) -> None:
    service = host.service

    def view(record: AcceleratorRecord) -> dict[str, Any]:
        accelerator_id = record.accelerator_id
        left_seconds = service.leases.left_seconds(accelerator_id)
        reading = service.meter.last(accelerator_id)
        return schemas.AcceleratorView.of(
            record, service.limits_of(record), left_seconds, reading
        ).model_dump()

    @app.post("/v1/accelerators", status_code=201, responses=_errors(403, 409), tags=["accelerators"])
    def attach(wanted: schemas.AttachRequest, who: Caller = caller) -> schemas.AttachedView:
        """Attach an accelerator; it serves when the answer comes."""
        who.check_operator()
        record, token = service.attach(wanted.type, wanted.name, wanted.lease_seconds)
        return schemas.AttachedView(**view(record), token=token)

    @app.get("/v1/accelerators", responses=_errors(), tags=["accelerators"])
    def list_accelerators(who: Caller = caller) -> list[schemas.AcceleratorView]:
        """List accelerators: all for the operator, a tenant's own for a tenant."""
        records = [r for r in service.list_all() if who.is_operator or r.accelerator_id == who.accelerator_id]
        return [schemas.AcceleratorView(**view(record)) for record in records]

    @app.get("/v1/accelerators/{accelerator_id}", responses=_errors(404), tags=["accelerators"])
    def show(accelerator_id: str, who: Caller = caller) -> schemas.AcceleratorView:
        """Show one accelerator."""
        who.check_owns(accelerator_id)
        return schemas.AcceleratorView(**view(service.get(accelerator_id)))

    @app.patch(
        "/v1/accelerators/{accelerator_id}", responses=_errors(403, 404, 409, 413), tags=["accelerators"]
    )
    def resize(
        accelerator_id: str, wanted: schemas.ResizeRequest, who: Caller = caller
    ) -> schemas.ResizedView:
        """Give an accelerator another type; it keeps id, token, endpoints and models."""
        who.check_owns(accelerator_id)
        who.check_operator()
        record, was_restarted = service.resize(accelerator_id, wanted.type)
        return schemas.ResizedView(**view(record), was_restarted=was_restarted)

    @app.delete(
        "/v1/accelerators/{accelerator_id}",
        status_code=204,
        responses=_errors(404, 409),
        tags=["accelerators"],
    )
    def detach(
        accelerator_id: str,
        drain_seconds: Annotated[
            float | None,
            Query(
                ge=0,
                le=MAX_DRAIN_SECONDS,
                allow_inf_nan=False,
                description="For what is in flight to finish.",
            ),
        ] = None,
        who: Caller = caller,
    ) -> Response:
        """Detach an accelerator, after it has finished what is in flight."""
        who.check_owns(accelerator_id)
        service.detach(accelerator_id, drain_seconds)
        return Response(status_code=204)

    @app.post("/v1/accelerators/{accelerator_id}/heartbeat", responses=_errors(404), tags=["accelerators"])
    def heartbeat(accelerator_id: str, who: Caller = caller) -> schemas.HeartbeatView:
        """Begin an accelerator's lease anew."""
        who.check_owns(accelerator_id)
        return schemas.HeartbeatView(lease_seconds=service.heartbeat(accelerator_id))

    @app.post("/v1/accelerators/{accelerator_id}/token", responses=_errors(404, 409), tags=["accelerators"])
    def rotate_token(accelerator_id: str, who: Caller = caller) -> schemas.TokenView:
        """Give an accelerator a new bearer token; the old one is refused at once."""
        who.check_owns(accelerator_id)
        return schemas.TokenView(token=service.rotate_token(accelerator_id))


def _add_host(app: FastAPI, host: Host, caller: Any) -> None:
    service = host.service

    @app.get("/v1/health", tags=["host"])
    def health() -> schemas.HealthView:
        """Say that the host answers; needs no token."""
        return schemas.HealthView(status="draining" if service.is_draining else "ok")

    @app.get("/v1/types", responses=_errors(), tags=["host"])
    def types(who: Caller = caller) -> list[schemas.TypeView]:
        """List types with prices and, for the operator, how many still fit."""
        return [schemas.TypeView.of(offer, who.is_operator) for offer in service.offers()]

    @app.get("/v1/devices", responses=_errors(), tags=["host"])
    def devices(who: Caller = caller) -> list[schemas.DeviceView]:  # noqa: ARG001  # any known token
        """List devices with their measured compute."""
        return [
            schemas.DeviceView(
                name=device.name,
                kind=device.kind,
                model=device.model,
                num_cores=device.num_cores,
                memory_bytes=device.memory_bytes,
                offered_memory_bytes=offered_memory_bytes(device),
                tflops=device.tflops,
                tflops_source=device.tflops_source,
            )
            for device in host.settings.devices
        ]

    @app.get("/v1/host", responses=_errors(403), tags=["host"])
    def status(who: Caller = caller) -> schemas.HostView:
        """Show capacity, what is in force and by what means, and health."""
        who.check_operator()
        num_unhealthy = sum(not reading.is_healthy for reading in service.read_meters().values())
        return schemas.HostView(**host.status(), num_unhealthy=num_unhealthy)

    @app.post("/v1/host/drain", responses=_errors(403), tags=["host"])
    def drain(wanted: schemas.DrainRequest, who: Caller = caller) -> schemas.HealthView:
        """Refuse new accelerators from now on, or take them again; attached ones are not touched."""
        who.check_operator()
        service.is_draining = wanted.is_draining
        return schemas.HealthView(status="draining" if service.is_draining else "ok")

    @app.post("/v1/host/token", responses=_errors(403), tags=["host"])
    def change_operator_token(who: Caller = caller) -> schemas.TokenView:
        """Make a new operator token; the old one is refused at once."""
        who.check_operator()
        return schemas.TokenView(token=host.change_operator_token())

    @app.get("/v1/usage", responses=_errors(), tags=["host"])
    def usage(
        since: Annotated[
            float, Query(ge=0, le=MAX_SINCE, allow_inf_nan=False, description="Seconds since 1970, UTC.")
        ] = 0.0,
        who: Caller = caller,
    ) -> list[schemas.UsageView]:
        """What accelerators cost and did; counters count from the hour of `since` on."""
        rows = service.usage(since)
        return [
            schemas.UsageView.of(r) for r in rows if who.is_operator or r.accelerator_id == who.accelerator_id
        ]

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_errors()},
        tags=["host"],
    )
    def host_metrics(who: Caller = caller) -> Response:
        """Prometheus text; a tenant sees its own accelerator only."""
        text = metrics.render(service, only=who.accelerator_id)
        return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ElasticInferenceError)
    def ours(request: Request, error: ElasticInferenceError) -> JSONResponse:  # noqa: ARG001
        status, body = encode_error(error)
        headers = {}
        if isinstance(error, Forbidden):
            status = 403
        elif isinstance(error, Busy):
            status = 409
        elif status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(body, status, headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}{_given(p)}" for p in error.errors()]
        fields = {"fields": [".".join(map(str, p["loc"])) for p in error.errors()]}
        return JSONResponse({"error": "; ".join(problems), "code": "InvalidInput", "fields": fields}, 400)

    @app.exception_handler(HTTPException)
    def http_error(request: Request, error: HTTPException) -> JSONResponse:
        text = f"{request.method} {request.url.path}: {error.detail}"
        headers = dict(error.headers or {})
        return JSONResponse({"error": text, "code": "InvalidInput"}, error.status_code, headers)

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("request failed", exc_info=error, extra={"path": request.url.path})
        text = "the host failed; its log says why, under the request id of this answer"
        return JSONResponse({"error": text, "code": "ElasticInferenceError"}, 500)


def _given(problem: Any) -> str:
    """The value that was given, where it is short enough to be told."""
    value = problem.get("input")
    return "" if value is None or isinstance(value, dict | list) else f", not {value!r:.100}"
