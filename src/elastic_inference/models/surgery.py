"""Cut a graph to what one request feeds and fetches, so that an engine need not know how to feed any tensor.

A fed tensor that is no placeholder becomes one; each fetched tensor gets an Identity node of its own, so that the
outputs of the cut graph are exactly the fetches. A fetch that only hands on a fed tensor never reaches the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from elastic_inference.models.graph_pb2 import GraphDef, MetaGraphDef, NodeDef, SavedModel
from elastic_inference.models.operations import DTYPE_NUMBERS
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.signature import DEFAULT_SIGNATURE_KEY, DEFAULT_TAGS
from elastic_inference.models.tensor_graph import Reach, TensorGraph, shape_attribute
from elastic_inference.tensors import TensorSpec


@dataclass(frozen=True)
class Cut:
    """A graph that an engine can run as it stands.

    Attributes:
        graph_def: Only the needed nodes of a frozen graph; every node of a SavedModel, whose restore
            operations engines look for.
        saved_model: A SavedModel with one meta graph, tagged `serve`, whose `serving_default` names exactly the
            feeds and fetches; None for a frozen graph.
        feeds: alias -> name of the placeholder's tensor, for the aliases that the engine needs.
        fetches: alias -> name of the tensor to fetch; two aliases of one tensor share the name.
        handed_on: Output alias -> input alias whose value it is.
        zero: A further placeholder, int32[], to be fed with 0 in every call; None where there is none. Fetches that
            depend on no input are made to depend on it, since OpenVINO drops outputs that are constant.
    """

    graph_def: GraphDef
    saved_model: SavedModel | None
    feeds: Mapping[str, str]
    fetches: Mapping[str, str]
    handed_on: Mapping[str, str]
    zero: str | None


def cut(resolved: ResolvedGraph, given: Collection[str]) -> Cut:
    """Cut the graph for a call that feeds the aliases `given`; none of its placeholders may be missing then."""
    graph = resolved.graph
    alias_of = {spec.name: alias for alias, spec in resolved.inputs.items() if alias in given}
    handed_on = resolved.handed_on(given)
    computed = {alias: spec for alias, spec in resolved.outputs.items() if alias not in handed_on}
    reach = graph.reach((spec.name for spec in computed.values()), alias_of)
    fed = {name: resolved.inputs[alias_of[name]] for name in sorted(reach.fed)}
    graph_def = _copy(resolved, reach)
    feed_names = _replace_fed(graph_def, graph, fed)
    constants = {spec.name for spec in computed.values() if not graph.reach([spec.name], alias_of).fed}
    zero = _add_zero(graph_def, graph) if constants else None
    fetch_names = _add_fetches(
        graph_def, graph, computed, feed_names, {name: zero for name in constants if zero}
    )
    feeds = {alias_of[name]: feed_names[name] for name in fed}
    saved_model = None
    if resolved.meta_graph is not None:
        saved_model = _saved_model(resolved, graph_def, feeds, fetch_names, zero)
    return Cut(graph_def, saved_model, feeds, fetch_names, handed_on, zero)


def _copy(resolved: ResolvedGraph, reach: Reach) -> GraphDef:
    source = resolved.graph.graph_def
    if resolved.meta_graph is not None:
        return GraphDef.FromString(source.SerializeToString())
    kept = GraphDef(library=source.library, versions=source.versions)
    producers = {
        name.partition(":")[0] for name in reach.fed
    }  # only placeholders are kept: others are replaced
    wanted = reach.nodes | {name for name in producers if resolved.graph.nodes[name].op == "Placeholder"}
    for node in source.node:
        if node.name in wanted:
            kept.node.append(node)
    return kept


def _replace_fed(graph_def: GraphDef, graph: TensorGraph, fed: Mapping[str, TensorSpec]) -> dict[str, str]:
    """Make a placeholder of every fed tensor that is none; returns fed tensor -> placeholder's tensor."""
    names: dict[str, str] = {}
    for index, (name, spec) in enumerate(fed.items()):
        if graph.nodes[name.rpartition(":")[0]].op == "Placeholder":
            names[name] = name
            continue
        node = _placeholder(_free_name(graph, f"ei_feed_{index}"), spec)
        names[name] = f"{node.name}:0"
        graph_def.node.append(node)
    replaced = {old: new for old, new in names.items() if old != new}
    replaced |= {old.removesuffix(":0"): new for old, new in replaced.items() if old.endswith(":0")}
    if replaced:
        for node in graph_def.node:
            if any(name in replaced for name in node.input):
                inputs = [replaced.get(name, name) for name in node.input]
                del node.input[:]
                node.input.extend(inputs)
    return names


def _add_zero(graph_def: GraphDef, graph: TensorGraph) -> str:
    spec = TensorSpec("zero", "int32", ())
    node = _placeholder(_free_name(graph, "ei_zero"), spec)
    graph_def.node.append(node)
    return f"{node.name}:0"


def _placeholder(name: str, spec: TensorSpec) -> NodeDef:
    node = NodeDef(name=name, op="Placeholder")
    node.attr["dtype"].type = DTYPE_NUMBERS[spec.base_dtype]
    node.attr["shape"].CopyFrom(shape_attribute(spec.shape))
    return node


def _add_fetches(
    graph_def: GraphDef,
    graph: TensorGraph,
    fetches: Mapping[str, TensorSpec],
    feed_names: Mapping[str, str],
    zero_of: Mapping[str, str],
) -> dict[str, str]:
    """Add an Identity for each fetched tensor; returns alias -> its tensor."""
    added: dict[str, str] = {}
    names: dict[str, str] = {}
    for alias, spec in fetches.items():
        if spec.name not in added:
            source = feed_names.get(spec.name, spec.name)
            name = _free_name(graph, f"ei_fetch_{len(added)}")
            if spec.name in zero_of:
                source = _add_gather(graph_def, name, source, zero_of[spec.name], spec)
            node = graph_def.node.add(name=name, op="Identity", input=[source])
            node.attr["T"].type = DTYPE_NUMBERS[spec.base_dtype]
            added[spec.name] = f"{name}:0"
        names[alias] = added[spec.name]
    return names


def _add_gather(graph_def: GraphDef, name: str, source: str, zero: str, spec: TensorSpec) -> str:
    """Make `source` depend on the tensor `zero` without changing its value: pack it alone, take element 0."""
    pack = graph_def.node.add(name=f"{name}/pack", op="Pack", input=[source])
    pack.attr["T"].type = DTYPE_NUMBERS[spec.base_dtype]
    pack.attr["N"].i = 1
    pack.attr["axis"].i = 0
    gather = graph_def.node.add(name=f"{name}/gather", op="Gather", input=[pack.name, zero])
    gather.attr["Tparams"].type = DTYPE_NUMBERS[spec.base_dtype]
    gather.attr["Tindices"].type = DTYPE_NUMBERS["int32"]
    return gather.name


def _free_name(graph: TensorGraph, wanted: str) -> str:
    while wanted in graph.nodes:
        wanted += "_"
    return wanted


def _saved_model(
    resolved: ResolvedGraph,
    graph_def: GraphDef,
    feeds: Mapping[str, str],
    fetches: Mapping[str, str],
    zero: str | None,
) -> SavedModel:
    assert resolved.meta_graph is not None
    meta_graph = MetaGraphDef.FromString(resolved.meta_graph.SerializeToString())
    meta_graph.graph_def.CopyFrom(graph_def)
    del meta_graph.meta_info_def.tags[:]
    meta_graph.meta_info_def.tags.append(DEFAULT_TAGS)
    meta_graph.signature_def.clear()
    definition = meta_graph.signature_def[DEFAULT_SIGNATURE_KEY]
    definition.method_name = "tensorflow/serving/predict"
    if zero is not None:
        definition.inputs[zero].name = zero
        definition.inputs[zero].dtype = DTYPE_NUMBERS["int32"]
    for tensors, names, specs in (
        (definition.inputs, feeds, resolved.inputs),
        (definition.outputs, fetches, resolved.outputs),
    ):
        for alias, name in names.items():
            tensors[name].name = name
            tensors[name].dtype = DTYPE_NUMBERS[specs[alias].base_dtype]
            tensors[name].tensor_shape.CopyFrom(shape_attribute(specs[alias].shape).shape)
    return SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])
