"""ModelInferRequest and ModelInferResponse without copies of their tensors, which stay where they were received."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.accelerator.doors.grpc.call import Call
from elastic_inference.accelerator.doors.grpc.pace import Pace
from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, read_request_head
from elastic_inference.protocol.status import error_text
from elastic_inference.tensors import DTYPE_OF_WIRE_NAME, WIRE_NAMES

MAX_PLANS = 256
MAX_CACHED_HEAD_BYTES = 4096
MAX_CACHED_TENSORS = 16
_RAW_INPUTS = 7  # number of ModelInferRequest.raw_input_contents
_RAW_OUTPUT_KEY = bytes([6 << 3 | 2])  # of ModelInferResponse.raw_output_contents
_CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
K = TypeVar("K")
V = TypeVar("V")
_FINAL = "triton_enable_empty_final_response"


@dataclass(frozen=True)
class Plan:
    """What a request says beside its tensors' bytes.

    Attributes:
        wants_final: Whether it is to be told that no second answer follows.
        pace: Of requests that say the same.
    """

    model: str
    version: str
    head: RequestHead
    wants_final: bool
    pace: Pace = field(default_factory=Pace, compare=False)

    def respond(self, result: Result) -> list[bytes | memoryview]:
        """Return the answer, and note how long the request took."""
        self.pace.note(result.timing)
        return _encode(result, self.wants_final)


class Layout(NamedTuple):
    """Where everything stands in a request: those of one client differ in their tensors' bytes alone.

    Attributes:
        fixed: What is no tensor, with where it begins and ends.
        raw: Where tensors begin and end.
    """

    plan: Plan
    fixed: tuple[tuple[int, int, bytes], ...]
    raw: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, plan: Plan, view: memoryview, raw: Sequence[tuple[int, int]]) -> Layout:
        """Return the layout of a request whose tensors lie at these places."""
        ends = [0, *(end for _, end in raw)]
        starts = [*(start for start, _ in raw), len(view)]
        spans = [(end, start) for end, start in zip(ends, starts, strict=True) if end < start]
        return cls(plan, tuple([(a, b, bytes(view[a:b])) for a, b in spans]), tuple(raw))

    def is_of(self, view: memoryview) -> bool:
        """Whether a request of the same length says the same but for its tensors' bytes."""
        return not any(view[start:end] != text for start, end, text in self.fixed)


class InferDoor:
    """Serves ModelInfer and ModelStreamInfer; one for all connections of an accelerator."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._plans: dict[tuple[bytes, tuple[int, ...]], Plan] = {}
        self._layouts: dict[int, Layout] = {}  # of the latest request of each length

    def pace(self, call: Call) -> Pace | None:
        """Tell how quick requests like this one were; None for one of which nothing is known."""
        view = call.peek()
        if view is None:
            return None
        layout = self._layouts.get(len(view))
        return layout.plan.pace if layout is not None and layout.is_of(view) else None

    def infer(self, call: Call) -> None:
        """Answer one request."""
        view = call.take(self._inference.shared.body_limit_bytes)
        call.answer(self._answer(call, view))

    def infer_stream(self, call: Call) -> None:
        """Answer each request of a stream in its order; one that fails gets an error, and the next its answer."""
        while True:
            view = call.next(self._inference.shared.body_limit_bytes)
            if view is None:
                return
            try:
                answer = self._answer(call, view)
            except ElasticInferenceError as error:
                if call.is_cancelled:
                    raise
                call.send([_stream_error(view, error)])
                continue
            size = sum(map(len, answer))
            call.send([b"\x12" + _varint(size), *answer])  # ModelStreamInferResponse.infer_response

    def _answer(self, call: Call, view: memoryview) -> list[bytes | memoryview]:
        plan, raw = self._read(view)
        return self._inference.infer(
            plan.model,
            plan.head,
            raw,
            plan.respond,
            call.trace_parent,
            call.seconds_left(),
            call.is_wanted,
            None if call.method.takes_many else call.began,
            plan.version,
        )

    def _read(self, view: memoryview) -> tuple[Plan, list[memoryview]]:
        layout = self._layouts.get(len(view))
        if layout is not None and layout.is_of(view):
            return layout.plan, [view[start:end] for start, end in layout.raw]
        text, places = split_request(view)
        raw = [view[start:end] for start, end in places]
        key = (text, tuple(map(len, raw)))
        plan = self._plans.get(key)
        if plan is None:
            plan = _read_plan(text, key[1])
            if len(text) <= MAX_CACHED_HEAD_BYTES:
                _keep(self._plans, key, plan)
        elif len(raw) <= MAX_CACHED_TENSORS:
            _keep(self._layouts, len(view), Layout.of(plan, view, places))
        return plan, raw


def _keep(cache: dict[K, V], key: K, value: V) -> None:
    if len(cache) >= MAX_PLANS:
        cache.clear()
    cache[key] = value


def split_request(view: memoryview) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a request without its raw tensors, and where those are; InvalidInput where it is no protobuf message."""
    kept: list[memoryview] = []
    raw: list[tuple[int, int]] = []
    position, size = 0, len(view)
    start = 0  # of what is kept since the last raw tensor
    while position < size:
        field_start = position
        key, position = _read_varint(view, position)
        if key & 7 == _BYTES:
            length, position = _read_varint(view, position)
            if key >> 3 == _RAW_INPUTS:
                if start < field_start:
                    kept.append(view[start:field_start])
                start = position + length
                raw.append((position, start))
            position += length
        else:
            position = _skip(view, position, key & 7)
        if position > size:
            raise InvalidInput("the request breaks off in the middle of a field")
    if start < size:
        kept.append(view[start:size])
    return b"".join(kept), raw


def first_tensor(view: memoryview) -> int:
    """Return where the first raw tensor of a request begins, of which only the first bytes are known; 0: unknown."""
    position = 0
    try:
        while position < len(view):
            key, position = _read_varint(view, position)
            if key & 7 != _BYTES:
                position = _skip(view, position, key & 7)
                continue
            length, position = _read_varint(view, position)
            if key >> 3 == _RAW_INPUTS:
                return position
            position += length
    except InvalidInput:
        pass  # it goes on beyond what is known, or is malformed, which the whole will show
    return 0


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(view) and shift < 64:
        byte = view[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise InvalidInput("the request breaks off in the middle of a number")


def _skip(view: memoryview, position: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _read_varint(view, position)[1]
    if wire_type in (_FIXED64, _FIXED32):
        return position + (8 if wire_type == _FIXED64 else 4)
    raise InvalidInput(f"the request has a field of wire type {wire_type}")


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number >= 128:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _read_plan(text: bytes, sizes: Sequence[int]) -> Plan:
    request = messages.parse("inference.ModelInferRequest", text)
    left = list(sizes)
    inputs = [_read_input(tensor, left, bool(sizes), request.model_name) for tensor in request.inputs]
    if left:
        raise InvalidInput(
            f"raw_input_contents has {len(sizes)} entries, but only {len(sizes) - len(left)} inputs are to come in it"
        )
    parameters = _parameters(request.parameters)
    value = {
        "id": request.id or None,
        "parameters": parameters | {"binary_data_output": True},
        "inputs": inputs,
        "outputs": [{"name": o.name, "parameters": _parameters(o.parameters)} for o in request.outputs],
    }
    head = read_request_head(value)
    return Plan(request.model_name, request.model_version, head, parameters.get(_FINAL) is True)


def _read_input(tensor: Any, left: list[int], has_raw: bool, model: str) -> dict[str, Any]:
    """Return an input as the JSON form has it; takes the size of its raw bytes from those that are left."""
    entry: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    parameters = _parameters(tensor.parameters)
    entry["parameters"] = parameters
    if "shared_memory_region" in parameters:
        return entry
    if has_raw:
        if tensor.HasField("contents"):
            # The words that Triton's own clients look for.
            raise InvalidInput(
                "contents field must not be specified when using raw_input_contents for "
                f"{tensor.name!r:.80} for model {model!r:.80}"
            )
        if not left:
            raise InvalidInput(f"raw_input_contents has no entry for input {tensor.name!r}")
        parameters["binary_data_size"] = left.pop(0)
        return entry
    field = _CONTENTS.get(tensor.datatype)
    if field is None:
        if tensor.datatype in DTYPE_OF_WIRE_NAME.values() or tensor.datatype in WIRE_NAMES.values():
            raise InvalidInput(
                f"input {tensor.name!r} of {tensor.datatype} has to come in raw_input_contents"
            )
        return entry  # which the head's reader refuses by name
    others = [d.name for d, _ in tensor.contents.ListFields() if d.name != field]
    if others:
        raise InvalidInput(
            f"input {tensor.name!r} is {tensor.datatype}, but has {others[0]} in place of {field}"
        )
    entry["data"] = list(getattr(tensor.contents, field))
    return entry


def _parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in parameters.items():
        choice = value.WhichOneof("parameter_choice")
        found[name] = None if choice is None else getattr(value, choice)
    return found


def _encode(result: Result, wants_final: bool) -> list[bytes | memoryview]:
    tensors = []
    views: list[bytes | memoryview] = [b""]
    for output in result.outputs:
        tensors.append((output.wanted.name, WIRE_NAMES[output.dtype], output.array.shape))
        # One in shared memory has an empty entry, so that entries and outputs have the same places.
        data = b"" if output.wanted.range is not None else wire.to_bytes(output.array)
        views.append(_RAW_OUTPUT_KEY + _varint(len(data)))
        views.append(data)
    views[0] = _head(result.model_name, result.model_version, result.request_id or "", wants_final, *tensors)
    return views


@lru_cache(maxsize=256)
def _head(
    model_name: str,
    model_version: str,
    request_id: str,
    wants_final: bool,
    *tensors: tuple[str, str, tuple[int, ...]],
) -> bytes:
    """Return a response without its raw tensors; kept, because the answers of one model seldom differ in it."""
    response = messages.message_class("inference.ModelInferResponse")(
        model_name=model_name, model_version=model_version, id=request_id
    )
    if wants_final:
        response.parameters["triton_final_response"].bool_param = True
    for name, datatype, shape in tensors:
        response.outputs.add(name=name, datatype=datatype, shape=shape)
    return bytes(response.SerializeToString())


def _stream_error(view: memoryview, error: ElasticInferenceError) -> bytes:
    answer = messages.message_class("inference.ModelStreamInferResponse")(error_message=error_text(error))
    with contextlib.suppress(InvalidInput):  # where nobody can tell which request it was
        answer.infer_response.id = messages.parse("inference.ModelInferRequest", split_request(view)[0]).id
    return bytes(answer.SerializeToString())
