"""A model on its own runtime, called directly: what its answers should be.

Run as a process: `python -m benchmarks.models.own JOB`, where JOB is a JSON file that `run` wrote. The samples and the
answers go into files beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import samples
from benchmarks.models.samples import Arrays, Port

_ORT_DTYPES = {"float": "float32", "double": "float64", "string": "str"}


@dataclass(frozen=True)
class Own:
    """A model that its runtime has loaded."""

    runtime: str
    ports: list[Port]
    run: Callable[[Arrays], Arrays]


def _onnx(path: Path, _: Mapping[str, Any]) -> Own:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]

    def port(given: Any) -> Port:
        element = given.type.removeprefix("tensor(").removesuffix(")")
        shape = tuple(size if isinstance(size, int) else None for size in given.shape)
        return Port(given.name, _ORT_DTYPES.get(element, element), shape)

    def run(sample: Arrays) -> Arrays:
        found = zip(names, session.run(names, sample), strict=True)
        return {name: _table(value) for name, value in found}

    return Own(f"onnxruntime {onnxruntime.__version__}", [port(each) for each in session.get_inputs()], run)


def _table(value: Any) -> Any:
    """A sequence of maps (of ZipMap) as the array that an accelerator gives for it."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return np.array([list(row.values()) for row in value], np.float32)
    return value


def _tflite(path: Path, _: Mapping[str, Any]) -> Own:
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    shapes: dict[
        int, tuple[int, ...]
    ] = {}  # a first allocation with 1 for open sizes lets some models take no others

    def port(given: Any) -> Port:
        sizes = given["shape_signature"] if len(given["shape_signature"]) else given["shape"]
        shape = tuple(None if size < 0 else int(size) for size in sizes)
        return Port(str(given["name"]), np.dtype(given["dtype"]).name, shape)

    def run(sample: Arrays) -> Arrays:
        asked = {each["index"]: sample[each["name"]].shape for each in inputs}
        if asked != shapes:
            for index, shape in asked.items():
                interpreter.resize_tensor_input(index, shape)
            interpreter.allocate_tensors()
            shapes.update(asked)
        for each in inputs:
            interpreter.set_tensor(each["index"], sample[each["name"]])
        interpreter.invoke()
        return {each["name"]: np.array(interpreter.get_tensor(each["index"])) for each in outputs}

    return Own(f"LiteRT {version('ai-edge-litert')}", [port(each) for each in inputs], run)


def _saved_model(path: Path, _: Mapping[str, Any]) -> Own:
    """Through a session, as tf.contrib.predictor does it; Keras 2's models do not load otherwise any more."""
    import tensorflow as tf

    v1 = tf.compat.v1
    session = v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta_graph = v1.saved_model.load(session, ["serve"], str(path))
    signature = meta_graph.signature_def["serving_default"]
    feeds = {alias: session.graph.get_tensor_by_name(info.name) for alias, info in signature.inputs.items()}
    fetches = {alias: info.name for alias, info in signature.outputs.items()}

    def run(sample: Arrays) -> Arrays:
        answer = session.run(fetches, {feeds[alias]: value for alias, value in sample.items()})
        return {alias: np.asarray(value) for alias, value in answer.items()}

    def port(alias: str, tensor: Any) -> Port:
        return Port(alias, "str" if tensor.dtype == tf.string else tensor.dtype.name, tuple(tensor.shape))

    return Own(f"TensorFlow {tf.__version__}", [port(*each) for each in feeds.items()], run)


def _keras(path: Path, _: Mapping[str, Any]) -> Own:
    import keras

    model = keras.models.load_model(path, compile=False)
    names = [tensor.name for tensor in model.inputs]
    ports = [Port(tensor.name, str(tensor.dtype), tuple(tensor.shape)) for tensor in model.inputs]

    def run(sample: Arrays) -> Arrays:
        values = [sample[name] for name in names]
        outputs = model(values[0] if len(values) == 1 else values, training=False)
        flat = outputs if isinstance(outputs, list | tuple) else [outputs]
        return {str(index): np.asarray(value) for index, value in enumerate(flat)}

    return Own(f"Keras {keras.__version__}", ports, run)


def _torch_script(path: Path, listed: Mapping[str, Any]) -> Own:
    import torch

    torch.set_num_threads(1)
    module = torch.jit.load(str(path), map_location="cpu").eval()
    ports = [
        Port(name, "int64" if name == "sr" else "float32", ()) for name in listed
    ]  # in the order of the call

    def run(sample: Arrays) -> Arrays:
        arguments = [int(sample[n]) if not sample[n].ndim else torch.from_numpy(sample[n]) for n in sample]
        with torch.no_grad():
            return {"0": module(*arguments).numpy()}

    return Own(f"torch {torch.__version__}", ports, run)


RUNTIMES = {
    "ONNX": _onnx,
    "TFLite": _tflite,
    "SavedModel": _saved_model,
    "frozen graph": _saved_model,
    "Keras": _keras,
    "TorchScript": _torch_script,
}


def compute(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Load, make samples and run them; the runtime's own refusal is part of the answer."""
    try:
        own = RUNTIMES[job["format"]](Path(job["path"]), job["inputs"])
        made = samples.make(own.ports, job["inputs"])
        answers = [own.run(dict(sample)) for sample in made]
    except Exception as error:  # whatever a runtime raises is what it says of the model
        return {"refused": f"{type(error).__name__}: {_line(error)}"}
    for index, (sample, answer) in enumerate(zip(made, answers, strict=True)):
        np.savez(folder / f"sample{index}.npz", allow_pickle=True, **_numbered(sample))
        np.savez(folder / f"answer{index}.npz", allow_pickle=True, **_numbered(answer))
    return {
        "runtime": own.runtime,
        "inputs": [list(sample) for sample in made],
        "outputs": [list(answer) for answer in answers],
    }


def _numbered(arrays: Arrays) -> dict[str, Any]:
    return {f"n{index}": value for index, value in enumerate(arrays.values())}


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:400]


if __name__ == "__main__":
    job_path = Path(sys.argv[1])
    found = compute(json.loads(job_path.read_text()), job_path.parent)
    (job_path.parent / "own.json").write_text(json.dumps(found))
