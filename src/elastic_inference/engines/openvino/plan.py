"""The graph cut for one set of fed aliases, compiled; with what the next load needs to know, to read no graph."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from google.protobuf.message import EncodeError

from elastic_inference.engines.base import Arrays, EngineOptions
from elastic_inference.engines.call_checks import CallChecks
from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino import kept
from elastic_inference.engines.openvino.knowledge import Knowledge, call_checks, with_assertions
from elastic_inference.engines.openvino.rewrites.driver import REWRITES_VERSION, rewrite
from elastic_inference.engines.openvino.runner import Runner, shape_of_port
from elastic_inference.engines.stages import Stage, begin
from elastic_inference.errors import InvalidArgumentError, UnsupportedModel
from elastic_inference.models.assertions import assertions
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.models.surgery import Cut, cut

_ZERO = np.zeros((), np.int32)


@dataclass(frozen=True)
class Layout:
    """How a call's arrays meet the compiled model's ports.

    Attributes:
        feeds: The alias of each of its inputs, None for one that is ours.
        fetches: Alias, position among its outputs and dtype of what is asked for.
        handed_on: Output alias -> input alias whose value it is.
        assertions: Alias of a condition -> what to say where it does not hold.
        checks: What to look for in each call.
        is_computed: Whether there is a compiled model: none, where every output is an input handed on.
    """

    feeds: tuple[str | None, ...] = ()
    fetches: tuple[tuple[str, int, str], ...] = ()
    handed_on: Mapping[str, str] = field(default_factory=dict)
    assertions: Mapping[str, str] = field(default_factory=dict)
    checks: CallChecks = field(default_factory=lambda: CallChecks("openvino"))
    is_computed: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Layout:
        """Read what `to_json` wrote; raises KeyError or TypeError for anything else."""
        return cls(
            feeds=tuple(value["feeds"]),
            fetches=tuple(
                (str(alias), int(position), str(dtype)) for alias, position, dtype in value["fetches"]
            ),
            handed_on=dict(value["handed_on"]),
            assertions=dict(value["assertions"]),
            checks=CallChecks(**value["checks"]),
            is_computed=bool(value["is_computed"]),
        )


def subject(package: ModelPackage, request: SignatureRequest, given: frozenset[str]) -> dict[str, Any]:
    """Return what a plan's operations depend on, as the artifact store's keys have it."""
    return {
        "model": package.content_hash,
        "signature": request.key(),
        "given": sorted(given),
        "rewrites": REWRITES_VERSION,
    }


class Plan:
    """What computes one set of fed aliases."""

    def __init__(self, made: kept.CompiledModel | None, layout: Layout) -> None:
        self.made = made
        self.layout = layout
        self.checks = layout.checks
        self.knowledge = Knowledge() if made is None else made.knowledge
        self.runner = None if made is None else Runner(made.model, made.memory)
        self._fetches = tuple((alias, position, np.dtype(dtype)) for alias, position, dtype in layout.fetches)

    @classmethod
    def of_graph(
        cls, resolved: ResolvedGraph, given: frozenset[str], what: Mapping[str, Any], options: EngineOptions
    ) -> Plan:
        """Cut a graph and compile it, or take the compiled model from the store.

        Args:
            what: See `subject`.
        """
        resolved, texts = with_assertions(resolved, assertions(resolved, given))
        cut_graph = cut(resolved, given)
        if not cut_graph.fetches:
            checks = call_checks(resolved.package, resolved.signature, (), Knowledge())
            return cls(None, Layout((), (), cut_graph.handed_on, texts, checks, is_computed=False))
        made = openvino_compile.compiled_model(
            lambda: read_cut(cut_graph, resolved, options.precision), what, options, cut_graph.feeds
        )
        feeds, fetches = _connected(made.model, cut_graph, resolved)
        checks = call_checks(resolved.package, resolved.signature, feeds, made.knowledge)
        return cls(made, Layout(feeds, fetches, cut_graph.handed_on, texts, checks))

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run once; see LoadedModel."""
        outputs: dict[str, npt.NDArray[Any]] = {}
        if self.runner is not None:
            feeds = [_ZERO if alias is None else inputs[alias] for alias in self.layout.feeds]
            results = self.runner.run(feeds)
            for alias, position, dtype in self._fetches:
                outputs[alias] = results[position].astype(dtype, copy=False)
        for alias, text in self.layout.assertions.items():
            if not outputs.pop(alias).all():
                raise InvalidArgumentError(text)
        for alias, source in self.layout.handed_on.items():
            outputs[alias] = inputs[source].copy()
        return outputs

    def close(self) -> None:
        """Free what it holds; closing twice is fine."""
        self.made = None
        if self.runner is not None:
            self.runner.close()

    def output_shape(self, alias: str) -> tuple[int | None, ...] | None:
        """Return the shape that the engine knows for a computed output; None where it knows none."""
        for name, position, _ in self._fetches:
            if name == alias and self.runner is not None:
                return shape_of_port(self.runner.compiled.outputs[position])
        return None


def _connected(
    compiled: ov.CompiledModel, made: Cut, resolved: ResolvedGraph
) -> tuple[tuple[str | None, ...], tuple[tuple[str, int, str], ...]]:
    """Find the aliases of the compiled model's ports: feeds and fetches of a Layout."""
    aliases: dict[str, str | None] = {name: alias for alias, name in made.feeds.items()}
    if made.zero is not None:
        aliases[made.zero] = None
    feeds = [next((name for name in port.get_names() if name in aliases), None) for port in compiled.inputs]
    positions = {
        name: position for position, port in enumerate(compiled.outputs) for name in port.get_names()
    }
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
    fetches = tuple(
        (alias, positions[name], str(resolved.outputs[alias].numpy_dtype))
        for alias, name in made.fetches.items()
    )
    return tuple(aliases[name] for name in feeds if name is not None), fetches


def _serialized(message: Any) -> bytes:
    try:
        data: bytes = message.SerializeToString()
    except EncodeError as error:
        # A message that was read before can fail here for want of memory alone; protobuf does not say so.
        raise MemoryError("no memory to write the graph down") from error
    return data


def read_cut(made: Cut, resolved: ResolvedGraph, precision: str = "fp32") -> openvino_compile.Read:
    """Have OpenVINO read a cut graph, in which is rewritten what can be for this precision."""
    graph_def = made.graph_def if made.saved_model is None else made.saved_model.meta_graphs[0].graph_def
    begin(Stage.REWRITING)
    notes = rewrite(
        openvino_compile.core(), graph_def, made.fetches.values(), in_bfloat16=precision == "bf16"
    )
    begin(Stage.READING)
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
