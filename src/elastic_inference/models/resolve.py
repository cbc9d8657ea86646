"""From a model's files to the signature that a caller asked for, for the TensorFlow formats and without TensorFlow.

Frozen graphs carry no signature: where no names are given, every placeholder is an input and every terminal node (one
with outputs that no other node takes) gives one output for each of its tensors; aliases are the operations' names.
Models of other formats name their own inputs and outputs, so their engines resolve them with `named_signature`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from google.protobuf.message import DecodeError

from elastic_inference.errors import InvalidModel, SignatureNotFound, TagsNotFound, TensorNotFound
from elastic_inference.models.graph_pb2 import GraphDef, MetaGraphDef, SavedModel, SignatureDef
from elastic_inference.models.operations import output_dtypes
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import (
    DEFAULT_SIGNATURE_KEY,
    DEFAULT_TAGS,
    Signature,
    SignatureRequest,
)
from elastic_inference.models.soundness import check_sound
from elastic_inference.models.tensor_graph import FEEDABLE, TensorGraph
from elastic_inference.tensors import TensorSpec


@dataclass(frozen=True)
class ResolvedGraph:
    """A graph and the tensors of it that a caller asked for.

    Attributes:
        meta_graph: The SavedModel's meta graph with the wanted tags; None for a frozen graph.
        inputs: alias -> tensor that it feeds.
        outputs: alias -> tensor that it fetches.
    """

    package: ModelPackage
    graph: TensorGraph
    meta_graph: MetaGraphDef | None
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]

    @cached_property
    def signature(self) -> Signature:
        """The signature, with what it needs."""
        aliases = frozenset(self.inputs)
        return Signature(
            inputs=self.inputs,
            outputs=self.outputs,
            required_inputs=frozenset(
                alias
                for alias in aliases
                if len(self.missing(aliases - {alias})) > len(self.missing(aliases))
            ),
            unfed_placeholders=self.missing(aliases),
        )

    def missing(self, given: Iterable[str]) -> tuple[TensorSpec, ...]:
        """Placeholders that the outputs need when the aliases `given` are fed, in reverse order of the graph:
        the first is the one that TensorFlow complains of.
        """
        fed = [self.inputs[alias].name for alias in given]
        reach = self.graph.reach((spec.name for spec in self.outputs.values()), fed)
        nodes = self.graph.placeholders(reach.nodes)
        return tuple(self.graph.tensor(f"{node.name}:0") for node in reversed(nodes))

    def used(self, given: Iterable[str]) -> frozenset[str]:
        """Those of the aliases `given` whose values the outputs depend on."""
        fed = {self.inputs[alias].name: alias for alias in given}
        reach = self.graph.reach((spec.name for spec in self.outputs.values()), fed)
        return frozenset(fed[name] for name in reach.fed)

    def handed_on(self, given: Iterable[str] | None = None) -> dict[str, str]:
        """Output alias -> input alias (of `given`, or of all), for outputs that are a fed tensor as it is."""
        alias_of = {self.inputs[alias].name: alias for alias in (self.inputs if given is None else given)}
        origins = {alias: self.graph.origin(spec.name, alias_of) for alias, spec in self.outputs.items()}
        return {alias: alias_of[origin] for alias, origin in origins.items() if origin is not None}

    def skeleton(self) -> ResolvedGraph:
        """Return the same without the graph's constants; it answers `missing`, `used` and `handed_on`."""
        everything = self.graph.reach((spec.name for spec in self.outputs.values()), ())
        names = [node.name for node in self.graph.graph_def.node if node.name in everything.nodes]
        return replace(self, graph=self.graph.skeleton(names), meta_graph=None)


def resolve_graph(package: ModelPackage, request: SignatureRequest) -> ResolvedGraph:
    """Read a SavedModel or a frozen graph and find the tensors that the request names.

    Raises:
        InvalidModel: The file is truncated or no such model.
        TagsNotFound, SignatureNotFound, TensorNotFound, InvalidInput: The request does not fit; TensorFlow's texts.
        UnsupportedModel: A tensor's dtype is one that no request can carry.
    """
    if package.format is ModelFormat.FROZEN_GRAPH:
        graph_def = _read_frozen_graph(package)
        check_sound(graph_def)
        graph = TensorGraph(graph_def)
        inputs, outputs = _frozen_names(graph, request)
        return _resolved(package, graph, None, inputs, outputs)
    meta_graph = read_meta_graph(package, request.tags)
    check_sound(meta_graph.graph_def)
    graph = TensorGraph(meta_graph.graph_def)
    if request.input_names is not None and request.output_names is not None:
        return _resolved(package, graph, meta_graph, request.input_names, request.output_names)
    definition = _signature_def(meta_graph, request.signature_def_key)
    return _resolved(
        package, graph, meta_graph, _tensor_names(definition.inputs), _tensor_names(definition.outputs)
    )


def read_meta_graph(package: ModelPackage, tags: str | None) -> MetaGraphDef:
    """Read a SavedModel's meta graph with these tags, None for the usual ones; InvalidModel, TagsNotFound."""
    return _meta_graph(_read_saved_model(package), tags)


def named_signature(
    request: SignatureRequest, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]
) -> Signature:
    """Return the signature of a model that names its own inputs and outputs (ONNX, TFLite, Keras, PyTorch).

    Names that the request gives may be the model's own or end in `:0`. The model's one signature is
    `serving_default`.

    Raises:
        SignatureNotFound: The request asks for another signature.
        TensorNotFound: The request names a tensor that is neither an input nor an output.
        InvalidInput: It lists more or fewer outputs than the model has.
    """
    own_inputs = {spec.name: spec for spec in inputs}
    own_outputs = request.renamed({spec.name: spec for spec in outputs})
    if request.signature_def_key not in (None, "", DEFAULT_SIGNATURE_KEY):
        raise SignatureNotFound(_no_signature(str(request.signature_def_key), [DEFAULT_SIGNATURE_KEY]))
    if request.input_names is None or request.output_names is None:
        return Signature(own_inputs, own_outputs, frozenset(own_inputs))
    chosen_inputs = {alias: _own(own_inputs, name, "input") for alias, name in request.input_names.items()}
    chosen_outputs = {
        alias: _own(own_outputs, name, "output") for alias, name in request.output_names.items()
    }
    fed = {spec.name for spec in chosen_inputs.values()}
    unfed = tuple(spec for name, spec in own_inputs.items() if name not in fed)
    return Signature(chosen_inputs, chosen_outputs, frozenset(chosen_inputs), unfed)


def _own(specs: Mapping[str, TensorSpec], name: str, kind: str) -> TensorSpec:
    spec = specs.get(name) or specs.get(name.removesuffix(":0"))
    if spec is None:
        raise TensorNotFound(f"The model has no {kind} {name!r}; it has {', '.join(map(repr, specs))}")
    return spec


def _read_frozen_graph(package: ModelPackage) -> GraphDef:
    path = package.main_path
    graph_def = GraphDef()
    try:
        graph_def.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidModel(f"{path} is not a frozen TensorFlow graph, or is cut short: {error}") from error
    if not graph_def.node or not all(node.name and node.op for node in graph_def.node):
        raise InvalidModel(f"{path} is not a frozen TensorFlow graph: no operations found in it")
    return graph_def


def _read_saved_model(package: ModelPackage) -> SavedModel:
    path = package.root / "saved_model.pb"
    saved_model = SavedModel()
    try:
        saved_model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise InvalidModel(f"{path} is not a SavedModel, or is cut short: {error}") from error
    if not saved_model.meta_graphs:
        raise InvalidModel(f"{path} is not a SavedModel: no meta graphs found in it")
    return saved_model


def _meta_graph(saved_model: SavedModel, tags: str | None) -> MetaGraphDef:
    wanted = set((tags or DEFAULT_TAGS).split(","))
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == wanted:
            return meta_graph
    available = ", ".join(
        "{" + ", ".join(map(repr, meta_graph.meta_info_def.tags)) + "}"
        for meta_graph in saved_model.meta_graphs
    )
    named = str((tags or DEFAULT_TAGS).split(",")).strip("[]")
    raise TagsNotFound(
        f"MetaGraphDef associated with tags {named} could not be found in SavedModel. To inspect "
        "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`\n"
        f"available_tags: [{available}]"
    )


def _signature_def(meta_graph: MetaGraphDef, key: str | None) -> SignatureDef:
    key = key or DEFAULT_SIGNATURE_KEY
    if key not in meta_graph.signature_def:
        raise SignatureNotFound(_no_signature(key, sorted(meta_graph.signature_def)))
    return meta_graph.signature_def[key]


def _no_signature(key: str, available: Iterable[str]) -> str:
    return f"Got signature_def_key {key!r}. Available signatures are {', '.join(map(repr, available)) or 'none'}."


def _tensor_names(tensors: Mapping[str, object]) -> dict[str, str]:
    return {alias: tensors[alias].name for alias in sorted(tensors)}  # type: ignore[attr-defined]


def _frozen_names(
    graph: TensorGraph, request: SignatureRequest
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    if request.input_names is not None and request.output_names is not None:
        return request.input_names, request.output_names
    if request.signature_def_key not in (None, "", DEFAULT_SIGNATURE_KEY):
        raise SignatureNotFound(_no_signature(str(request.signature_def_key), [DEFAULT_SIGNATURE_KEY]))
    inputs = {node.name: f"{node.name}:0" for node in graph.placeholders()}
    outputs: dict[str, str] = {}
    for node in graph.terminal_nodes():
        dtypes = output_dtypes(node) or []
        for index, dtype in enumerate(dtypes):
            if dtype.removesuffix("_ref") in FEEDABLE:
                alias = node.name if len(dtypes) == 1 else f"{node.name}:{index}"
                outputs[alias] = f"{node.name}:{index}"
    return inputs, outputs


def _resolved(
    package: ModelPackage,
    graph: TensorGraph,
    meta_graph: MetaGraphDef | None,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> ResolvedGraph:
    return ResolvedGraph(
        package,
        graph,
        meta_graph,
        {alias: graph.tensor(name) for alias, name in inputs.items()},
        {alias: graph.tensor(name) for alias, name in outputs.items()},
    )
