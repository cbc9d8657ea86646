"""One inference request of one connection: tensors in, turn, prediction, tensors out. The hot path."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy.typing as npt

from elastic_inference.accelerator.http import Body, KeptBuffer, Request, Response
from elastic_inference.accelerator.model_table import ModelEntry, ModelTable
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.accelerator.regions import RegionTable
from elastic_inference.accelerator.tracing import Tracer
from elastic_inference.engines.base import Arrays, LoadedModel
from elastic_inference.errors import (
    ElasticInferenceError,
    HttpError,
    InvalidInput,
    MemoryQuotaExceeded,
    ModelNotFound,
)
from elastic_inference.models.signature import Signature
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import (
    RequestHead,
    TensorPart,
    WantedOutput,
    encode_head,
    encode_range,
    encode_tensor,
    parse_request_head,
)
from elastic_inference.tensors import WIRE_NAMES, shape_text

MAX_HEAD_BYTES = 64 << 20  # inline JSON tensors make heads large; binary ones keep them below 1 KB
MAX_PLANS = 64
MAX_CACHED_HEAD_BYTES = 4096


@dataclass(frozen=True)
class Shared:
    """What all connections of one accelerator use.

    Attributes:
        body_limit_bytes: A larger body is refused.
        tracer: Makes spans of requests; None where nobody asked for them.
    """

    models: ModelTable
    regions: RegionTable
    queue: RequestQueue
    body_limit_bytes: int
    tracer: Tracer | None = None


@dataclass
class Timing:
    """Where the time of one request went."""

    queue_seconds: float = 0.0
    service_seconds: float = 0.0


class InferHandler:
    """Runs the inference requests of one connection, one after the other, in kept memory."""

    def __init__(self, shared: Shared, buffer: KeptBuffer) -> None:
        self._shared = shared
        self._buffer = buffer
        self._plans: dict[bytes, RequestHead] = {}

    def handle(self, request: Request, body: Body, model_name: str) -> Response:
        """Answer `POST .../infer`; raises one of our errors, or HttpError where the lengths are wrong."""
        limit = self._shared.body_limit_bytes
        if body.remaining > limit:
            raise MemoryQuotaExceeded(
                f"the body of {body.remaining} bytes exceeds the limit of {limit}",
                requested_bytes=body.remaining,
                limit_bytes=limit,
            )
        head, data = self._receive(request, body)
        arrived = time.monotonic()
        entry = self._shared.models.ready(model_name, head.timeout_seconds)
        timing = Timing()
        outcome = "success"
        try:
            return self._run(entry, head, data, arrived, timing)
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            entry.count(outcome, timing.queue_seconds, timing.service_seconds)
            if self._shared.tracer is not None:
                self._shared.tracer.record(
                    request.headers, entry.name, outcome, timing.queue_seconds, timing.service_seconds
                )

    def _run(
        self, entry: ModelEntry, head: RequestHead, data: memoryview, arrived: float, timing: Timing
    ) -> Response:
        signature = _loaded(entry).signature
        inputs = self._inputs(head, data, signature)
        _check_wanted(head.outputs, signature)
        entered = time.monotonic()
        left = None if head.timeout_seconds is None else arrived + head.timeout_seconds - entered
        with self._shared.queue.turn(left):
            started = time.monotonic()
            timing.queue_seconds = started - entered
            outputs = _predict(entry, inputs)
            timing.service_seconds = time.monotonic() - started
        return self._respond(entry.name, signature, head, outputs, timing)

    def _receive(self, request: Request, body: Body) -> tuple[RequestHead, memoryview]:
        """Read the JSON head, then the tensors into kept memory, so that the first one is aligned."""
        length = body.remaining
        header = request.headers.get(b"inference-header-content-length")
        if header is not None:
            if not header.isdigit() or len(header) > 18 or int(header) > length:
                raise HttpError(
                    f"Inference-Header-Content-Length {header[:40]!r} is not within the body's {length} bytes",
                    status=400,
                )
            length = int(header)
        if length > MAX_HEAD_BYTES:
            raise HttpError(
                f"the inference header of {length} bytes exceeds the limit of {MAX_HEAD_BYTES}", status=413
            )
        try:
            text = bytearray(length)
            body.read_into(memoryview(text))
            head = self._parse(bytes(text))
            if head.num_binary_bytes != body.remaining:
                raise InvalidInput(
                    f"the inputs' binary_data_size add up to {head.num_binary_bytes} bytes, but "
                    f"{body.remaining} follow the inference header"
                )
            data = self._buffer.take(body.remaining)[: body.remaining]
        except MemoryError as error:
            raise MemoryQuotaExceeded(f"the request of {body.remaining} bytes: {error}") from error
        body.read_into(data)
        return head, data

    def _parse(self, text: bytes) -> RequestHead:
        if len(text) > MAX_CACHED_HEAD_BYTES:
            return parse_request_head(text)
        head = self._plans.get(text)
        if head is None:
            head = parse_request_head(text)
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[text] = head
        return head

    def _inputs(
        self, head: RequestHead, data: memoryview, signature: Signature
    ) -> dict[str, npt.NDArray[Any]]:
        inputs = {}
        for part in head.inputs:
            spec = signature.inputs.get(part.name)
            if spec is None:
                raise InvalidInput(
                    f"unexpected input {part.name!r}; the model has {sorted(signature.inputs)}"
                )
            if spec.base_dtype != part.dtype:
                raise InvalidInput(
                    f"input {part.name!r} is {WIRE_NAMES[part.dtype]}, the model's is {WIRE_NAMES[spec.base_dtype]}"
                )
            if not spec.is_compatible(part.shape):
                raise InvalidInput(
                    f"input {part.name!r} has shape {list(part.shape)}, the model's is {shape_text(spec.shape)}"
                )
            inputs[part.name] = self._array(part, data)
        missing = signature.required_inputs - inputs.keys()
        if missing:
            raise InvalidInput(f"missing inputs {sorted(missing)}")
        return inputs

    def _array(self, part: TensorPart, data: memoryview) -> npt.NDArray[Any]:
        if part.data is not None:
            return wire.from_json(part.data, part.dtype, part.shape, part.name)
        if part.range is not None:
            view = self._shared.regions.view(part.range)
        else:
            view = data[part.offset : part.offset + part.size_bytes]
        return wire.view_of(view, part.dtype, part.shape, part.name)

    def _respond(
        self, model_name: str, signature: Signature, head: RequestHead, outputs: Arrays, timing: Timing
    ) -> Response:
        if head.outputs is None:
            wanted: Sequence[WantedOutput] = [WantedOutput(n, head.is_binary_default) for n in outputs]
        else:
            wanted = head.outputs
        views: list[bytes | memoryview] = []
        if head.id is None and all(want.is_binary and want.range is None for want in wanted):
            views += [wire.to_bytes(outputs[want.name]) for want in wanted]
            text = _binary_head(
                model_name,
                *[
                    (want.name, signature.outputs[want.name].base_dtype, outputs[want.name].shape, len(view))
                    for want, view in zip(wanted, views, strict=True)
                ],
            )
        else:
            text = self._head(model_name, signature, head.id, wanted, outputs, views)
        queue_ms, service_ms = timing.queue_seconds * 1e3, timing.service_seconds * 1e3
        headers = {"Server-Timing": f"queue;dur={queue_ms:.6f}, service;dur={service_ms:.6f}"}
        if views:
            headers["Content-Type"] = "application/octet-stream"
            headers["Inference-Header-Content-Length"] = str(len(text))
        else:
            headers["Content-Type"] = "application/json"
        return Response(200, headers, [text, *views])

    def _head(
        self,
        model_name: str,
        signature: Signature,
        request_id: str | None,
        wanted: Sequence[WantedOutput],
        outputs: Arrays,
        views: list[bytes | memoryview],
    ) -> bytes:
        """Return the head of any answer; appends to `views` what follows it."""
        value: dict[str, Any] = {"model_name": model_name, "model_version": "1"}
        if request_id is not None:
            value["id"] = request_id
        value["outputs"] = [
            self._output(want, signature.outputs[want.name].base_dtype, outputs[want.name], views)
            for want in wanted
        ]
        return encode_head(value)

    def _output(
        self, want: WantedOutput, dtype: str, array: npt.NDArray[Any], views: list[bytes | memoryview]
    ) -> dict[str, Any]:
        if want.range is None and not want.is_binary:
            return {
                "name": want.name,
                "datatype": WIRE_NAMES[dtype],
                "shape": list(array.shape),
                "data": wire.to_json(array, dtype, want.name),
            }
        data = wire.to_bytes(array)
        if want.range is None:
            views.append(data)
            return encode_tensor(want.name, dtype, array.shape, len(data))
        view = self._shared.regions.view(want.range)
        if len(data) > len(view):
            raise InvalidInput(
                f"output {want.name!r} has {len(data)} bytes, its shared memory range {len(view)}"
            )
        view[: len(data)] = data
        entry = encode_tensor(want.name, dtype, array.shape, len(data), want.range)
        entry["parameters"] = encode_range(want.range) | {"shared_memory_byte_size": len(data)}
        return entry


@lru_cache(maxsize=256)
def _binary_head(model_name: str, *tensors: tuple[str, str, tuple[int, ...], int]) -> bytes:
    """Return the head of an answer whose tensors (name, dtype, shape, size in bytes) all follow it.

    Kept, because the answers of one model seldom differ in it, and writing it costs a tenth of a small request.
    """
    return encode_head(
        {
            "model_name": model_name,
            "model_version": "1",
            "outputs": [encode_tensor(*tensor) for tensor in tensors],
        }
    )


def _predict(entry: ModelEntry, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Run; only with the turn, because that is what keeps the model from being unloaded meanwhile."""
    model = _loaded(entry)
    if entry.proof.wants_sample:
        entry.proof.keep_sample(inputs)
    try:
        return model.predict(inputs)
    except MemoryError as error:
        if isinstance(error, ElasticInferenceError):
            raise
        raise MemoryQuotaExceeded(
            f"the prediction needs more memory than the accelerator has: {error}"
        ) from error


def _loaded(entry: ModelEntry) -> LoadedModel:
    model = entry.model
    if model is None:
        raise ModelNotFound(f"model {entry.name!r} was unloaded while the request waited")
    return model


def _check_wanted(wanted: Sequence[WantedOutput] | None, signature: Signature) -> None:
    for want in wanted or ():
        if want.name not in signature.outputs:
            raise InvalidInput(f"unexpected output {want.name!r}; the model has {sorted(signature.outputs)}")
