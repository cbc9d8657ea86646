"""One inference request as HTTP has it: a JSON head and tensors behind it, both ways."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

from elastic_inference.accelerator.doors.http.body import Body
from elastic_inference.accelerator.doors.http.messages import Request, Response
from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.accelerator.kept_buffer import KeptBuffer
from elastic_inference.accelerator.request_tensors import Output
from elastic_inference.errors import HttpError, InvalidInput, MemoryQuotaExceeded
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, encode_head, encode_tensor, parse_request_head
from elastic_inference.tensors import WIRE_NAMES

MAX_HEAD_BYTES = 64 << 20  # inline JSON tensors make heads large; binary ones keep them below 1 KB
MAX_PLANS = 64
MAX_CACHED_HEAD_BYTES = 4096


class InferHandler:
    """Runs the inference requests of one connection, one after the other, in kept memory."""

    def __init__(self, inference: Inference, buffer: KeptBuffer) -> None:
        self._inference = inference
        self._buffer = buffer
        self._plans: dict[bytes, RequestHead] = {}

    def handle(self, request: Request, body: Body, model: str, version: str = "") -> Response:
        """Answer `POST .../infer`; raises one of our errors, or HttpError where the lengths are wrong."""
        limit = self._inference.shared.body_limit_bytes
        if body.remaining > limit:
            raise MemoryQuotaExceeded(
                f"the body of {body.remaining} bytes exceeds the limit of {limit}",
                requested_bytes=body.remaining,
                limit_bytes=limit,
            )
        began = time.monotonic()
        if request.is_packed:
            body.open(limit)
        header = request.headers.get(b"inference-header-content-length")
        if header == b"0" and body.remaining:
            head, tensors = self._receive_raw(body, model, version)
        else:
            head, tensors = self._receive(header, body)
        trace_parent = request.headers.get(b"traceparent", b"")
        return self._inference.infer(
            model, head, tensors, _respond, trace_parent, began=began, model_version=version
        )

    def _receive_raw(self, body: Body, model: str, version: str) -> tuple[RequestHead, list[memoryview]]:
        """Read a body that is the only input and nothing else."""
        num_bytes = body.remaining
        data = self._take(num_bytes)
        body.read_into(data)
        head = self._inference.raw_request(model, data, version)
        return head, [data]

    def _take(self, num_bytes: int) -> memoryview:
        try:
            return self._buffer.take(num_bytes)[:num_bytes]
        except MemoryError as error:
            raise MemoryQuotaExceeded(f"the request of {num_bytes} bytes: {error}") from error

    def _receive(self, header: bytes | None, body: Body) -> tuple[RequestHead, list[memoryview]]:
        """Read the JSON head, then the tensors into kept memory, so that the first one is aligned."""
        length = body.remaining
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
        head = self._parse(body.take(length))
        if head.num_binary_bytes != body.remaining:
            raise InvalidInput(
                f"the inputs' binary_data_size add up to {head.num_binary_bytes} bytes, but "
                f"{body.remaining} follow the inference header"
            )
        data = self._take(body.remaining)
        body.read_into(data)
        return head, [
            data[part.offset : part.offset + part.size_bytes]
            for part in head.inputs
            if part.data is None and part.range is None
        ]

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


def _respond(result: Result) -> Response:
    views: list[bytes | memoryview] = []
    tensors: list[tuple[str, str, tuple[int, ...], int]] = []
    if result.request_id is None:
        for wanted, dtype, array, _ in result.outputs:
            if wanted.range is not None or not wanted.is_binary:
                break
            view = wire.to_bytes(array)
            views.append(view)
            tensors.append((wanted.name, dtype, array.shape, len(view)))
    if result.request_id is None and len(tensors) == len(result.outputs):
        text = _binary_head(result.model_name, result.model_version, *tensors)
    else:
        views.clear()
        text = _any_head(result, views)
    timing = result.timing
    queue_ms, service_ms = timing.queue_seconds * 1e3, timing.service_seconds * 1e3
    lines = f"Server-Timing: queue;dur={queue_ms:.6f}, service;dur={service_ms:.6f}\r\n"
    if views:
        lines += f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {len(text)}\r\n"
    else:
        lines += "Content-Type: application/json\r\n"
    return Response(body=[text, *views], lines=lines)


def _any_head(result: Result, views: list[bytes | memoryview]) -> bytes:
    """Return the head of any answer; appends to `views` what follows it."""
    value: dict[str, Any] = {"model_name": result.model_name, "model_version": result.model_version}
    if result.request_id is not None:
        value["id"] = result.request_id
    value["outputs"] = [_encode_output(output, views) for output in result.outputs]
    return encode_head(value)


def _encode_output(output: Output, views: list[bytes | memoryview]) -> dict[str, Any]:
    want, array = output.wanted, output.array
    entry = {"name": want.name, "datatype": WIRE_NAMES[output.dtype], "shape": list(array.shape)}
    if want.range is not None:
        return entry  # and no parameters: Triton's C++ client then looks for binary_data_size in them
    if not want.is_binary:
        return entry | {"data": wire.to_json(array, output.dtype, want.name)}
    data = wire.to_bytes(array)
    views.append(data)
    return encode_tensor(want.name, output.dtype, array.shape, len(data))


@lru_cache(maxsize=256)
def _binary_head(
    model_name: str, model_version: str, *tensors: tuple[str, str, tuple[int, ...], int]
) -> bytes:
    """Return the head of an answer whose tensors (name, dtype, shape, size in bytes) all follow it.

    Kept, because the answers of one model seldom differ in it, and writing it costs a tenth of a small request.
    """
    return encode_head(
        {
            "model_name": model_name,
            "model_version": model_version,
            "outputs": [encode_tensor(*tensor) for tensor in tensors],
        }
    )
