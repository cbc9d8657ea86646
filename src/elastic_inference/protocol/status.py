"""The one table between our errors and the statuses of each protocol, and the HTTP error body.

The body is the protocol's `{"error": text}`; beside it `code` names our class and `fields` its figures, so that
our client raises on its side what happened on the other. A client of another make reads the text and the status.
"""

from __future__ import annotations

import inspect
import json
from enum import IntEnum
from typing import Any, NamedTuple

from elastic_inference import errors


class GrpcCode(IntEnum):
    """The codes of gRPC, as its specification numbers them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Status(NamedTuple):
    """What an error is in each protocol."""

    http: int
    grpc: GrpcCode


STATUS_OF_ERROR: dict[type[errors.ElasticInferenceError], Status] = {
    errors.InvalidInput: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.InvalidType: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.InvalidRange: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.InternalError: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.SignatureNotFound: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.PredictorClosed: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.PriceMissing: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.NameTaken: Status(409, GrpcCode.ALREADY_EXISTS),
    errors.TensorNotFound: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.TagsNotFound: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.ModelNotFound: Status(404, GrpcCode.NOT_FOUND),
    errors.InvalidModel: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.UnsupportedModel: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.UnsafeModel: Status(403, GrpcCode.PERMISSION_DENIED),
    errors.ModelNotReady: Status(503, GrpcCode.UNAVAILABLE),
    errors.EngineNotAvailable: Status(400, GrpcCode.FAILED_PRECONDITION),
    errors.ModelError: Status(500, GrpcCode.INTERNAL),
    errors.DeviceLost: Status(500, GrpcCode.INTERNAL),
    errors.InvalidArgumentError: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.NotAsWritten: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.AcceleratorNotFound: Status(404, GrpcCode.NOT_FOUND),
    errors.CapacityExceeded: Status(409, GrpcCode.RESOURCE_EXHAUSTED),
    errors.TenantNotFound: Status(404, GrpcCode.NOT_FOUND),
    errors.TenantQuotaExceeded: Status(409, GrpcCode.RESOURCE_EXHAUSTED),
    errors.BudgetReached: Status(409, GrpcCode.RESOURCE_EXHAUSTED),
    errors.MemoryQuotaExceeded: Status(413, GrpcCode.RESOURCE_EXHAUSTED),
    errors.ComputeQuotaExceeded: Status(429, GrpcCode.RESOURCE_EXHAUSTED),
    errors.Fenced: Status(409, GrpcCode.ABORTED),
    errors.AcceleratorBusy: Status(409, GrpcCode.ABORTED),
    errors.StartFailed: Status(500, GrpcCode.INTERNAL),
    errors.LimitError: Status(500, GrpcCode.INTERNAL),
    errors.PermissionDenied: Status(401, GrpcCode.UNAUTHENTICATED),
    errors.Forbidden: Status(403, GrpcCode.PERMISSION_DENIED),
    errors.DeadlineExceeded: Status(504, GrpcCode.DEADLINE_EXCEEDED),
    errors.RequestCancelled: Status(499, GrpcCode.CANCELLED),
    errors.TransportError: Status(502, GrpcCode.UNAVAILABLE),
    errors.ConnectError: Status(502, GrpcCode.UNAVAILABLE),
    errors.ConnectionLost: Status(502, GrpcCode.UNAVAILABLE),
    errors.ProtocolError: Status(400, GrpcCode.INVALID_ARGUMENT),
    errors.HttpError: Status(400, GrpcCode.INVALID_ARGUMENT),  # where it does not say another
    errors.Http2Error: Status(400, GrpcCode.INTERNAL),
    errors.ElasticInferenceError: Status(500, GrpcCode.INTERNAL),
}
REASONS = {
    200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 411: "Length Required", 413: "Content Too Large",
    415: "Unsupported Media Type", 416: "Range Not Satisfiable", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 499: "Client Closed Request",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip
# For answers without our `code`, as proxies and servers of another make give them.
_ERROR_OF_STATUS: dict[int, type[errors.ElasticInferenceError]] = {
    401: errors.PermissionDenied,
    403: errors.Forbidden,
    404: errors.ModelNotFound,
    413: errors.MemoryQuotaExceeded,
    429: errors.ComputeQuotaExceeded,
    502: errors.ConnectionLost,
    503: errors.ModelNotReady,
    504: errors.DeadlineExceeded,
}
_CLASSES = {cls.__name__: cls for cls in STATUS_OF_ERROR}


def error_text(error: BaseException) -> str:
    """Return the message alone; `str` of a KeyError would quote it."""
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def status_of(error: errors.ElasticInferenceError) -> Status:
    """Return an error's row of the table."""
    return STATUS_OF_ERROR[_class_of(error)]


def _class_of(error: errors.ElasticInferenceError) -> type[errors.ElasticInferenceError]:
    return next(c for c in type(error).__mro__ if c in STATUS_OF_ERROR)


def encode_error(error: errors.ElasticInferenceError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the JSON body of one of our errors."""
    cls = _class_of(error)
    fields = {k: v for k, v in vars(error).items() if isinstance(v, str | int | float)}
    body: dict[str, Any] = {"error": error_text(error), "code": cls.__name__}
    if fields:
        body["fields"] = fields
    return error.status if isinstance(error, errors.HttpError) else STATUS_OF_ERROR[cls].http, body


def decode_error(status: int, body: bytes) -> errors.ElasticInferenceError:
    """Return the error that a response of this status and body stands for; never raises."""
    try:
        value = json.loads(body)
        text, code, fields = str(value["error"]), value.get("code"), dict(value.get("fields", {}))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text, code, fields = body[:500].decode(errors="replace").strip() or "no text", None, {}
    cls = _CLASSES.get(code) if isinstance(code, str) else None
    if cls is None:
        return _of_status(status)(f"HTTP status {status}: {text}")
    known = inspect.signature(cls.__init__).parameters.values()
    return cls(
        text, **{p.name: fields[p.name] for p in known if p.kind is p.KEYWORD_ONLY and p.name in fields}
    )


def _of_status(status: int) -> type[errors.ElasticInferenceError]:
    known = _ERROR_OF_STATUS.get(status)
    return known or (errors.ProtocolError if status < 500 else errors.ModelError)
