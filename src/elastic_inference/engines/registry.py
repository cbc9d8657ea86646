"""The one table of engines: what each reads, where and in what precision it computes, and what it needs installed.

Adding an engine is one module with a function `load` and one row here. Which engine loads a model is decided by
`engines.select`; errors and help texts that name engines take them from here.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from elastic_inference.engines import no_telemetry  # noqa: F401  # before any engine's library
from elastic_inference.errors import EngineNotAvailable, InvalidInput, UnsupportedModel
from elastic_inference.models.package import ModelFormat, ModelPackage

if TYPE_CHECKING:
    from elastic_inference.engines.base import EngineOptions, LoadedModel
    from elastic_inference.models.signature import SignatureRequest

    Loader = Callable[[ModelPackage, SignatureRequest, EngineOptions], LoadedModel]


@dataclass(frozen=True)
class Engine:
    """One engine.

    Attributes:
        name: What `EngineOptions.engine` calls it.
        module: Imported when a model is first loaded on it; its function `load` does that.
        requires: The module that must be importable for it; "" where it needs none.
        extra: Which extra of this distribution installs that.
        distributions: Under which names that may be installed, for reports of versions.
        formats: Those that it reads.
        only_by_name: Those of them for which "auto" does not consider it.
        reference_of: Those that it computes as they are written; others are compared with it.
        devices: Kinds of devices, "cpu" and "cuda".
        precisions: Those that it can be asked for; what "auto" becomes of them is decided by `engines.select`.
        loader: Loads in place of the module's function; for engines that are registered and not listed.
    """

    name: str
    module: str
    requires: str
    extra: str
    distributions: tuple[str, ...]
    formats: tuple[ModelFormat, ...]
    only_by_name: tuple[ModelFormat, ...] = ()
    reference_of: tuple[ModelFormat, ...] = ()
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    loader: Loader | None = None

    def load(self, package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
        """Load a model, after checking it and the options against this row.

        Raises:
            UnsupportedModel: A format that the engine does not read, or a model that it cannot run.
            EngineNotAvailable: It is not installed here, or does not run on the device.
            InvalidInput: A precision that it does not support.
            ElasticInferenceError: What the engine says.
        """
        self.check_format(package)
        self.check_device(options.device)
        self.check_precision(options.precision)
        return (self.loader or self._module_loader())(package, request, options)

    def _module_loader(self) -> Loader:
        try:
            loader: Loader = import_module(self.module).load
        except ImportError as error:
            raise self.not_installed(error) from error
        return loader

    def import_in_advance(self) -> None:
        """Import what a load needs, where it can be: the load itself says why it cannot."""
        with contextlib.suppress(Exception):
            import_module(self.module)

    def considers(self, model_format: ModelFormat, device: str) -> bool:
        """Whether "auto" may take it for models of this format on this device."""
        is_read = model_format in self.formats and model_format not in self.only_by_name
        return is_read and kind_of(device) in self.devices

    def is_installed(self) -> bool:
        """Whether what it needs can be found; nothing is imported."""
        return not self.requires or importlib.util.find_spec(self.requires) is not None

    def not_installed(self, error: Exception) -> EngineNotAvailable:
        """Return the error to raise where importing what it needs failed."""
        return EngineNotAvailable(
            f"engine {self.name} is not installed here ({error}); install elastic-inference[{self.extra}]"
        )

    def check_format(self, package: ModelPackage) -> None:
        """Raise UnsupportedModel, with the formats that it reads, for a model of another one."""
        if package.format not in self.formats:
            readable = ", ".join(model_format.value for model_format in self.formats)
            raise UnsupportedModel(
                f"engine {self.name} reads {readable}, but {package.main_path} is {package.format.value}"
                + _advice(other for other in engines() if package.format in other.formats)
            )

    def check_device(self, device: str) -> None:
        """Raise EngineNotAvailable for a kind of device that it does not run on; whether there is one is not asked."""
        kind = kind_of(device)
        if kind not in self.devices:
            raise EngineNotAvailable(
                f"engine {self.name} does not run on {device}; it runs on {', '.join(self.devices)}"
                + _advice(other for other in self._alternatives() if kind in other.devices)
            )

    def supports(self, precision: str) -> bool:
        """Whether it can be asked for this precision."""
        return precision == "auto" or precision in self.precisions

    def check_precision(self, precision: str) -> None:
        """Raise InvalidInput for a precision that it does not support."""
        if self.supports(precision):
            return
        alternatives = [other for other in self._alternatives() if precision in other.precisions]
        advice = _advice(alternatives)
        raise InvalidInput(
            f"engine {self.name} does not support precision {precision!r}; it supports "
            f"{', '.join(self.precisions)}{advice}"
        )

    def _alternatives(self) -> list[Engine]:
        """Return the other engines that read something which this one reads too."""
        return [other for other in engines() if other is not self and set(other.formats) & set(self.formats)]


_TORCH_FORMATS = (ModelFormat.TORCH_EXPORT, ModelFormat.TORCH_SCRIPT)
_TENSORFLOW_FORMATS = (ModelFormat.SAVED_MODEL, ModelFormat.FROZEN_GRAPH, ModelFormat.KERAS)

# In the order in which "auto" considers them.
_ENGINES = (
    Engine(
        name="openvino",
        module="elastic_inference.engines.openvino.engine",
        requires="openvino",
        extra="host",
        distributions=("openvino",),
        formats=(*_TENSORFLOW_FORMATS, ModelFormat.ONNX, ModelFormat.TFLITE),
        only_by_name=(ModelFormat.KERAS,),  # converting them needs TensorFlow, which then runs them as well
        precisions=("fp32", "bf16", "int8"),
    ),
    Engine(
        name="tensorflow",
        module="elastic_inference.engines.tensorflow",
        requires="tensorflow",
        extra="tensorflow",
        distributions=("tensorflow-cpu", "tensorflow"),
        formats=_TENSORFLOW_FORMATS,
        reference_of=_TENSORFLOW_FORMATS,
        devices=("cpu", "cuda"),
    ),
    Engine(
        name="onnxruntime",
        module="elastic_inference.engines.onnxruntime",
        requires="onnxruntime",
        extra="onnx",
        distributions=("onnxruntime", "onnxruntime-gpu"),
        formats=(ModelFormat.ONNX,),
        reference_of=(ModelFormat.ONNX,),
        devices=("cpu", "cuda"),
    ),
    Engine(
        name="litert",
        module="elastic_inference.engines.litert",
        requires="ai_edge_litert",
        extra="litert",
        distributions=("ai-edge-litert",),
        formats=(ModelFormat.TFLITE,),
        reference_of=(ModelFormat.TFLITE,),
    ),
    Engine(
        name="torch",
        module="elastic_inference.engines.torch.engine",
        requires="torch",
        extra="torch",
        distributions=("torch", "torchvision"),
        formats=_TORCH_FORMATS,
        reference_of=_TORCH_FORMATS,
        devices=("cpu", "cuda"),
        precisions=("fp32", "tf32", "bf16", "fp16"),
    ),
)
_table = {engine.name: engine for engine in _ENGINES}


def engines() -> tuple[Engine, ...]:
    """All engines, in the order in which "auto" considers them."""
    return tuple(_table.values())


def names() -> str:
    """Return the engines of this table as a help text lists them: `openvino, tensorflow or onnxruntime`."""
    *most, last = (engine.name for engine in _ENGINES)
    return f"{', '.join(most)} or {last}"


def engine_named(name: str) -> Engine:
    """Return the engine of this name; raises InvalidInput with all names where there is none."""
    if name not in _table:
        raise InvalidInput(f"engine {name!r} is not one of auto, {', '.join(_table)}")
    return _table[name]


def reference_of(model_format: ModelFormat) -> Engine | None:
    """Return the engine that computes models of this format as they are written; None where there is none."""
    return next((engine for engine in engines() if model_format in engine.reference_of), None)


def engine_to_import(devices: Collection[str]) -> Engine | None:
    """Return the engine that most models of a host with these devices will want: where all are CPUs, "auto"'s first.

    None where it is not installed, or a process may as well get a GPU, on which models want other engines.
    """
    if not devices or any(kind_of(device) != "cpu" for device in devices):
        return None
    first = engines()[0]
    return first if first.is_installed() else None


def register(name: str, loader: Loader, formats: Collection[ModelFormat]) -> None:
    """Add an engine that is not in the table, or replace the one of this name; for tests and benchmarks.

    Args:
        name: What `EngineOptions.engine` calls it.
        loader: Raises UnsupportedModel for a model that another engine may run.
        formats: Those for which "auto" considers it; by its name it is taken for any, on any device.
    """
    only_by_name = tuple(model_format for model_format in ModelFormat if model_format not in formats)
    _table[name] = Engine(
        name=name,
        module="",
        requires="",
        extra="",
        distributions=(),
        formats=tuple(ModelFormat),
        only_by_name=only_by_name,
        devices=("cpu", "cuda"),
        loader=loader,
    )


def unregister(name: str) -> None:
    """Forget an engine that `register` added."""
    del _table[name]


def kind_of(device: str) -> str:
    """Return the kind of a device: "cuda" of `cuda:0`."""
    return device.partition(":")[0]


def _advice(alternatives: Iterable[Engine]) -> str:
    names = " or ".join(f"engine={other.name!r}" for other in alternatives if other.loader is None)
    return f". Use {names}" if names else ""
