"""`/v1/models/NAME[/versions/VERSION]` as TensorFlow Serving has it: status, metadata, predict, classify, regress.

Row format (`instances`) and column format (`inputs`), bytes as `{"b64": ...}`. In place of `versions/VERSION` may stand
`labels/LABEL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from elastic_inference.accelerator import array_request, json_tensors
from elastic_inference.accelerator.doors.tensorflow_serving.examples import (
    answers_of,
    encode_examples,
    examples_input,
)
from elastic_inference.accelerator.doors.tensorflow_serving.states import states_of
from elastic_inference.accelerator.doors.tensorflow_serving.target import (
    Target,
    described,
    target_of,
    version_of,
)
from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.accelerator.reply import Call, Reply
from elastic_inference.accelerator.request_tensors import Output
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import HttpError, InvalidInput
from elastic_inference.models.definitions import Definition
from elastic_inference.tensors import TensorSpec

_DT_NAMES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}
_VERBS = ("predict", "classify", "regress")


class TensorFlowServing:
    """The door; one for all connections."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def answer(self, call: Call) -> Reply:
        """Answer a request whose path begins with `v1`; raises our errors."""
        path = _path_of(call)
        last, _, verb = path.rest.rpartition(":")
        if verb in _VERBS and not last:
            call.needs("POST")
            body = json_tensors.parse(call.read())
            if not isinstance(body, dict):
                raise InvalidInput("the body must be a JSON object")
            wanted = body.get("signature_name", "")
            if not isinstance(wanted, str):
                raise InvalidInput(f"signature_name must be a string, not {wanted!r:.80}")
            target = target_of(self._inference, path.name, path.version, path.label, wanted)
            if verb == "predict":
                return Reply.of_json(self._predict(target, body))
            return Reply.of_json(self._of_examples(target, verb, body))
        call.needs("GET")
        version = version_of(self._inference, path.name, path.version, path.label)
        if path.rest == "metadata":
            definitions = described(self._inference, path.name, version)
            version = version or self._inference.versions(path.name)[-1]
            return Reply.of_json(_metadata(path.name, version, definitions))
        if path.rest:
            raise _no_such_path(call)
        return Reply.of_json(self._status(path.name, version))

    def _status(self, name: str, version: str) -> dict[str, Any]:
        rows = [
            {
                "version": str(each.version),
                "state": each.state,
                "status": {"error_code": each.code.name, "error_message": each.message},
            }
            for each in states_of(self._inference, name, version)
        ]
        return {"model_version_status": rows}

    def _predict(self, target: Target, body: Mapping[str, Any]) -> dict[str, Any]:
        signature = target.signature
        if ("instances" in body) == ("inputs" in body):
            raise InvalidInput("Missing 'inputs' or 'instances' key: give exactly one of them")
        is_rows = "instances" in body
        if is_rows:
            inputs = json_tensors.inputs_of_rows(body["instances"], signature)
        else:
            inputs = json_tensors.inputs_of_columns(body["inputs"], signature)
        result = self._run(target, inputs)
        if not is_rows:
            found = {output.wanted.name: _json_of(output) for output in result.outputs}
            return {"outputs": next(iter(found.values())) if len(found) == 1 else found}
        return {"predictions": columns_to_rows(result.outputs, len(body["instances"]))}

    def _of_examples(self, target: Target, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        alias = examples_input(target.signature, target.name, f":{verb}")
        serialized = encode_examples(body.get("examples"), body.get("context", {}))
        return {"results": answers_of(verb, self._run(target, {alias: serialized}).outputs)}

    def _run(self, target: Target, inputs: Arrays) -> Result:
        return array_request.predict(
            self._inference, target.name, inputs, target.version, signature_key=target.key
        )


class _Path(NamedTuple):
    """What a path says; `version` or `label` is "" where it does not say it.

    Attributes:
        rest: What follows: "metadata", or a verb with its colon.
    """

    name: str
    version: str = ""
    label: str = ""
    rest: str = ""


def _path_of(call: Call) -> _Path:
    """Read `v1/models/NAME[/versions/V | /labels/L][/metadata]`, or with a verb; raises HttpError for another path."""
    match call.segments:
        case ("v1", "models", last):
            name, colon, verb = last.rpartition(":")
            return _Path(name, rest=f":{verb}") if colon and verb in _VERBS else _Path(last)
        case ("v1", "models", name, "metadata"):
            return _Path(name, rest="metadata")
        case ("v1", "models", name, "versions" | "labels" as kind, last, *tail) if tail in ([], ["metadata"]):
            which, colon, verb = last.partition(":")
            rest = "/".join([f"{colon}{verb}", *tail]) if colon else "".join(tail)
            return (
                _Path(name, which, rest=rest) if kind == "versions" else _Path(name, label=which, rest=rest)
            )
    raise _no_such_path(call)


def _no_such_path(call: Call) -> HttpError:
    return HttpError(f"Malformed request: {call.method} /{'/'.join(call.segments):.200}", status=404)


def columns_to_rows(outputs: Sequence[Output], num_rows: int) -> list[Any]:
    """Return one prediction a row; of a single output its value, of several an object.

    Raises:
        InvalidInput: An output's first axis is not the rows.
    """
    for output in outputs:
        if not output.array.shape or output.array.shape[0] != num_rows:
            raise InvalidInput(
                f"output {output.wanted.name!r} of shape {list(output.array.shape)} does not have the {num_rows} rows "
                "of the request on its first axis; use the column format, 'inputs' in place of 'instances'"
            )
    values = {output.wanted.name: _json_of(output) for output in outputs}
    if len(values) == 1:
        return list(next(iter(values.values())))
    return [{name: value[row] for name, value in values.items()} for row in range(num_rows)]


def _json_of(output: Output) -> Any:
    """Return an output's value; strings of one whose name ends in `_bytes` are bytes, as TensorFlow Serving has it."""
    return json_tensors.from_array(output.array, output.dtype, output.wanted.name.endswith("_bytes"))


def _metadata(name: str, version: str, definitions: Mapping[str, Definition]) -> dict[str, Any]:
    signatures = {
        key: {
            "inputs": {alias: _tensor_info(spec) for alias, spec in definition.inputs.items()},
            "outputs": {alias: _tensor_info(spec) for alias, spec in definition.outputs.items()},
            "method_name": definition.method_name,
        }
        for key, definition in definitions.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape or ()]
    return {
        "dtype": _DT_NAMES.get(spec.base_dtype, f"DT_{spec.base_dtype.upper()}"),
        "tensor_shape": {"dim": sizes, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
