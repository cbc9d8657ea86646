"""The default engine on CPUs: OpenVINO reads TensorFlow, TFLite and ONNX models without their frameworks.

It computes in float32 unless less is asked for, since on CPUs with bfloat16 units it would silently take bfloat16;
and its threads are not pinned, since processes that pin end up on the same core.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import openvino as ov

from elastic_inference.engines.base import Arrays, EngineOptions, EngineReport, LoadedModel
from elastic_inference.engines.openvino_runner import Runner, last_line
from elastic_inference.errors import InvalidInput, MemoryQuotaExceeded, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import ResolvedGraph, resolve_graph
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.models.surgery import Cut, cut

_PRECISION_NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


class OpenVinoGraph(LoadedModel):
    """A TensorFlow graph on OpenVINO, cut for the call that feeds every alias; other cuts are made when called for."""

    def __init__(self, package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> None:
        started = time.perf_counter()
        self._options = options
        resolved = resolve_graph(package, request)
        self.signature = resolved.signature
        self._plan = _Plan(resolved, frozenset(resolved.inputs), options)
        self.report = _report(self._plan.runner, options, time.perf_counter() - started)

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        return self._plan.predict(inputs)

    def close(self) -> None:
        self._plan.close()


class _Plan:
    """One cut of the graph, compiled."""

    def __init__(self, resolved: ResolvedGraph, given: frozenset[str], options: EngineOptions) -> None:
        made = cut(resolved, given)
        self.handed_on = made.handed_on
        self.runner: Runner | None = None
        self.feeds: tuple[str, ...] = ()
        self._fetches: tuple[tuple[str, int], ...] = ()
        if made.fetches:
            compiled = _compile(_convert(made, resolved), options)
            aliases = {name: alias for alias, name in made.feeds.items()}
            self.runner = Runner(compiled)
            self.feeds = tuple(_one_of(port.get_names(), aliases) for port in compiled.inputs)
            positions = {name: i for i, port in enumerate(compiled.outputs) for name in port.get_names()}
            self._fetches = tuple((alias, positions[name]) for alias, name in made.fetches.items())

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        outputs = {}
        if self.runner is not None:
            results = self.runner.run([inputs[alias] for alias in self.feeds])
            outputs = {alias: results[position] for alias, position in self._fetches}
        for alias, source in self.handed_on.items():
            outputs[alias] = inputs[source].copy()
        return outputs

    def close(self) -> None:
        self.runner = None


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on OpenVINO.

    Raises:
        UnsupportedModel: OpenVINO does not know an operation or dtype of it; the text names it.
    """
    return OpenVinoGraph(package, request, options)


def _convert(made: Cut, resolved: ResolvedGraph) -> ov.Model:
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        if made.saved_model is None:
            path = os.path.join(folder, "graph.pb")
            Path(path).write_bytes(made.graph_def.SerializeToString())
        else:
            path = folder
            Path(folder, "saved_model.pb").write_bytes(made.saved_model.SerializeToString())
            for name in ("variables", "assets"):
                if (resolved.package.root / name).exists():
                    os.symlink((resolved.package.root / name).resolve(), os.path.join(folder, name))
        try:
            return ov.Core().read_model(path)
        except MemoryError as error:
            raise MemoryQuotaExceeded("OpenVINO could not get the memory to read the model") from error
        except RuntimeError as error:
            raise UnsupportedModel(f"OpenVINO cannot read this model: {last_line(error)}") from error


def _compile(model: ov.Model, options: EngineOptions) -> ov.CompiledModel:
    try:
        return ov.Core().compile_model(model, "CPU", _properties(options))
    except MemoryError as error:
        raise MemoryQuotaExceeded("OpenVINO could not get the memory to compile the model") from error
    except RuntimeError as error:
        raise UnsupportedModel(f"OpenVINO cannot compile this model: {last_line(error)}") from error


def _properties(options: EngineOptions) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "ENABLE_CPU_PINNING": False,
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": options.num_threads or len(os.sched_getaffinity(0)),
    }
    if options.precision == "int8":
        raise InvalidInput(
            'precision "int8" needs a model that was quantized with calibration data; OpenVINO cannot make one of '
            'this model on its own. Quantize it (for instance with NNCF) and load the result with precision "auto".'
        )
    if options.precision != "auto":
        properties["INFERENCE_PRECISION_HINT"] = "f32" if options.precision == "fp32" else "bf16"
    return properties


def _report(runner: Runner | None, options: EngineOptions, load_seconds: float) -> EngineReport:
    precision, num_threads = "fp32", 1
    if runner is not None:
        hint = runner.compiled.get_property("INFERENCE_PRECISION_HINT")
        name = hint.get_type_name()
        precision = _PRECISION_NAMES.get(name, name)
        num_threads = int(runner.compiled.get_property("INFERENCE_NUM_THREADS"))
    return EngineReport(
        engine="openvino",
        engine_version=ov.__version__,
        device=options.device,
        precision=precision,
        num_threads=num_threads,
        load_seconds=load_seconds,
    )


def _one_of(names: set[str], aliases: Mapping[str, str]) -> str:
    return next(aliases[name] for name in names if name in aliases)
