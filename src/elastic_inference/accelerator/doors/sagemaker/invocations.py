"""`GET /ping` and `POST /invocations`, as SageMaker calls a container on port 8080.

A body is JSON (TensorFlow Serving's `instances` or `inputs`, or a bare list), CSV (a row of numbers a line) or `.npy`.
The answer comes in the same form, or in the one that `Accept` names. The model is the one that the header
`X-Amzn-SageMaker-Target-Model` or the custom attribute `tfs-model-name` names, else the default of whoever serves, else
the only one.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from elastic_inference.accelerator import array_request, json_tensors
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.reply import Call, Reply
from elastic_inference.accelerator.request_tensors import Output
from elastic_inference.errors import HttpError, InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import from_bfloat16_bits, to_bfloat16_bits

JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
_CUSTOM_MODEL = "tfs-model-name"


class SageMaker:
    """The door; one for all connections."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def answer(self, call: Call) -> Reply:
        """Answer `/ping` or `/invocations`; raises our errors."""
        match call.segments:
            case ("ping",):
                call.needs("GET")
                return Reply(b"", status=200 if self._is_ready() else 503)
            case ("invocations",):
                call.needs("POST")
                return self._invoke(call)
        raise HttpError(f"no such path: /{'/'.join(call.segments):.200}", status=404)

    def _is_ready(self) -> bool:
        """Whether the container may get traffic: nothing still loads, and something is there."""
        states = {row["state"] for row in self._inference.index()}
        return self._inference.is_ready() and "READY" in states and "LOADING" not in states

    def _invoke(self, call: Call) -> Reply:
        name = self._model(call)
        signature = self._inference.signature(name)
        given = call.header(b"content-type").partition(";")[0].strip().lower() or JSON
        wanted = _accepted(call.header(b"accept"), given)
        inputs, has_rows = _read(call.read(), given, signature)
        result = array_request.predict(self._inference, name, inputs)
        return _write(result.outputs, wanted, has_rows)

    def _model(self, call: Call) -> str:
        target = call.header(b"x-amzn-sagemaker-target-model")
        for attribute in call.header(b"x-amzn-sagemaker-custom-attributes").split(","):
            key, _, value = attribute.partition("=")
            if key.strip() == _CUSTOM_MODEL:
                target = target or value.strip()
        target = target or self._inference.config.default_model or ""
        if target:
            return target
        names = sorted({row["name"] for row in self._inference.index(only_ready=True)})
        if len(names) != 1:
            raise InvalidInput(
                f"{len(names)} models are here ({', '.join(names) or 'none'}); name one by the header "
                "X-Amzn-SageMaker-Target-Model"
            )
        return str(names[0])


def _accepted(header: str, given: str) -> str:
    """Return the first form of `Accept` that is offered; what came, where it names none."""
    default = JSON if given == JSON_LINES else given
    if not header or header.strip() == "*/*":
        return default
    kinds = [part.partition(";")[0].strip().lower() for part in header.split(",")]
    for kind in kinds:
        if kind in (JSON, CSV, NPY):
            return kind
    if "*/*" in kinds:
        return default
    raise HttpError(f"Accept {header[:80]!r} names none of {JSON}, {CSV}, {NPY}", status=406)


def _read(data: bytes, kind: str, signature: Signature) -> tuple[dict[str, npt.NDArray[Any]], bool]:
    """Return the inputs, and whether they came as rows."""
    if kind == JSON:
        return _read_json(json_tensors.parse(data), signature)
    if kind == JSON_LINES:
        return _read_json([json_tensors.parse(line) for line in data.splitlines() if line.strip()], signature)
    if kind == CSV:
        return {json_tensors.only_input(signature): _read_csv(data, signature)}, True
    if kind == NPY:
        return {json_tensors.only_input(signature): _read_npy(data, signature)}, False
    raise HttpError(f"Content-Type {kind[:80]!r} is none of {JSON}, {JSON_LINES}, {CSV}, {NPY}", status=415)


def _read_json(value: Any, signature: Signature) -> tuple[dict[str, npt.NDArray[Any]], bool]:
    if not isinstance(value, dict) or json_tensors.is_bytes(value):
        return json_tensors.inputs_of_rows(value, signature), True
    if ("instances" in value) == ("inputs" in value):
        raise InvalidInput("the object must have exactly one of 'instances' and 'inputs'")
    if "instances" in value:
        return json_tensors.inputs_of_rows(value["instances"], signature), True
    return json_tensors.inputs_of_columns(value["inputs"], signature), False


def _read_csv(data: bytes, signature: Signature) -> npt.NDArray[Any]:
    name = json_tensors.only_input(signature)
    dtype = signature.inputs[name].base_dtype
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if row]
        values = [[text if dtype == "string" else _number(text) for text in row] for row in rows]
    except (ValueError, csv.Error) as error:
        raise InvalidInput(f"the body is not CSV of numbers: {error}") from error
    if not values:
        raise InvalidInput("the CSV holds no row")
    return json_tensors.to_array(values, dtype, name)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _read_npy(data: bytes, signature: Signature) -> npt.NDArray[Any]:
    name = json_tensors.only_input(signature)
    spec = signature.inputs[name]
    try:
        array = _npy_array(data)
    except (ValueError, EOFError, SyntaxError, TokenError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"the body is not a .npy array of numbers: {error}") from error
    if spec.base_dtype == "bfloat16":
        return to_bfloat16_bits(array)
    if spec.base_dtype == "string" or not np.can_cast(array.dtype, spec.numpy_dtype, "same_kind"):
        raise InvalidInput(f"input {name!r} is {spec.base_dtype}, the array is {array.dtype}")
    return np.ascontiguousarray(array, spec.numpy_dtype)


def _npy_array(data: bytes) -> npt.NDArray[Any]:
    """Return a view of a file's numbers: numpy's own reader takes memory for whatever shape a head names."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"its version is {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if is_fortran else "C")


def _write(outputs: Sequence[Output], kind: str, has_rows: bool) -> Reply:
    if kind == JSON:
        values = {
            output.wanted.name: json_tensors.from_array(output.array, output.dtype) for output in outputs
        }
        value = next(iter(values.values())) if len(values) == 1 else values
        if len(values) > 1 and has_rows and len({output.array.shape[:1] for output in outputs}) == 1:
            value = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        return Reply.of_json({"predictions" if has_rows else "outputs": value})
    if len(outputs) != 1:
        names = sorted(output.wanted.name for output in outputs)
        raise InvalidInput(f"{kind} holds one output, the model has {names}; ask for {JSON}")
    array = _numbers(outputs[0])
    if kind == NPY:
        stream = io.BytesIO()
        np.save(stream, array, allow_pickle=False)
        return Reply(stream.getvalue(), NPY)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        array.reshape(len(array) if array.ndim else 1, -1).tolist()
    )
    return Reply(text.getvalue().encode(), CSV)


def _numbers(output: Output) -> npt.NDArray[Any]:
    if output.dtype == "bfloat16":
        return from_bfloat16_bits(output.array).astype(np.float32)
    if output.array.dtype == object:
        return np.array(json_tensors.from_array(output.array, output.dtype))
    return output.array
