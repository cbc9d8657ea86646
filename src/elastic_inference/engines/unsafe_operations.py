"""Which TensorFlow operations may touch files, processes or the network, and which of them a model would run.

Whatever is not known to be harmless counts as unsafe: stateful operations that are not listed here, and the stateless
ones listed here, which TensorFlow does not mark although they read files, load native code or run graphs that they are
handed as text. Reading a table from one of the model's own assets is allowed. Operations that TensorFlow does not know
run nowhere, so they are refused as unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from elastic_inference.errors import UnsafeModel, UnsupportedModel
from elastic_inference.models.assets import asset_tensors, reads_assets_only
from elastic_inference.models.graph_pb2 import FunctionDef, GraphDef, NodeDef
from elastic_inference.models.operations import is_known, is_stateful
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.soundness import called_functions

# Stateful, but the state is a variable, a table in memory, a random generator or control flow within the session.
_HARMLESS_STATEFUL = re.compile(
    r"""Assert | Assign(Add|Sub)?VariableOp | Case | CheckNumerics(V2)? | DestroyResourceOp | DisableCopyOnRead
    | DeviceIndex | Empty | GuaranteeConst | If | IsResourceHandleRefCounting | IsTensorFloat32Enabled | Print
    | ReadVariableOp | ResourceGather(Nd)? | ResourceScatter\w* | ResourceStridedSliceAssign | StatefulPartitionedCall
    | TemporaryVariable | VarHandleOp | VarIsInitializedOp | Variable(V2|Shape)? | While | DeepCopy | Timestamp
    | (Anonymous)?(Mutable|MutableDense)?HashTable(OfTensors)?(V2)? | InitializeTableV2
    | LookupTable(Export|Find|Import|Insert|Remove|Size)V2 | Stack(Close|Pop|Push)?(V2)?
    | TensorArray(Close|Concat|Gather|Grad|Read|Scatter|Size|Split|Write)?(V2|V3|WithShape)?
    | Multinomial | ParameterizedTruncatedNormal | TruncatedNormal
    | Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)
    | RngReadAndSkip | RngSkip | SampleDistortedBoundingBox(V2)? | StatelessRandomGetAlg
    | Stateful(RandomBinomial|StandardNormal|StandardNormalV2|TruncatedNormal|Uniform|UniformFullInt|UniformInt)
    | (Uniform|LogUniform|LearnedUnigram|ThreadUnsafeUnigram|All)?CandidateSampler
    | CudnnRNN(V2|V3)?""",
    re.VERBOSE,
)
_UNSAFE_STATELESS = re.compile(
    r"""ReadFile | MatchingFiles | ImmutableConst | InitializeTableFromTextFile | GenerateVocabRemapping
    | (De|En)codeProto(V2)? | PyFuncStateless | Debug\w+ | Copy(Host)? | Xla\w+ | TPU\w+ | \w*Dataset\w*
    | Reader\w+ | Queue\w+""",
    re.VERBOSE,
)
_RESTORE = re.compile(r"RestoreV2|Restore|RestoreSlice|MergeV2Checkpoints")
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_INIT_SIGNATURE = "__saved_model_init_op"


def is_unsafe(op: str) -> bool:
    """Whether the operation may touch anything outside its session."""
    if not is_known(op):
        return True
    return not _HARMLESS_STATEFUL.fullmatch(op) if is_stateful(op) else bool(_UNSAFE_STATELESS.fullmatch(op))


def refuse_unsafe(resolved: ResolvedGraph) -> None:
    """Refuse a graph that would run unsafe operations for its outputs, on loading or on restoring variables.

    What a SavedModel holds but never runs, such as the operations that once saved it, does not count.

    Raises:
        UnsafeModel: Names the operations.
        UnsupportedModel: Names those that this version does not know.
    """
    functions = {function.signature.name: function for function in _functions(resolved.graph.graph_def)}
    library = {name: function.node_def for name, function in functions.items()}
    graph = resolved.graph
    outputs = [spec.name for spec in resolved.outputs.values()]
    running = graph.reach([*outputs, *_initializers(resolved)], ()).nodes
    found = _unsafe_ops((graph.nodes[name] for name in running), library)
    restoring = graph.reach(_restorers(resolved), ()).nodes
    restore_ops = _unsafe_ops((graph.nodes[name] for name in restoring), library)
    found |= {op for op in restore_ops if not _RESTORE.fullmatch(op)}
    if resolved.meta_graph is not None and found:
        fed = {spec.name.partition(":")[0] for spec in resolved.inputs.values()}
        # A tensor that a call may feed names any file.
        assets = asset_tensors(resolved.meta_graph, resolved.package).keys() - fed
        nodes = [graph.nodes[name] for name in running]
        found = {op for op in found if not reads_assets_only(op, nodes, functions, assets)}
    unknown = sorted(op for op in found if not is_known(op))
    if unknown:
        raise UnsupportedModel(
            f"{resolved.package.main_path} has operations that this version does not know: {', '.join(unknown)}"
        )
    if found:
        raise UnsafeModel(
            f"{resolved.package.main_path} holds operations that may touch files, processes or the network: "
            f"{', '.join(sorted(found))}. Allow unsafe operations if you trust the model: "
            "allow_unsafe_operations=True of EIPredictor for its own embedded accelerator; a host's operator decides "
            "for its accelerators."
        )


def _functions(graph_def: GraphDef) -> Iterable[FunctionDef]:
    return graph_def.library.function


def _initializers(resolved: ResolvedGraph) -> list[str]:
    if resolved.meta_graph is None:
        return []
    collections = resolved.meta_graph.collection_def
    names = [n for key in _INIT_COLLECTIONS if key in collections for n in collections[key].node_list.value]
    if _INIT_SIGNATURE in resolved.meta_graph.signature_def:
        names += [info.name for info in resolved.meta_graph.signature_def[_INIT_SIGNATURE].outputs.values()]
    return names


def _restorers(resolved: ResolvedGraph) -> list[str]:
    name = "" if resolved.meta_graph is None else resolved.meta_graph.saver_def.restore_op_name
    return [name] if name else []


def _unsafe_ops(nodes: Iterable[NodeDef], library: Mapping[str, Sequence[NodeDef]]) -> set[str]:
    """Unsafe operations among the nodes and in every function that they call, directly or not."""
    found: set[str] = set()
    entered: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        called = {name for value in node.attr.values() for name in called_functions(value)} | {node.op}
        for name in called & library.keys() - entered:
            entered.add(name)
            pending += library[name]
        if is_unsafe(node.op) and (is_known(node.op) or node.op not in library):
            found.add(node.op)
    return found
