"""Keras files (`.keras`, `.h5`) as SavedModels, which the engines load; the conversion needs TensorFlow.

Aliases are the names of the model's input layers and of the layers that give its outputs.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.quiet import quiet_stderr
from elastic_inference.engines.tensorflow_library import import_tensorflow
from elastic_inference.errors import InvalidModel, UnsafeModel, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY

# Layers that run code or read files which their configuration names.
_UNSAFE_CLASSES = frozenset(
    {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)


@contextmanager
def exported(package: ModelPackage, options: EngineOptions) -> Iterator[ModelPackage]:
    """Give the model as a SavedModel in a folder that is gone afterwards.

    Raises:
        UnsafeModel: The file names code to run, and `options` do not allow that.
        InvalidModel: It is no Keras model.
        UnsupportedModel: This Keras cannot build it.
    """
    tf = import_tensorflow()
    path = package.main_path
    if not options.allow_unsafe_operations:
        _refuse_unsafe(path)
    version = _saved_by(path)
    keras = _keras_for(tf, version)
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        with quiet_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras uses what numpy deprecates
            try:
                if keras is tf.keras:
                    is_safe = not options.allow_unsafe_operations
                    model = keras.models.load_model(path, compile=False, safe_mode=is_safe)
                    _export(tf, model, folder)
                else:
                    _export_keras_2(tf, keras.models.load_model(path, compile=False), folder)
            except Exception as error:  # Keras raises nearly every class for a model that it cannot build
                raise UnsupportedModel(
                    f"Keras {keras.__version__} cannot load {path}: {_last_line(error)}{_advice(keras, tf, version)}"
                ) from error
        yield ModelPackage.read(folder)


def _saved_by(path: Path) -> str:
    """Return the version of Keras that wrote the file; "" where it does not say."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return str(json.loads(archive.read("metadata.json"))["keras_version"])
        import h5py

        with h5py.File(path, "r") as file:
            return str(file.attrs["keras_version"])
    except (OSError, KeyError, ValueError):  # what it is then, loading it tells
        return ""


def _keras_for(tf: Any, version: str) -> Any:
    """Return Keras 2 for a file that it wrote, where it is installed; else the Keras that TensorFlow has."""
    if version.startswith("2.") and not tf.keras.__version__.startswith("2."):
        with quiet_stderr(), contextlib.suppress(ImportError):
            return import_module("tf_keras")
    return tf.keras


def _advice(keras: Any, tf: Any, version: str) -> str:
    if keras is tf.keras and version.startswith("2.") and not keras.__version__.startswith("2."):
        return f". Keras {version} wrote the file: install tf_keras, which reads it"
    return ""


def _export_keras_2(tf: Any, model: Any, folder: str) -> None:
    """Export a model of tf_keras, whose variables are TensorFlow's own."""
    names = _unique([tensor.name.partition(":")[0] for tensor in model.inputs])
    outputs = _unique(list(model.output_names))

    def serve(*tensors: Any) -> dict[str, Any]:
        results = model(tf.nest.pack_sequence_as(model.inputs, list(tensors)), training=False)
        return dict(zip(outputs, tf.nest.flatten(results), strict=True))

    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(names, model.inputs, strict=True)
    ]
    module = tf.Module()
    module.model = model
    module.serve = tf.function(serve, input_signature=specs)
    tf.saved_model.save(module, folder, signatures={DEFAULT_SIGNATURE_KEY: module.serve})


def _refuse_unsafe(path: Path) -> None:
    found = sorted(_unsafe_names(_config(path)))
    if found:
        raise UnsafeModel(
            f"{path} names code to run: {', '.join(found)}. Allow unsafe operations if you trust the model."
        )


def _config(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return json.loads(archive.read("config.json"))
        import h5py

        with h5py.File(path, "r") as file:
            return json.loads(file.attrs["model_config"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidModel(f"{path} is not a Keras model, or is cut short: {error}") from error


def _unsafe_names(config: Any) -> set[str]:
    """Classes and modules outside Keras that a configuration would have imported or run."""
    if isinstance(config, list):
        return {name for item in config for name in _unsafe_names(item)}
    if not isinstance(config, dict):
        return set()
    found = {name for value in config.values() for name in _unsafe_names(value)}
    class_name, module = config.get("class_name"), config.get("module")
    if class_name in _UNSAFE_CLASSES:
        found.add(str(class_name))
    if isinstance(module, str) and module != "builtins" and module.partition(".")[0] != "keras":
        found.add(f"{module}.{class_name}")
    if module == "builtins" and class_name not in (
        "slice",
        "range",
        "tuple",
        "list",
        "dict",
        "float",
        "int",
        "str",
    ):
        found.add(f"{module}.{class_name}")
    return found


def _export(tf: Any, model: Any, folder: str) -> None:
    functional = getattr(model, "_functional", None) or model  # a Sequential model keeps one inside
    structure = functional._inputs_struct
    inputs = tf.nest.flatten(structure)
    names = _unique([tensor._keras_history.operation.name for tensor in inputs])
    output_names = _unique([t._keras_history.operation.name for t in tf.nest.flatten(model.outputs)])

    def serve(*tensors: Any) -> dict[str, Any]:
        results = model(tf.nest.pack_sequence_as(structure, list(tensors)), training=False)
        return dict(zip(output_names, tf.nest.flatten(results), strict=True))

    # A Sequential that was built by a call holds the number of pictures, or rows, of that call.
    is_free = isinstance(model, tf.keras.Sequential) and not any(
        getattr(layer, "stateful", False) for layer in model.layers
    )
    specs = [
        tf.TensorSpec((None, *tensor.shape[1:]) if is_free else tensor.shape, tensor.dtype, name=name)
        for name, tensor in zip(names, inputs, strict=True)
    ]
    module = tf.Module()
    module.model = model
    # Keras' own wrappers are saved under names that a TensorFlow 1 session does not restore.
    module.restored = [variable.value for variable in model.variables]
    module.serve = tf.function(serve, input_signature=specs)
    tf.saved_model.save(module, folder, signatures={DEFAULT_SIGNATURE_KEY: module.serve})


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        unique.append(f"{name}_{seen[name]}" if seen[name] else name)
    return unique


def _last_line(error: Exception) -> str:
    """Return the statement itself: Keras puts its trace before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
