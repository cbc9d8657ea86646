"""PredictionService and ModelService: each method reads a message, calls `inference`, and writes the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from elastic_inference.accelerator import array_request
from elastic_inference.accelerator.doors.tensorflow_serving import messages
from elastic_inference.accelerator.doors.tensorflow_serving.examples import answers_of, examples_input
from elastic_inference.accelerator.doors.tensorflow_serving.states import asked_version, states_of
from elastic_inference.accelerator.doors.tensorflow_serving.tensors import (
    DTYPE_NUMBERS,
    fields,
    read_tensor,
    write_tensor,
)
from elastic_inference.accelerator.doors.tensorflow_serving.wire_format import field, head
from elastic_inference.accelerator.inference import Inference, Result
from elastic_inference.accelerator.rpc import Caller, RpcMethod, RpcServices
from elastic_inference.errors import InvalidInput
from elastic_inference.models.protobuf_wire import Value
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY
from elastic_inference.protocol import arrays as wire
from elastic_inference.tensors import TensorSpec

PREDICTION, MODELS = f"{messages.PACKAGE}.PredictionService", f"{messages.PACKAGE}.ModelService"
_SIGNATURES = "signature_def"
_PREDICT = "tensorflow/serving/predict"
Views = Sequence[bytes | memoryview]


def services(inference: Inference) -> RpcServices:
    """Return both services."""
    door = _Methods(inference)
    return RpcServices(
        {
            f"/{PREDICTION}/Predict": RpcMethod(door.predict, carries_tensors=True),
            f"/{PREDICTION}/Classify": RpcMethod(door.classify, carries_tensors=True),
            f"/{PREDICTION}/Regress": RpcMethod(door.regress, carries_tensors=True),
            f"/{PREDICTION}/GetModelMetadata": RpcMethod(door.metadata),
            f"/{MODELS}/GetModelStatus": RpcMethod(door.status),
            f"/{MODELS}/HandleReloadConfigRequest": RpcMethod(door.reload),
        },
        messages.POOL,
    )


class Target(NamedTuple):
    """Which version of which model a request means, and by which signature; "" is the usual one of each."""

    name: str
    version: str
    signature: str


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
        target = _target(messages.parse(f"{messages.PACKAGE}.ModelSpec", spec))
        signature = self._check(target)
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
        name, version, _ = target
        result = array_request.predict(self._inference, name, inputs, version, wanted, caller)
        return _predict_response(result, self._spec(result, target))

    def classify(self, view: memoryview, caller: Caller) -> Views:
        result, target = self._of_examples("Classification", view, caller)
        response = messages.message_class(f"{messages.PACKAGE}.ClassificationResponse")()
        response.model_spec.CopyFrom(self._spec(result, target))
        response.result.SetInParent()
        for row in answers_of("classify", result.outputs):
            classes = response.result.classifications.add()
            for label, score in row:
                classes.classes.add(label=label, score=score)
        return [response.SerializeToString()]

    def regress(self, view: memoryview, caller: Caller) -> Views:
        result, target = self._of_examples("Regression", view, caller)
        response = messages.message_class(f"{messages.PACKAGE}.RegressionResponse")()
        response.model_spec.CopyFrom(self._spec(result, target))
        response.result.SetInParent()
        for value in answers_of("regress", result.outputs):
            response.result.regressions.add(value=value)
        return [response.SerializeToString()]

    def _of_examples(self, kind: str, view: memoryview, caller: Caller) -> tuple[Result, Target]:
        request = messages.parse(f"{messages.PACKAGE}.{kind}Request", view)
        target = _target(request.model_spec)
        signature = self._check(target)
        serialized = _serialized(request.input)
        alias = examples_input(signature, target.name, kind)
        name, version, _ = target
        result = array_request.predict(self._inference, name, {alias: serialized}, version, (), caller)
        return result, target

    def metadata(self, view: memoryview, _: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.GetModelMetadataRequest", view)
        target = _target(request.model_spec)
        if not request.metadata_field:
            raise InvalidInput("GetModelMetadataRequest must specify at least one metadata_field")
        for one in request.metadata_field:
            if one != _SIGNATURES:
                raise InvalidInput(f"Metadata field {one:.80} is not supported")
        signature = self._inference.signature(target.name, target.version)
        key = self._inference.signature_key(target.name, target.version) or DEFAULT_SIGNATURE_KEY
        signatures = messages.message_class(f"{messages.PACKAGE}.SignatureDefMap")()
        definition = signatures.signature_def[key]
        definition.method_name = _PREDICT
        for own, specs in ((definition.inputs, signature.inputs), (definition.outputs, signature.outputs)):
            for alias, spec in specs.items():
                _describe(own[alias], spec)
        response = messages.message_class(f"{messages.PACKAGE}.GetModelMetadataResponse")()
        version = target.version or self._inference.versions(target.name)[-1]
        _fill_spec(response.model_spec, target.name, version, "")
        packed = response.metadata[_SIGNATURES]
        packed.type_url = f"type.googleapis.com/{messages.PACKAGE}.SignatureDefMap"
        packed.value = signatures.SerializeToString()
        return [response.SerializeToString()]

    def status(self, view: memoryview, _: Caller) -> Views:
        request = messages.parse(f"{messages.PACKAGE}.GetModelStatusRequest", view)
        name, version, _signature = _target(request.model_spec)
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
            wanted[config.name] = (config.base_path, _versions(config))
        self._inference.configure(wanted)
        response = messages.message_class(f"{messages.PACKAGE}.ReloadConfigResponse")()
        response.status.SetInParent()
        return [response.SerializeToString()]

    def _check(self, target: Target) -> Any:
        """Return the signature; raises InvalidInput where another one is asked for than the model was loaded with."""
        name, version, wanted = target
        signature = self._inference.signature(name, version)
        if wanted not in ("", DEFAULT_SIGNATURE_KEY):
            own = self._inference.signature_key(name, version)
            if wanted != own:
                raise InvalidInput(
                    f"Serving signature key {wanted!r:.80} not found; {name!r:.80} was loaded with {own!r:.80}"
                )
        return signature

    def _spec(self, result: Result, target: Target) -> Any:
        spec = messages.message_class(f"{messages.PACKAGE}.ModelSpec")()
        own = target.signature or self._inference.signature_key(target.name, target.version)
        _fill_spec(spec, target.name, result.model_version, own or DEFAULT_SIGNATURE_KEY)
        return spec


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


def _target(spec: Any) -> Target:
    if not spec.name:
        raise InvalidInput("Missing ModelSpec: the request names no model")
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise InvalidInput(
            f"models have no version labels here; {spec.version_label!r:.80} of {spec.name!r:.80}"
        )
    return Target(spec.name, asked_version(str(spec.version.value)), spec.signature_name)


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


def _versions(config: Any) -> Any:
    """Return which versions a configuration asks for, as ModelSettings has them; None: it does not say."""
    if config.model_platform not in ("", "tensorflow"):
        raise InvalidInput(
            f"{config.name:.80}: model_platform {config.model_platform!r:.80} is not offered here"
        )
    for name in ("version_labels", "logging_config"):
        if name in {field.name for field, _ in config.ListFields()}:
            raise InvalidInput(f"{config.name:.80}: {name} is not offered here")
    policy = config.model_version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return "all"
        case "latest":
            return policy.latest.num_versions or 1
        case "specific":
            return [int(version) for version in policy.specific.versions]
    return None
