"""gRPC's own health check: whether the accelerator takes requests, once or whenever that changes."""

from __future__ import annotations

from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.accelerator.doors.grpc.call import Call, Method
from elastic_inference.accelerator.inference import Inference
from elastic_inference.errors import ModelNotFound, RequestCancelled

SERVICE = "grpc.health.v1.Health"
LOOK_SECONDS = 1.0  # between two looks of a client that watches
_MAX_BYTES = 1 << 16
_SERVING, _NOT_SERVING, _UNKNOWN = 1, 2, 3


def methods(inference: Inference, services: frozenset[str]) -> dict[str, Method]:
    """Return what serves which path; `services` are those that may be asked about, "" for all of them."""

    def status(service: str) -> int | None:
        if service and service not in services:
            return None
        return _SERVING if inference.is_ready() else _NOT_SERVING

    def check(call: Call) -> None:
        asked = messages.parse("grpc.health.v1.HealthCheckRequest", call.take(_MAX_BYTES)).service
        now = status(asked)
        if now is None:
            raise ModelNotFound(f"unknown service {asked!r:.80}")
        call.answer([_encode(now)])

    def watch(call: Call) -> None:
        asked = messages.parse("grpc.health.v1.HealthCheckRequest", call.take(_MAX_BYTES)).service
        told = None
        while True:
            now = status(asked) or _UNKNOWN
            if now != told:
                call.send([_encode(now)])
                told = now
            if call.wait_cancelled(LOOK_SECONDS):
                raise RequestCancelled("the client watches no longer")

    return {
        f"/{SERVICE}/Check": Method(check, needs_token=False),
        f"/{SERVICE}/Watch": Method(watch, needs_token=True),  # it holds a thread for as long as it likes
    }


def _encode(status: int) -> bytes:
    message = messages.message_class("grpc.health.v1.HealthCheckResponse")(status=status)
    return bytes(message.SerializeToString())
