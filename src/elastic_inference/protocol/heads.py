"""The JSON heads of an inference request and response, with the binary and shared memory extensions.

Reads and writes heads; the tensors' bytes stay where they are. Both heads list tensors as `{"name", "datatype",
"shape", "parameters"}`, where `binary_data_size` says how many bytes follow the head, `shared_memory_region`,
`_offset` and `_byte_size` where they lie instead, and `data` holds them inline as JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from elastic_inference.errors import InvalidInput
from elastic_inference.tensors import DTYPE_OF_WIRE_NAME, NUMPY_DTYPES, WIRE_NAMES

ALIGNMENT = 64  # heads are padded to it, so that the first tensor is aligned wherever the head is
MAX_RANK = 32
MAX_CLASSES = 1 << 20
MAX_TENSOR_BYTES = 1 << 40
MAX_TIMEOUT_MICROSECONDS = 10**15  # 30 years; what Python's locks can wait ends not far above
_NOT_HONOURED = ("sequence_id", "sequence_start", "sequence_end", "priority")


@dataclass(frozen=True)
class RegionRange:
    """A part of a registered shared memory region, in bytes."""

    region: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class TensorPart:
    """One tensor of a message.

    Attributes:
        name: The alias.
        dtype: Our name (`uint8`, `string`).
        offset, size_bytes: Where its bytes lie behind the head; size 0 and no `data` or `range` for empty tensors.
        data: The value as JSON gives it, or None.
        range: Where it lies in shared memory, or None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int
    data: Any = None
    range: RegionRange | None = None


class WantedOutput(NamedTuple):
    """One output that a request asks for, and how it wants it.

    Attributes:
        num_classes: Of the classification extension: only so many of the largest values, as text; 0: the tensor.
    """

    name: str
    is_binary: bool
    range: RegionRange | None = None
    num_classes: int = 0


@dataclass(frozen=True)
class RequestHead:
    """A parsed request head.

    Attributes:
        outputs: None asks for all.
        is_binary_default: How outputs that are not listed come.
        timeout_seconds: The client's deadline from arrival on; None is none.
        num_binary_bytes: Of all binary tensors together.
    """

    id: str | None
    inputs: tuple[TensorPart, ...]
    outputs: tuple[WantedOutput, ...] | None
    is_binary_default: bool
    timeout_seconds: float | None
    num_binary_bytes: int


@dataclass(frozen=True)
class ResponseHead:
    """A parsed response head."""

    outputs: tuple[TensorPart, ...]
    num_binary_bytes: int


def parse_request_head(text: bytes | memoryview) -> RequestHead:
    """Read a request head; raises InvalidInput that names the field."""
    return read_request_head(_object(text))


def read_request_head(value: dict[str, Any]) -> RequestHead:
    """Read a request head that is an object already; raises InvalidInput that names the field."""
    parameters = _parameters(value, "request")
    inputs, num_binary_bytes = _parse_tensors(value.get("inputs"), "inputs")
    wanted = value.get("outputs")
    is_binary = parameters.get("binary_data_output", False) is True
    request_id = value.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidInput(f"request id must be a string, not {request_id!r}")
    _refuse_ignored(parameters)
    timeout = parameters.get("timeout")  # microseconds, as Triton has it
    if timeout is not None:
        timeout = _integer(timeout, "parameter timeout (microseconds)", MAX_TIMEOUT_MICROSECONDS)
    return RequestHead(
        id=request_id,
        inputs=inputs,
        outputs=None if not wanted else tuple(_parse_wanted(o, is_binary) for o in _list(wanted, "outputs")),
        is_binary_default=is_binary,
        timeout_seconds=timeout / 1e6 if timeout else None,
        num_binary_bytes=num_binary_bytes,
    )


def _refuse_ignored(parameters: Mapping[str, Any]) -> None:
    """Refuse what asks for another answer, or another order of answers, than it would get here.

    Zero, false and "" ask for nothing; so clients send them that always fill the fields in.
    """
    for name in _NOT_HONOURED:
        if parameters.get(name):
            raise InvalidInput(
                f"parameter {name} is {parameters[name]!r:.80}, but accelerators keep no sequences and run requests "
                "in the order in which they arrive; leave it out"
            )


def parse_response_head(text: bytes | memoryview) -> ResponseHead:
    """Read a response head; raises InvalidInput that names the field."""
    return ResponseHead(*_parse_tensors(_object(text).get("outputs"), "outputs"))


def encode_head(value: Mapping[str, Any]) -> bytes:
    """Write a head as JSON, padded with spaces to a multiple of ALIGNMENT."""
    text = json.dumps(value, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % ALIGNMENT)


def encode_tensor(
    name: str, dtype: str, shape: Sequence[int], size_bytes: int, where: RegionRange | None = None
) -> dict[str, Any]:
    """One entry of `inputs` or `outputs` whose bytes follow the head, or lie in `where`."""
    if where is None:
        parameters: dict[str, Any] = {"binary_data_size": size_bytes}
    else:
        parameters = encode_range(where)
    return {"name": name, "datatype": WIRE_NAMES[dtype], "shape": list(shape), "parameters": parameters}


def encode_range(where: RegionRange) -> dict[str, Any]:
    """Return the parameters that name a part of shared memory."""
    return {
        "shared_memory_region": where.region,
        "shared_memory_offset": where.offset,
        "shared_memory_byte_size": where.size_bytes,
    }


def _object(text: bytes | memoryview) -> dict[str, Any]:
    try:
        value = json.loads(bytes(text))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the inference header is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"the inference header must be a JSON object, not {type(value).__name__}")
    return value


def _list(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InvalidInput(f"{field} must be a list of objects")
    return value


def _parameters(value: dict[str, Any], of: str) -> dict[str, Any]:
    parameters = value.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInput(f"parameters of {of} must be an object")
    return parameters


def _integer(value: Any, field: str, limit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise InvalidInput(f"{field} must be an integer from 0 to {limit}, not {value!r:.80}")
    return value


def _parse_range(parameters: dict[str, Any], name: str) -> RegionRange | None:
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    if not isinstance(region, str):
        raise InvalidInput(f"shared_memory_region of {name!r} must be a string")
    size = _integer(
        parameters.get("shared_memory_byte_size"), f"shared_memory_byte_size of {name!r}", 1 << 50
    )
    offset = _integer(parameters.get("shared_memory_offset", 0), f"shared_memory_offset of {name!r}", 1 << 50)
    return RegionRange(region, offset, size)


def _parse_tensors(entries: Any, field: str) -> tuple[tuple[TensorPart, ...], int]:
    parts: list[TensorPart] = []
    offset = 0
    for entry in _list(entries, field):
        part = _parse_tensor(entry, offset)
        if any(part.name == other.name for other in parts):
            raise InvalidInput(f"{field} name {part.name!r} twice")
        if part.data is None and part.range is None:
            offset += part.size_bytes
        parts.append(part)
    return tuple(parts), offset


def _parse_tensor(entry: dict[str, Any], offset: int) -> TensorPart:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InvalidInput(f"a tensor's name must be a string, not {name!r:.80}")
    datatype = entry.get("datatype")
    dtype = DTYPE_OF_WIRE_NAME.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise InvalidInput(
            f"datatype {datatype!r:.80} of {name!r} is not one of {', '.join(DTYPE_OF_WIRE_NAME)}"
        )
    shape = _parse_shape(entry.get("shape"), name)
    parameters = _parameters(entry, f"tensor {name!r}")
    where = _parse_range(parameters, name)
    data = entry.get("data")
    size = _integer(parameters.get("binary_data_size", 0), f"binary_data_size of {name!r}", MAX_TENSOR_BYTES)
    if sum(given is not None for given in (where, data, parameters.get("binary_data_size"))) > 1:
        raise InvalidInput(f"tensor {name!r} comes in more than one of data, binary and shared memory")
    if data is None:
        _check_size(name, dtype, shape, where.size_bytes if where else size)
    return TensorPart(name, dtype, shape, offset, size, data, where)


def _parse_shape(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_RANK:
        raise InvalidInput(f"shape of {name!r} must be a list of at most {MAX_RANK} integers")
    shape = tuple(_integer(size, f"shape of {name!r}", MAX_TENSOR_BYTES) for size in value)
    if math.prod(shape) > MAX_TENSOR_BYTES:
        raise InvalidInput(f"shape {list(shape)} of {name!r} has more than {MAX_TENSOR_BYTES} elements")
    return shape


def _check_size(name: str, dtype: str, shape: tuple[int, ...], size_bytes: int) -> None:
    if dtype == "string":
        return  # elements are of any length; decoding checks it
    wanted = math.prod(shape) * NUMPY_DTYPES[dtype].itemsize
    if wanted != size_bytes:
        raise InvalidInput(
            f"tensor {name!r} of shape {list(shape)} and datatype {WIRE_NAMES[dtype]} needs {wanted} bytes, "
            f"but {size_bytes} are given"
        )


def _parse_wanted(entry: dict[str, Any], is_binary_default: bool) -> WantedOutput:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InvalidInput(f"an output's name must be a string, not {name!r:.80}")
    parameters = _parameters(entry, f"output {name!r}")
    classification = parameters.get("classification", 0)
    return WantedOutput(
        name,
        parameters.get("binary_data", is_binary_default) is True,
        _parse_range(parameters, name),
        _integer(classification, f"classification of output {name!r}", MAX_CLASSES),
    )
