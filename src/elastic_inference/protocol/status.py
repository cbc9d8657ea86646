"""The one table between our errors and HTTP statuses, and the protocol's error body.

The body is the protocol's `{"error": text}`; beside it `code` names our class and `fields` its figures, so that
our client raises on its side what happened on the other. A client of another make reads the text and the status.
"""

from __future__ import annotations

import inspect
import json
from typing import Any

from elastic_inference import errors

STATUS_OF_ERROR: dict[type[errors.ElasticInferenceError], int] = {
    errors.InvalidInput: 400,
    errors.InvalidType: 400,
    errors.InvalidRange: 400,
    errors.InternalError: 400,
    errors.SignatureNotFound: 400,
    errors.PredictorClosed: 400,
    errors.PriceMissing: 400,
    errors.NameTaken: 409,
    errors.TensorNotFound: 400,
    errors.TagsNotFound: 400,
    errors.ModelNotFound: 404,
    errors.InvalidModel: 400,
    errors.UnsupportedModel: 400,
    errors.UnsafeModel: 403,
    errors.ModelNotReady: 503,
    errors.EngineNotAvailable: 400,
    errors.ModelError: 500,
    errors.InvalidArgumentError: 400,
    errors.NotAsWritten: 400,
    errors.AcceleratorNotFound: 404,
    errors.CapacityExceeded: 409,
    errors.MemoryQuotaExceeded: 413,
    errors.ComputeQuotaExceeded: 429,
    errors.AcceleratorBusy: 409,
    errors.StartFailed: 500,
    errors.LimitError: 500,
    errors.PermissionDenied: 401,
    errors.Forbidden: 403,
    errors.DeadlineExceeded: 504,
    errors.TransportError: 502,
    errors.ConnectError: 502,
    errors.ConnectionLost: 502,
    errors.ProtocolError: 400,
    errors.HttpError: 400,  # where it does not say another
    errors.ElasticInferenceError: 500,
}
REASONS = {
    200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 411: "Length Required", 413: "Content Too Large",
    416: "Range Not Satisfiable", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
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


def encode_error(error: errors.ElasticInferenceError) -> tuple[int, dict[str, Any]]:
    """Return the HTTP status and the JSON body of one of our errors."""
    cls = next(c for c in type(error).__mro__ if c in STATUS_OF_ERROR)
    fields = {k: v for k, v in vars(error).items() if isinstance(v, str | int | float)}
    body: dict[str, Any] = {"error": error_text(error), "code": cls.__name__}
    if fields:
        body["fields"] = fields
    return error.status if isinstance(error, errors.HttpError) else STATUS_OF_ERROR[cls], body


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
