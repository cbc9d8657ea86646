"""`/v1/models/NAME[/versions/VERSION]` as TensorFlow Serving has it: status, metadata, predict, classify, regress.

Row format (`instances`) and column format (`inputs`), bytes as `{"b64": ...}`. A model has the one signature that
it was loaded with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from elastic_inference.accelerator import array_request, json_tensors
from elastic_inference.accelerator.doors.tensorflow_serving.examples import (
    answers_of,
    encode_examples,
    examples_input,
)
from elastic_inference.accelerator.doors.tensorflow_serving.states import asked_version, states_of
from elastic_inference.accelerator.inference import Inference, Output
from elastic_inference.accelerator.reply import Call, Reply
from elastic_inference.errors import HttpError, InvalidInput
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY, Signature
from elastic_inference.tensors import TensorSpec

_DT_NAMES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "float16": "DT_HALF"}
_VERBS = ("predict", "classify", "regress")


class TensorFlowServing:
    """The door; one for all connections."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def answer(self, call: Call) -> Reply:
        """Answer a request whose path begins with `v1`; raises our errors."""
        name, asked, rest = _model_of(call)
        version = asked_version(asked)
        last, _, verb = rest.rpartition(":")
        if verb in _VERBS and not last:
            call.needs("POST")
            body = json_tensors.parse(call.read())
            if not isinstance(body, dict):
                raise InvalidInput("the body must be a JSON object")
            self._check_signature(name, version, body)
            if verb == "predict":
                return Reply.of_json(self._predict(name, version, body))
            return Reply.of_json(self._of_examples(name, version, verb, body))
        call.needs("GET")
        if rest == "metadata":
            signature = self._inference.signature(name, version)
            return Reply.of_json(_metadata(name, version or self._inference.versions(name)[-1], signature))
        if rest:
            raise _no_such_path(call)
        return Reply.of_json(self._status(name, version))

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

    def _check_signature(self, name: str, version: str, body: Mapping[str, Any]) -> None:
        """Refuse another signature than the model's own, whose name it need not know."""
        self._inference.signature(name, version)
        wanted = body.get("signature_name", DEFAULT_SIGNATURE_KEY)
        own = self._inference.signature_key(name, version)
        if wanted not in (DEFAULT_SIGNATURE_KEY, "", own):
            raise InvalidInput(
                f"Serving signature name: {wanted!r:.80} not found in signature def; {name!r:.80} was loaded with "
                f"{own!r}"
            )

    def _predict(self, name: str, version: str, body: Mapping[str, Any]) -> dict[str, Any]:
        signature = self._inference.signature(name, version)
        if ("instances" in body) == ("inputs" in body):
            raise InvalidInput("Missing 'inputs' or 'instances' key: give exactly one of them")
        is_rows = "instances" in body
        if is_rows:
            inputs = json_tensors.inputs_of_rows(body["instances"], signature)
        else:
            inputs = json_tensors.inputs_of_columns(body["inputs"], signature)
        result = array_request.predict(self._inference, name, inputs, version)
        if not is_rows:
            found = {output.wanted.name: _json_of(output) for output in result.outputs}
            return {"outputs": next(iter(found.values())) if len(found) == 1 else found}
        return {"predictions": columns_to_rows(result.outputs, len(body["instances"]))}

    def _of_examples(self, name: str, version: str, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        alias = examples_input(self._inference.signature(name, version), name, f":{verb}")
        serialized = encode_examples(body.get("examples"), body.get("context", {}))
        result = array_request.predict(self._inference, name, {alias: serialized}, version)
        return {"results": answers_of(verb, result.outputs)}


def _model_of(call: Call) -> tuple[str, str, str]:
    """Return name, version and what follows in `v1/models/NAME[/versions/V][/metadata]`, a verb with its colon."""
    match call.segments:
        case ("v1", "models", last):
            name, colon, verb = last.rpartition(":")
            return (name, "", f":{verb}") if colon and verb in _VERBS else (last, "", "")
        case ("v1", "models", name, "metadata"):
            return name, "", "metadata"
        case ("v1", "models", name, "versions", last):
            version, colon, verb = last.partition(":")
            return name, version, f"{colon}{verb}"
        case ("v1", "models", name, "versions", version, "metadata"):
            return name, version, "metadata"
        case ("v1", "models", _, "labels", *_):
            raise InvalidInput("models have no version labels here; name a version by its number")
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


def _metadata(name: str, version: str, signature: Signature) -> dict[str, Any]:
    definition = {
        "inputs": {alias: _tensor_info(spec) for alias, spec in signature.inputs.items()},
        "outputs": {alias: _tensor_info(spec) for alias, spec in signature.outputs.items()},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": version},
        "metadata": {"signature_def": {"signature_def": {DEFAULT_SIGNATURE_KEY: definition}}},
    }


def _tensor_info(spec: TensorSpec) -> dict[str, Any]:
    sizes = [{"size": str(-1 if size is None else size), "name": ""} for size in spec.shape or ()]
    return {
        "dtype": _DT_NAMES.get(spec.base_dtype, f"DT_{spec.base_dtype.upper()}"),
        "tensor_shape": {"dim": sizes, "unknown_rank": spec.shape is None},
        "name": spec.name,
    }
