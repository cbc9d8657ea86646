"""Models on OpenVINO whose files name their own inputs and outputs: ONNX and TFLite."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from openvino.frontend import FrontEndManager

from elastic_inference.engines.base import Arrays, EngineOptions, LoadedModel
from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.hybrid import hybrid_differences
from elastic_inference.engines.openvino.knowledge import accept, call_checks, file_differences
from elastic_inference.engines.openvino.runner import Runner, last_line, shape_of_port
from elastic_inference.errors import InvalidArgumentError, InvalidInput, InvalidModel, UnsupportedModel
from elastic_inference.models.onnx_file import check_external_data, onnx_nodes
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import named_signature
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.tensors import TensorSpec

_DTYPES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool", "string": "string",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
_TFLITE_IDENTIFIER = b"TFL3"
_FRONT_ENDS = {ModelFormat.ONNX: "onnx", ModelFormat.TFLITE: "tflite"}


def _open(package: ModelPackage) -> tuple[Any, Any, tuple[list[str], list[str]]]:
    """Return the format's front end, the file as it reads it but not converted, its inputs' and outputs' names."""
    if package.format is ModelFormat.ONNX:
        check_external_data(package.main_path, [file.path for file in package.files])
    front_end = FrontEndManager().load_by_framework(_FRONT_ENDS[package.format])
    try:
        loaded = front_end.load(package.main_path)
        inputs, outputs = (
            [place.get_names()[0] for place in places]
            for places in (loaded.get_inputs(), loaded.get_outputs())
        )
    except openvino_compile.LOAD_ERRORS as error:
        if _is_of_its_format(package):
            raise UnsupportedModel(f"OpenVINO cannot read this model: {last_line(error)}") from error
        raise InvalidModel(
            f"{package.main_path} is no {package.format.value} model: {last_line(error)}"
        ) from error
    if not outputs:  # what OpenVINO makes of files that are something else
        raise InvalidModel(f"{package.main_path} is no {package.format.value} model: it has no outputs")
    return front_end, loaded, (inputs, outputs)


def _is_of_its_format(package: ModelPackage) -> bool:
    """Whether the file is what its suffix says, so that another engine may read what OpenVINO cannot."""
    if package.format is ModelFormat.ONNX:
        return bool(onnx_nodes(package.main_path))
    with package.main_path.open("rb") as file:
        return file.read(8)[4:] == _TFLITE_IDENTIFIER


def _spec(port: Any, name: str) -> TensorSpec:
    """Return the spec of a compiled model's port; `name` is the one that the file declares."""
    element = port.get_element_type().get_type_name()
    dtype = _DTYPES.get(element)
    if dtype is None:
        raise UnsupportedModel(f"tensor {name!r} has dtype {element}, which no request can carry")
    if dtype == "string":
        raise UnsupportedModel(f"OpenVINO does not compute strings, and tensor {name!r} is one")
    return TensorSpec(name, dtype, shape_of_port(port))


class OpenVinoFile(LoadedModel):
    """An ONNX or TFLite model on OpenVINO; every one of its inputs is needed in every call."""

    def __init__(
        self, package: ModelPackage, request: SignatureRequest, options: EngineOptions, started: float
    ) -> None:
        front_end, loaded, names = _open(package)
        differences = file_differences(package)
        if package.format is ModelFormat.TFLITE:
            differences += hybrid_differences(front_end.convert(loaded))
        accept(differences, options)
        made = openvino_compile.compiled_model(
            lambda: (front_end.convert(loaded), ()),
            {"model": package.content_hash},
            options,
            request.input_names,
        )
        compiled, knowledge = made.model, made.knowledge
        inputs, outputs = (
            [_spec(port, name) for port, name in zip(ports, declared, strict=True)]
            for ports, declared in zip((compiled.inputs, compiled.outputs), names, strict=True)
        )
        self.signature = named_signature(request, inputs, outputs)
        if self.signature.unfed_placeholders:
            missing = ", ".join(repr(spec.name) for spec in self.signature.unfed_placeholders)
            raise InvalidInput(f"input_names leave out {missing}, and the model needs all of its inputs")
        alias_of = {spec.name: alias for alias, spec in self.signature.inputs.items()}
        self._feeds = [alias_of[spec.name] for spec in inputs]
        positions = {spec.name: position for position, spec in enumerate(outputs)}
        self._fetches = {alias: positions[spec.name] for alias, spec in self.signature.outputs.items()}
        self._checks = call_checks(package, self.signature, self._feeds, knowledge)
        self._runner = Runner(compiled, made.memory)
        notes = accept([*differences, *knowledge.differences], options)
        self.report = openvino_compile.report(made, options, started, notes)

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        for alias in self._feeds:
            if alias not in inputs:
                raise InvalidArgumentError(unfed_text(self.signature.inputs[alias]))
        self._checks.check(inputs)
        results = self._runner.run([inputs[alias] for alias in self._feeds])
        return {alias: results[position] for alias, position in self._fetches.items()}

    def empty(self) -> None:
        self._runner.empty()

    def close(self) -> None:
        self._runner.close()
