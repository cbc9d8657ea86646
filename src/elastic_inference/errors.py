"""Every error that this package raises, as one tree; it knows no transport.

    ElasticInferenceError
    ├─ InvalidInput (ValueError)            an argument, name, dtype or shape is wrong; nothing was sent or run
    │  ├─ InvalidType (TypeError)           a value of a type that the input's dtype cannot be made of
    │  ├─ InvalidRange (OverflowError)      a number too large for any cast
    │  ├─ InternalError                     a string input holds what is no string; TensorFlow's name for it
    │  ├─ SignatureNotFound                 the model has no signature of that key; lists those it has
    │  ├─ PredictorClosed                   the predictor or connection was closed before this call
    │  ├─ PriceMissing                      no price of this machine or accelerator is known
    │  └─ NameTaken                         another accelerator of the host has this name
    ├─ TensorNotFound (KeyError)            no tensor of that name in the graph
    ├─ TagsNotFound (RuntimeError)          no meta graph with these tags in the SavedModel
    ├─ ModelNotFound (OSError)              no model at that path, or none of that name on the accelerator
    ├─ InvalidModel (OSError)               the file is there but is not a model that we can read
    ├─ UnsupportedModel (RuntimeError)      a valid model that this engine cannot run; retry with another engine
    ├─ UnsafeModel (PermissionError)        the graph holds operations that the operator does not allow
    ├─ ModelNotReady (RuntimeError)         known but still loading; a retry is safe
    ├─ EngineNotAvailable (RuntimeError)    the engine asked for is not installed here
    ├─ ModelError (RuntimeError)            the model's own computation failed; carries its text
    │  ├─ DeviceLost                        the device, or the process's use of it, is lost; its accelerator starts anew
    │  └─ InvalidArgumentError              the graph refused the values that it was fed
    │     └─ NotAsWritten                   this engine would compute other values than the model says; nothing ran
    ├─ AcceleratorNotFound (LookupError)    no accelerator of that id, or none visible
    ├─ CapacityExceeded (RuntimeError)      the host cannot give that much; carries what is left
    ├─ TenantNotFound (LookupError)         no tenant of that name
    ├─ TenantQuotaExceeded (RuntimeError)   more than the tenant's quota allows; nothing was attached
    │  └─ BudgetReached                     the tenant's budget of this month is spent
    ├─ MemoryQuotaExceeded (MemoryError)    the model or request is larger than the accelerator's memory
    ├─ ComputeQuotaExceeded (RuntimeError)  the request queue of the accelerator is full; a retry is safe
    ├─ Fenced (RuntimeError)                what asks was given up, and another acts in its place
    ├─ AcceleratorBusy (RuntimeError)       another request changes this accelerator now; a retry is safe
    ├─ StartFailed (RuntimeError)           an accelerator process did not begin to serve; a retry is safe
    ├─ LimitError (RuntimeError)            the kernel refused to put a limit in force
    ├─ PermissionDenied (PermissionError)   a token is missing or wrong
    │  └─ Forbidden                         the token is known, but does not allow this
    ├─ DeadlineExceeded (TimeoutError)      no reply in time; the device may still run it
    ├─ RequestCancelled (RuntimeError)      its client took the request back while it waited; nothing ran
    └─ TransportError (ConnectionError)
       ├─ ConnectError                      nothing was sent; a retry is safe
       ├─ ConnectionLost                    it may have run; a retry is safe, predictions have no effects
       └─ ProtocolError                     the peer does not speak the Open Inference Protocol as it should
          ├─ HttpError                      a request breaks HTTP itself; carries the status it is answered with
          └─ Http2Error                     a frame breaks HTTP/2; the connection ends with its code

Where TensorFlow raised a Python class for the same mistake, ours is that class too, so `except ValueError`
written for TensorFlow still catches. Figures stand in fields as well as in the text.
"""

from __future__ import annotations

__all__ = [
    "AcceleratorBusy",
    "AcceleratorNotFound",
    "BudgetReached",
    "CapacityExceeded",
    "ComputeQuotaExceeded",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "DeviceLost",
    "ElasticInferenceError",
    "EngineNotAvailable",
    "Fenced",
    "Forbidden",
    "Http2Error",
    "HttpError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidInput",
    "InvalidModel",
    "InvalidRange",
    "InvalidType",
    "LimitError",
    "MemoryQuotaExceeded",
    "ModelError",
    "ModelNotFound",
    "ModelNotReady",
    "NameTaken",
    "NotAsWritten",
    "PermissionDenied",
    "PredictorClosed",
    "PriceMissing",
    "ProtocolError",
    "RequestCancelled",
    "SignatureNotFound",
    "StartFailed",
    "TagsNotFound",
    "TenantNotFound",
    "TenantQuotaExceeded",
    "TensorNotFound",
    "TransportError",
    "UnsafeModel",
    "UnsupportedModel",
]


class ElasticInferenceError(Exception):
    """Base of every error of this package."""


class InvalidInput(ElasticInferenceError, ValueError):
    """An argument, name, dtype or shape is wrong. Nothing was sent and nothing ran."""


class InvalidType(InvalidInput, TypeError):
    """A value's type does not fit the input's dtype."""


class InvalidRange(InvalidInput, OverflowError):
    """A number is too large to be cast at all."""


class InternalError(InvalidInput):
    """A string input holds something that is neither text nor bytes; named as TensorFlow's error for it."""


class SignatureNotFound(InvalidInput):
    """The model has no signature of this key."""


class PredictorClosed(InvalidInput):
    """The predictor was closed before this call. Nothing was sent."""


class PriceMissing(InvalidInput):
    """No price of this machine or accelerator is known."""


class NameTaken(InvalidInput):
    """Another accelerator, or another tenant, of the host has this name. Nothing was done."""


class TensorNotFound(ElasticInferenceError, KeyError):
    """The graph has no tensor of this name."""


class TagsNotFound(ElasticInferenceError, RuntimeError):
    """The SavedModel has no meta graph with exactly these tags."""


class ModelNotFound(ElasticInferenceError, OSError):
    """No model at this path, or none of this name on the accelerator."""


class InvalidModel(ElasticInferenceError, OSError):
    """Something is there, but it is not a model that can be read."""


class UnsupportedModel(ElasticInferenceError, RuntimeError):
    """The model is valid, but this engine cannot run it."""


class UnsafeModel(ElasticInferenceError, PermissionError):
    """The graph holds operations on files, processes or the network, which the operator does not allow."""


class ModelNotReady(ElasticInferenceError, RuntimeError):
    """The model is still loading. A retry is safe."""


class EngineNotAvailable(ElasticInferenceError, RuntimeError):
    """The engine asked for is not installed on this side."""


class ModelError(ElasticInferenceError, RuntimeError):
    """The model's own computation failed; the text is the engine's."""


class DeviceLost(ModelError):
    """The device, or this process's use of it, was lost: nothing computes in it any more."""


class InvalidArgumentError(ModelError):
    """The graph refused the fed values; named as TensorFlow's error of the same meaning."""


class NotAsWritten(InvalidArgumentError):
    """The engine would compute this call otherwise than the model says. Nothing ran; the reference engine takes it."""


class AcceleratorNotFound(ElasticInferenceError, LookupError):
    """No accelerator of this id is attached, or none is visible to this process."""


class CapacityExceeded(ElasticInferenceError, RuntimeError):
    """The host cannot give what was asked for.

    Attributes:
        requested: What was asked for, as text with units.
        available: What is left, as text with units.
    """

    def __init__(self, message: str, *, requested: str = "", available: str = "") -> None:
        super().__init__(message)
        self.requested = requested
        self.available = available


class TenantNotFound(ElasticInferenceError, LookupError):
    """The host has no tenant of this name, or none that this token may see."""


class TenantQuotaExceeded(ElasticInferenceError, RuntimeError):
    """More than the tenant may have. Nothing was attached.

    Attributes:
        tenant: Whose quota.
        requested: What it would have then, as text with units.
        limit: What it may have, as text with units.
    """

    def __init__(self, message: str, *, tenant: str = "", requested: str = "", limit: str = "") -> None:
        super().__init__(message)
        self.tenant = tenant
        self.requested = requested
        self.limit = limit


class BudgetReached(TenantQuotaExceeded):
    """What the tenant may spend in a month is spent. Nothing was attached."""


class MemoryQuotaExceeded(ElasticInferenceError, MemoryError):
    """The model or the request needs more memory than the accelerator may use.

    Attributes:
        requested_bytes: What was needed, 0 where the engine could not say.
        limit_bytes: The accelerator's limit.
    """

    def __init__(self, message: str, *, requested_bytes: int = 0, limit_bytes: int = 0) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.limit_bytes = limit_bytes


class ComputeQuotaExceeded(ElasticInferenceError, RuntimeError):
    """The accelerator's queue is full, or requests come faster than its quota. It did not run; a retry is safe."""


class AcceleratorBusy(ElasticInferenceError, RuntimeError):
    """Another request changes this accelerator at this moment. Nothing was done; a retry is safe."""


class Fenced(ElasticInferenceError, RuntimeError):
    """A host or a pool service that was given up still asks; another acts in its place. Nothing was done."""


class StartFailed(ElasticInferenceError, RuntimeError):
    """An accelerator process did not begin to serve. Nothing of it is left running; a retry is safe."""


class LimitError(ElasticInferenceError, RuntimeError):
    """The kernel refused to put a limit in force. Nothing was started; only the host sees this."""


class PermissionDenied(ElasticInferenceError, PermissionError):
    """The token is missing or wrong."""


class Forbidden(PermissionDenied):
    """The token is known, but does not allow this."""


class DeadlineExceeded(ElasticInferenceError, TimeoutError):
    """No reply in time. The device may still run the request; a retry is safe."""


class RequestCancelled(ElasticInferenceError, RuntimeError):
    """The client took the request back while it waited. Nothing ran."""


class TransportError(ElasticInferenceError, ConnectionError):
    """The connection to the accelerator failed."""


class ConnectError(TransportError):
    """No connection could be made. Nothing was sent; a retry is safe."""


class ConnectionLost(TransportError):
    """The connection broke during a call. It may have run; a retry is safe: predictions have no effects."""


class ProtocolError(TransportError):
    """The peer answered something that the Open Inference Protocol does not allow."""


class HttpError(ProtocolError):
    """A request breaks HTTP itself; after its answer the connection is closed.

    Attributes:
        status: The HTTP status that it is answered with, 400 to 599.
        allow: The methods that the path takes, where that is what was wrong.
    """

    def __init__(self, message: str, *, status: int = 400, allow: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.allow = allow


class Http2Error(ProtocolError):
    """A frame breaks HTTP/2; the connection ends.

    Attributes:
        code: The error code that the connection ends with, as RFC 9113 numbers them.
    """

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
