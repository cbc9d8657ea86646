"""The default engine on CPUs: OpenVINO reads TensorFlow, TFLite and ONNX models without their frameworks.

It computes in float32 unless less is asked for, since on CPUs with bfloat16 units it would silently take bfloat16; and
its threads are not pinned. What it would silently compute otherwise than TensorFlow is refused here.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt

from elastic_inference.engines.base import Arrays, EngineOptions, LoadedModel
from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.knowledge import accept, graph_differences
from elastic_inference.engines.openvino.plan import Layout, Plan, read_cut, subject
from elastic_inference.engines.openvino.runner import shape_conflict
from elastic_inference.engines.versions import code_key
from elastic_inference.errors import InvalidArgumentError, PredictorClosed
from elastic_inference.models.artifacts.store import Kind
from elastic_inference.models.assertions import assertions
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import ResolvedGraph, resolve_graph
from elastic_inference.models.signature import Signature, SignatureRequest, unfed_text
from elastic_inference.models.surgery import cut
from elastic_inference.tensors import TensorSpec

log = logging.getLogger(__name__)
_MAX_PLANS = 8  # each holds a compiled copy of the model
_MAX_EXPLANATION_SECONDS = 1.0  # the model is read again for it, which takes less than loading took


def load(package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:
    """Load a model on OpenVINO; Keras files need TensorFlow for their conversion.

    What was remembered of an earlier load of the same model is taken as it is, and no graph is read.

    Raises:
        UnsupportedModel: OpenVINO does not know an operation or dtype of it; the text names it.
    """
    started = time.perf_counter()
    if package.format in (ModelFormat.ONNX, ModelFormat.TFLITE):
        from elastic_inference.engines.openvino.files import OpenVinoFile

        return OpenVinoFile(package, request, options, started)
    source = _Source(package, request, options)
    remembered = source.remembered()
    if remembered is not None:
        return OpenVinoGraph(source, remembered, started)
    if package.format is ModelFormat.KERAS:
        from elastic_inference.engines.keras_models import exported

        with exported(package, options) as saved_model:
            return OpenVinoGraph(source, source.planned(saved_model), started)
    return OpenVinoGraph(source, source.planned(package), started)


@dataclass(frozen=True)
class _Prepared:
    """A signature of a model, with the plan for all of its placeholders where they suffice.

    Attributes:
        differences: What is lost when OpenVINO reads the graph; a sentence each.
        needs: The graph without its constants; None where it was not read.
    """

    signature: Signature
    plan: Plan | None
    first: frozenset[str]
    differences: tuple[str, ...]
    needs: ResolvedGraph | None = None


@dataclass(frozen=True)
class _Source:
    """What is loaded, and how."""

    package: ModelPackage
    request: SignatureRequest
    options: EngineOptions

    @property
    def is_read_again(self) -> bool:
        """Whether the graph can be read when a call needs more of it than the first plan has."""
        return self.package.format is not ModelFormat.KERAS

    def planned(self, readable: ModelPackage) -> _Prepared:
        """Read the graph, work out how it is computed, compile it, and remember that."""
        resolved = resolve_graph(readable, self.request)
        differences = tuple(graph_differences(resolved, assertions(resolved)))
        accept(differences, self.options)
        signature = resolved.signature
        optional = {
            alias
            for alias, spec in resolved.inputs.items()
            if resolved.graph.nodes[spec.name.rpartition(":")[0]].op != "Placeholder"
        }
        first = frozenset(resolved.inputs) - (optional - signature.required_inputs)
        needs = resolved.skeleton()
        if resolved.missing(first):
            return _Prepared(signature, None, first, differences, needs)
        plan = self.plan(resolved, first)
        prepared = _Prepared(_with_shapes(signature, plan), plan, first, differences, needs)
        self._remember(prepared, plan)
        return prepared

    def plan(self, resolved: ResolvedGraph, given: frozenset[str]) -> Plan:
        """Return the plan for a set of fed aliases."""
        return Plan.of_graph(resolved, given, subject(self.package, self.request, given), self.options)

    def remembered(self) -> _Prepared | None:
        """Return what an earlier load worked out and compiled; None where either is not in the store."""
        store = self.options.store
        found = None if store is None else store.get(Kind.PLAN, self._key())
        if found is None:
            return None
        try:
            first = frozenset(found.about["first"])
            layout = Layout.from_json(found.about["layout"])
            signature = Signature.from_json(found.about["signature"])
            differences = tuple(found.about["differences"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning("what was remembered of a model cannot be read", extra={"error": str(error)})
            return None
        made = None
        if layout.is_computed:
            made = openvino_compile.kept_model(subject(self.package, self.request, first), self.options)
            if made is None:
                return None
        return _Prepared(signature, Plan(made, layout), first, differences)

    def _remember(self, prepared: _Prepared, plan: Plan) -> None:
        if self.options.store is not None:
            about = {
                "first": sorted(prepared.first),
                "layout": plan.layout.to_json(),
                "signature": prepared.signature.to_json(),
                "differences": list(prepared.differences),
            }
            why_not = self.options.store.put(Kind.PLAN, self._key(), about)
            if why_not:
                log.warning("the next load has to read the model again", extra={"why": why_not})

    def _key(self) -> dict[str, Any]:
        return {
            "model": self.package.content_hash,
            "signature": self.request.key(),
            "engine": f"openvino {openvino_compile.version()}",
            "is_int8": self.options.precision == "int8",
            "code": code_key(),
        }


class OpenVinoGraph(LoadedModel):
    """A TensorFlow graph on OpenVINO.

    Which tensors a call feeds decides what has to be computed, so each set of fed aliases has a plan of its own. The
    plan for all placeholders is made on loading, others (a call that feeds an intermediate tensor which it might
    also leave out) when they are first called for; the least recently used one then goes.
    """

    def __init__(self, source: _Source, prepared: _Prepared, started: float) -> None:
        self._source = source
        self._is_closed = False
        self._lock = threading.Lock()
        self._needs = prepared.needs
        self._plans: dict[frozenset[str], Plan] = {}  # the least recently used first
        plan = prepared.plan
        if plan is not None:
            self._plans[prepared.first] = plan
        self.signature = prepared.signature
        differences = [*prepared.differences, *(() if plan is None else plan.knowledge.differences)]
        notes = accept(differences, source.options)
        made = None if plan is None else plan.made
        rewrites = () if plan is None else plan.knowledge.rewrites
        self.report = openvino_compile.report(made, source.options, started, (*notes, *rewrites))

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        given = frozenset(inputs)
        plan = self._used_plan(given) or self._plan_for(given)
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

    def _used_plan(self, given: frozenset[str]) -> Plan | None:
        plan = self._plans.get(given)
        if plan is not None and len(self._plans) > 1:
            with self._lock:  # it is the most recently used one now
                if self._plans.pop(given, None) is not None:
                    self._plans[given] = plan
        return plan

    def _explained(self, error: InvalidArgumentError, inputs: Arrays) -> InvalidArgumentError:
        """Return the same error in TensorFlow's words, where finding them does not take long."""
        if not self._source.is_read_again or self.report.load_seconds > _MAX_EXPLANATION_SECONDS:
            return error
        resolved = resolve_graph(self._source.package, self._source.request)
        made = cut(resolved, frozenset(inputs))
        shapes = {name: list(inputs[alias].shape) for alias, name in made.feeds.items()}
        text = shape_conflict(read_cut(made, resolved)[0], shapes)
        return error if text is None else InvalidArgumentError(text)

    def _plan_for(self, given: frozenset[str]) -> Plan:
        with self._lock:
            if self._is_closed:
                raise PredictorClosed("the model was closed")
            needs = self._known_needs()
            missing = needs.missing(given)
            if missing:
                raise InvalidArgumentError(unfed_text(missing[0]))
            used = needs.used(given)
            plan = self._plans.get(given) or next(
                (plan for key, plan in self._plans.items() if needs.used(key) == used), None
            )
            if plan is None:
                if not self._source.is_read_again:
                    raise InvalidArgumentError(
                        f"this model takes all of its inputs: {sorted(self.signature.inputs)}"
                    )
                plan = self._source.plan(resolve_graph(self._source.package, self._source.request), given)
            while len(self._plans) >= _MAX_PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[given] = plan
        return plan

    def _known_needs(self) -> ResolvedGraph:
        """Return what the outputs need of the graph, which is read for it where the load did not."""
        if self._needs is None:
            self._needs = resolve_graph(self._source.package, self._source.request).skeleton()
        return self._needs


def _with_shapes(signature: Signature, plan: Plan) -> Signature:
    def refined(alias: str, spec: TensorSpec) -> TensorSpec:
        return replace(spec, shape=plan.output_shape(alias)) if spec.shape is None else spec

    return replace(
        signature, outputs={alias: refined(alias, spec) for alias, spec in signature.outputs.items()}
    )
