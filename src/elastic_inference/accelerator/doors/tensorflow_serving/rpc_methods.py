"""PredictionService and ModelService: each method reads a message, calls `inference`, and writes the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from elastic_inference.accelerator import array_request
from elastic_inference.accelerator.doors.tensorflow_serving import messages
from elastic_inference.accelerator.doors.tensorflow_serving.examples import answers_of, examples_input
from elastic_inference.accelerator.doors.tensorflow_serving.states import states_of
from elastic_inference.accelerator.doors.tensorflow_serving.target import (
    Target,
    described,
    target_of,
    version_of,
)
from elastic_inference.accelerator.doors.tensorflow_serving.tensors import (
    DTYPE_NUMBERS,
    fields,
    read_tensor,
    write_tensor,
)
from elastic_inference.accelerator.doors.tensorflow_serving.wire_format import field, head
from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.accelerator.rpc import Caller, RpcMethod, RpcServices
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import InvalidInput
from elastic_inference.models.protobuf_wire import Value
from elastic_inference.protocol import arrays as wire
from elastic_inference.tensors import TensorSpec

PREDICTION, MODELS = f"{messages.PACKAGE}.PredictionService", f"{messages.PACKAGE}.ModelService"
_SIGNATURES = "signature_def"
_CLASSIFY, _REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
Views = Sequence[bytes | memoryview]


def services(inference: Inference) -> RpcServices:
    """Return both services."""
    door = _Methods(inference)
    return RpcServices(
        {
            f"/{PREDICTION}/Predict": RpcMethod(door.predict, carries_tensors=True),
            f"/{PREDICTION}/Classify": RpcMethod(door.classify, carries_tensors=True),
            f"/{PREDICTION}/Regress": RpcMethod(door.regress, carries_tensors=True),
            f"/{PREDICTION}/MultiInference": RpcMethod(door.multi_inference, carries_tensors=True),
            f"/{PREDICTION}/GetModelMetadata": RpcMethod(door.metadata),
            f"/{MODELS}/GetModelStatus": RpcMethod(door.status),
            f"/{MODELS}/HandleReloadConfigRequest": RpcMethod(door.reload),
        },
        messages.POOL,
    )


class _Methods:
    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def predict(self, view: memoryview, caller: Caller) -> Views:
        spec, tensors, wanted = memoryview(b""), dict[str, memoryview](), list[str]()
        for number, value in fields(view):
            if number == 1:
                spec = _part(value)
            elif number == 2:
                alias, tensor = _entry(_part(value))
                tensors[alias] = tensor
            elif number == 3:
                wanted.append(bytes(_part(value)).decode(errors="replace"))
        target = self._target(messages.parse(f"{messages.PACKAGE}.ModelSpec", spec))
        signature = target.signature
        limit = self._inference.shared.body_limit_bytes
        inputs = {}
        for alias, tensor in tensors.items():
            own = signature.inputs.get(alias)
            if own is None:
                raise InvalidInput(
                    f"input tensor alias not found in signature: {alias:.80}. Inputs expected to be in the set "
                    f"{{{','.join(sorted(signature.inputs))}}}."
                )
            inputs[alias] = read_tensor(tensor, alias, own, limit)
        result = self._run(target, inputs, caller, wanted)
        return _predict_response(result, _spec(result, target))

    def classify(self, view: memoryview, caller: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.ClassificationRequest", view)
        response = messages.message_class(f"{messages.PACKAGE}.ClassificationResponse")()
        target, serialized = self._target(request.model_spec), _serialized(request.input)
        self._classify(target, serialized, caller, response.model_spec, response.result)
        return [response.SerializeToString()]

    def _classify(self, target: Target, serialized: Any, caller: Caller, spec: Any, answer: Any) -> None:
        """Classify examples; `spec` and `answer` are messages that are filled."""
        result = self._of_examples("Classification", target, serialized, caller)
        spec.CopyFrom(_spec(result, target))
        answer.SetInParent()
        for row in answers_of("classify", result.outputs):
            classes = answer.classifications.add()
            for label, score in row:
                classes.classes.add(label=label, score=score)

    def regress(self, view: memoryview, caller: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.RegressionRequest", view)
        response = messages.message_class(f"{messages.PACKAGE}.RegressionResponse")()
        target, serialized = self._target(request.model_spec), _serialized(request.input)
        self._regress(target, serialized, caller, response.model_spec, response.result)
        return [response.SerializeToString()]

    def _regress(self, target: Target, serialized: Any, caller: Caller, spec: Any, answer: Any) -> None:
        result = self._of_examples("Regression", target, serialized, caller)
        spec.CopyFrom(_spec(result, target))
        answer.SetInParent()
        for value in answers_of("regress", result.outputs):
            answer.regressions.add(value=value)

    def multi_inference(self, view: memoryview, caller: Caller) -> Views:
        """Classify and regress the same examples by several signatures of a model, one run each."""
        request = messages.parse(f"{messages.PACKAGE}.MultiInferenceRequest", view)
        _check_tasks(request.tasks)
        serialized = _serialized(request.input)
        targets = [self._target(task.model_spec) for task in request.tasks]  # before anything runs
        response = messages.message_class(f"{messages.PACKAGE}.MultiInferenceResponse")()
        for task, target in zip(request.tasks, targets, strict=True):
            found = response.results.add()
            if task.method_name == _CLASSIFY:
                self._classify(target, serialized, caller, found.model_spec, found.classification_result)
            else:
                self._regress(target, serialized, caller, found.model_spec, found.regression_result)
        return [response.SerializeToString()]

    def _of_examples(self, kind: str, target: Target, serialized: Any, caller: Caller) -> Result:
        alias = examples_input(target.signature, target.name, kind)
        return self._run(target, {alias: serialized}, caller)

    def _run(self, target: Target, inputs: Arrays, caller: Caller, wanted: Sequence[str] = ()) -> Result:
        return array_request.predict(
            self._inference, target.name, inputs, target.version, wanted, caller, target.key
        )

    def metadata(self, view: memoryview, _: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.GetModelMetadataRequest", view)
        name, version = self._version(request.model_spec)
        if not request.metadata_field:
            raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
        for one in request.metadata_field:
            if one != _SIGNATURES:
                raise InvalidInput(f"Metadata field {one:.80} is not supported")
        signatures = messages.message_class(f"{messages.PACKAGE}.SignatureDefMap")()
        for key, definition in described(self._inference, name, version).items():
            own = signatures.signature_def[key]
            own.method_name = definition.method_name
            for tensors, specs in ((own.inputs, definition.inputs), (own.outputs, definition.outputs)):
                for alias, spec in specs.items():
                    _describe(tensors[alias], spec)
        response = messages.message_class(f"{messages.PACKAGE}.GetModelMetadataResponse")()
        _fill_spec(response.model_spec, name, version or self._inference.versions(name)[-1], "")
        packed = response.metadata[_SIGNATURES]
        packed.type_url = f"type.googleapis.com/{messages.PACKAGE}.SignatureDefMap"
        packed.value = signatures.SerializeToString()
        return [response.SerializeToString()]

    def status(self, view: memoryview, _: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.GetModelStatusRequest", view)
        name, version = self._version(request.model_spec)
        response = messages.message_class(f"{messages.PACKAGE}.GetModelStatusResponse")()
        for each in states_of(self._inference, name, version):
            state = response.model_version_status.add(version=each.version)
            state.state = state.State.Value(each.state)
            state.status.error_code, state.status.error_message = int(each.code), each.message
        return [response.SerializeToString()]

    def reload(self, view: memoryview, _: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.ReloadConfigRequest", view)
        if request.config.WhichOneof("config") != "model_config_list":
            raise InvalidInput(
                "HandleReloadConfigRequest takes a model_config_list, and no other configuration"
            )
        wanted = {}
        for config in request.config.model_config_list.config:
            if not config.name or config.name in wanted:
                raise InvalidInput(
                    f"each model needs a name of its own, {config.name!r:.80} does not have one"
                )
            wanted[config.name] = (config.base_path, _settings(config))
        self._inference.configure(wanted)
        response = messages.message_class(f"{messages.PACKAGE}.ReloadConfigResponse")()
        response.status.SetInParent()
        return [response.SerializeToString()]

    def _target(self, spec: Any) -> Target:
        return target_of(
            self._inference, spec.name, str(spec.version.value), spec.version_label, spec.signature_name
        )

    def _version(self, spec: Any) -> tuple[str, str]:
        """Return name and version, "" for the newest."""
        if not spec.name:
            raise InvalidInput("Missing ModelSpec: the request names no model")
        return spec.name, version_of(self._inference, spec.name, str(spec.version.value), spec.version_label)


def _spec(result: Result, target: Target) -> Any:
    spec = messages.message_class(f"{messages.PACKAGE}.ModelSpec")()
    _fill_spec(spec, target.name, result.model_version, target.signature_name)
    return spec


def _check_tasks(tasks: Sequence[Any]) -> None:
    """Raise InvalidInput unless these can be answered together; the words are TensorFlow Serving's."""
    if not tasks:
        raise InvalidInput("Inference request doesn't contain any tasks.")
    signatures = set()
    for task in tasks:
        spec = task.model_spec
        if not spec.name:
            raise InvalidInput("Found ModelSpec with an empty model name.")
        if spec.name != tasks[0].model_spec.name:
            raise InvalidInput("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if task.method_name not in (_CLASSIFY, _REGRESS):
            raise InvalidInput(f"Unsupported signature method_name: {task.method_name:.80}")
        if spec.signature_name in signatures:
            raise InvalidInput(f"Duplicate evaluation of signature: {spec.signature_name:.80}")
        signatures.add(spec.signature_name)


def _part(value: Value) -> memoryview:
    if isinstance(value, int):
        raise InvalidInput("the request is malformed: a field holds a number in place of a message")
    return value


def _entry(view: memoryview) -> tuple[str, memoryview]:
    """Return alias and tensor of an entry of `inputs`."""
    alias, tensor = "", memoryview(b"")
    for number, value in fields(view):
        if number == 1:
            alias = bytes(_part(value)).decode(errors="replace")
        elif number == 2:
            tensor = _part(value)
    return alias, tensor


def _fill_spec(spec: Any, name: str, version: str, signature: str) -> None:
    spec.name, spec.signature_name = name, signature
    spec.version.value = int(version)


def _predict_response(result: Result, spec: Any) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for output in result.outputs:
        tensor = write_tensor(output.dtype, output.array, wire.to_bytes)
        size = sum(map(len, tensor))
        key = field(1, output.wanted.name.encode()) + head(2, size)
        parts += [head(1, len(key) + size) + key, *tensor]
    return [*parts, field(2, spec.SerializeToString())]


def _serialized(given: Any) -> Any:
    """Return a serialized Example for each that came, the common features before its own, bytes[n]."""
    kind = given.WhichOneof("kind")
    if kind is None:
        raise InvalidInput("Input is empty.")
    found = getattr(given, kind)
    # Messages behind each other are one, in which the later ones count.
    context = found.context.SerializeToString() if kind == "example_list_with_context" else b""
    if not found.examples:
        raise InvalidInput("Input is empty.")
    serialized = np.empty(len(found.examples), object)
    serialized[:] = [context + example.SerializeToString() for example in found.examples]
    return serialized


def _describe(info: Any, spec: TensorSpec) -> None:
    info.name, info.dtype = spec.name, DTYPE_NUMBERS[spec.base_dtype]
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
    for size in spec.shape or ():
        info.tensor_shape.dim.add(size=-1 if size is None else size)


def _settings(config: Any) -> dict[str, Any] | None:
    """Return the fields of ModelSettings that a configuration sets; None: it sets none."""
    if config.model_platform not in ("", "tensorflow"):
        raise InvalidInput(
            f"{config.name:.80}: model_platform {config.model_platform!r:.80} is not offered here"
        )
    if config.HasField("logging_config"):
        raise InvalidInput(f"{config.name:.80}: logging_config is not offered here")
    settings: dict[str, Any] = {}
    policy = config.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            settings["versions"] = "all"
        case "latest":
            settings["versions"] = policy.latest.num_versions or 1
        case "specific":
            settings["versions"] = [int(version) for version in policy.specific.versions]
    if settings or config.version_labels:
        settings["labels"] = dict(config.version_labels)  # those of before may be of versions that are gone
    return settings or None
