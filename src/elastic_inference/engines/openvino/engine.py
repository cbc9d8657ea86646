"""The default engine on CPUs: OpenVINO reads TensorFlow, TFLite and ONNX models without their frameworks.

It computes in float32 unless less is asked for, since on CPUs with bfloat16 units it would silently take bfloat16; and
its threads are not pinned. What it would silently compute otherwise than TensorFlow is refused here.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from google.protobuf.message import EncodeError

from elastic_inference.engines.base import Arrays, EngineOptions, LoadedModel
from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.knowledge import (
    Knowledge,
    accept,
    call_checks,
    graph_differences,
    with_assertions,
)
from elastic_inference.engines.openvino.rewrites.driver import REWRITES_VERSION, rewrite
from elastic_inference.engines.openvino.runner import Runner, shape_conflict, shape_of_port
from elastic_inference.errors import InvalidArgumentError, PredictorClosed, UnsupportedModel
from elastic_inference.models.assertions import assertions
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import ResolvedGraph, resolve_graph
from elastic_inference.models.signature import Signature, SignatureRequest, unfed_text
from elastic_inference.models.surgery import Cut, cut
from elastic_inference.tensors import TensorSpec

_MAX_PLANS = 8  # each holds a compiled copy of the model
_MAX_EXPLANATION_SECONDS = 1.0  # the model is read again for it, which takes less than loading took
_ZERO = np.zeros((), np.int32)


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on OpenVINO; Keras files need TensorFlow for their conversion.

    Raises:
        UnsupportedModel: OpenVINO does not know an operation or dtype of it; the text names it.
    """
    started = time.perf_counter()
    if package.format in (ModelFormat.ONNX, ModelFormat.TFLITE):
        from elastic_inference.engines.openvino.files import OpenVinoFile

        return OpenVinoFile(package, request, options, started)
    if package.format is ModelFormat.KERAS:
        from elastic_inference.engines.keras_models import exported

        with exported(package, options) as saved_model:
            return OpenVinoGraph(saved_model, request, options, started, is_kept=False)
    return OpenVinoGraph(package, request, options, started)


class OpenVinoGraph(LoadedModel):
    """A TensorFlow graph on OpenVINO.

    Which tensors a call feeds decides what has to be computed, so each set of fed aliases has a plan of its own. The
    plan for all placeholders is made on loading, others (a call that feeds an intermediate tensor which it might
    also leave out) when they are first called for.
    """

    def __init__(
        self,
        package: ModelPackage,
        request: SignatureRequest,
        options: EngineOptions,
        started: float,
        *,
        is_kept: bool = True,
    ) -> None:
        self._options = options
        self._source = (package, request) if is_kept else None
        self._is_closed = False
        self._lock = threading.Lock()
        resolved = resolve_graph(package, request)
        differences = graph_differences(resolved, assertions(resolved))
        accept(differences, options)
        self._needs = resolved.skeleton()
        optional = {
            alias
            for alias, spec in resolved.inputs.items()
            if resolved.graph.nodes[spec.name.rpartition(":")[0]].op != "Placeholder"
        }
        signature = resolved.signature
        first = frozenset(resolved.inputs) - (optional - signature.required_inputs)
        self._plans: dict[frozenset[str], _Plan] = {}
        if not resolved.missing(first):
            self._plans[first] = _Plan(resolved, first, options, request)
        plan = self._plans.get(first)
        self.signature = signature if plan is None else _with_shapes(signature, plan)
        compiled = plan.runner.compiled if plan is not None and plan.runner is not None else None
        notes = accept([*differences, *(() if plan is None else plan.knowledge.differences)], options)
        rewrites = () if plan is None else plan.knowledge.rewrites
        self.report = openvino_compile.report(compiled, options, started, (*notes, *rewrites))

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        given = frozenset(inputs)
        plan = self._plans.get(given) or self._plan_for(given)
        plan.checks.check(inputs)
        try:
            return plan.predict(inputs)
        except InvalidArgumentError as error:
            raise self._explained(error, inputs) from error

    def empty(self) -> None:
        for plan in list(self._plans.values()):
            if plan.runner is not None:
                plan.runner.empty()

    def close(self) -> None:
        self._is_closed = True
        for plan in list(self._plans.values()):
            plan.close()

    def _explained(self, error: InvalidArgumentError, inputs: Arrays) -> InvalidArgumentError:
        """Return the same error in TensorFlow's words, where finding them does not take long."""
        if self._source is None or self.report.load_seconds > _MAX_EXPLANATION_SECONDS:
            return error
        resolved = resolve_graph(*self._source)
        made = cut(resolved, frozenset(inputs))
        shapes = {name: list(inputs[alias].shape) for alias, name in made.feeds.items()}
        text = shape_conflict(_read(made, resolved)[0], shapes)
        return error if text is None else InvalidArgumentError(text)

    def _plan_for(self, given: frozenset[str]) -> _Plan:
        missing = self._needs.missing(given)
        if missing:
            raise InvalidArgumentError(unfed_text(missing[0]))
        with self._lock:
            if self._is_closed:
                raise PredictorClosed("the model was closed")
            used = self._needs.used(given)
            plan = self._plans.get(given) or next(
                (plan for key, plan in self._plans.items() if self._needs.used(key) == used), None
            )
            if plan is None:
                if self._source is None:
                    raise InvalidArgumentError(
                        f"this model takes all of its inputs: {sorted(self.signature.inputs)}"
                    )
                package, request = self._source
                plan = _Plan(resolve_graph(package, request), given, self._options, request)
            while len(self._plans) >= _MAX_PLANS:
                self._plans.pop(next(reversed(self._plans)))
            self._plans[given] = plan
        return plan


class _Plan:
    """The graph cut for one set of fed aliases, compiled."""

    def __init__(
        self,
        resolved: ResolvedGraph,
        given: frozenset[str],
        options: EngineOptions,
        request: SignatureRequest,
    ) -> None:
        resolved, self._assertions = with_assertions(resolved, assertions(resolved, given))
        made = cut(resolved, given)
        self.knowledge = Knowledge()
        self.handed_on = made.handed_on
        self.runner: Runner | None = None
        self.feeds: tuple[str | None, ...] = ()
        self._fetches: tuple[tuple[str, int, np.dtype[Any]], ...] = ()
        if made.fetches:
            key = f"{resolved.package.content_hash} {request.key()} {sorted(given)} {REWRITES_VERSION}"
            compiled, self.knowledge = openvino_compile.compiled_model(
                lambda: _read(made, resolved), key, options
            )
            self.runner = Runner(compiled)
            self._connect(made, resolved)
        self.checks = call_checks(resolved.package, resolved.signature, self.feeds, self.knowledge)

    def _connect(self, made: Cut, resolved: ResolvedGraph) -> None:
        """Find the aliases of the compiled model's ports."""
        assert self.runner is not None
        aliases: dict[str, str | None] = {name: alias for alias, name in made.feeds.items()}
        if made.zero is not None:
            aliases[made.zero] = None
        ports = self.runner.compiled.inputs
        feeds = [next((name for name in port.get_names() if name in aliases), None) for port in ports]
        ports = self.runner.compiled.outputs
        positions = {name: position for position, port in enumerate(ports) for name in port.get_names()}
        if None in feeds or not positions.keys() >= set(made.fetches.values()):
            raise UnsupportedModel("OpenVINO read the graph, but lost tensors that are to be fed or fetched")
        strings = [
            spec.name
            for spec in (
                *(resolved.inputs[a] for a in made.feeds),
                *(resolved.outputs[a] for a in made.fetches),
            )
            if spec.base_dtype == "string"
        ]
        if strings:
            raise UnsupportedModel(f"OpenVINO does not compute strings, and tensor {strings[0]!r} is one")
        self.feeds = tuple(aliases[name] for name in feeds if name is not None)
        self._fetches = tuple(
            (alias, positions[name], resolved.outputs[alias].numpy_dtype)
            for alias, name in made.fetches.items()
        )

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        outputs: dict[str, npt.NDArray[Any]] = {}
        if self.runner is not None:
            results = self.runner.run([_ZERO if alias is None else inputs[alias] for alias in self.feeds])
            for alias, position, dtype in self._fetches:
                outputs[alias] = results[position].astype(dtype, copy=False)
        for alias, text in self._assertions.items():
            if not outputs.pop(alias).all():
                raise InvalidArgumentError(text)
        for alias, source in self.handed_on.items():
            outputs[alias] = inputs[source].copy()
        return outputs

    def close(self) -> None:
        if self.runner is not None:
            self.runner.close()

    def output_shape(self, alias: str) -> tuple[int | None, ...] | None:
        """Return the shape that the engine knows for a computed output; None where it knows none."""
        for name, position, _ in self._fetches:
            if name == alias and self.runner is not None:
                return shape_of_port(self.runner.compiled.outputs[position])
        return None


def _with_shapes(signature: Signature, plan: _Plan) -> Signature:
    def refined(alias: str, spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=plan.output_shape(alias)) if spec.shape is None else spec

    return replace(
        signature, outputs={alias: refined(alias, spec) for alias, spec in signature.outputs.items()}
    )


def _serialized(message: Any) -> bytes:
    try:
        data: bytes = message.SerializeToString()
    except EncodeError as error:
        # A message that was read before can fail here for want of memory alone; protobuf does not say so.
        raise MemoryError("no memory to write the graph down") from error
    return data


def _read(made: Cut, resolved: ResolvedGraph) -> tuple[ov.Model, tuple[str, ...]]:
    """Return the engine's model of a cut graph, and a sentence for each pattern of it that could be rewritten."""
    graph_def = made.graph_def if made.saved_model is None else made.saved_model.meta_graphs[0].graph_def
    notes = rewrite(openvino_compile.core(), graph_def, made.fetches.values())
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        path = Path(folder)
        if made.saved_model is None:
            path /= "graph.pb"
            path.write_bytes(_serialized(made.graph_def))
        else:
            (path / "saved_model.pb").write_bytes(_serialized(made.saved_model))
            if (resolved.package.root / "variables").exists():
                os.symlink((resolved.package.root / "variables").resolve(), path / "variables")
        try:
            return openvino_compile.core().read_model(path), notes
        except openvino_compile.LOAD_ERRORS as error:
            raise openvino_compile.load_error(error) from error
