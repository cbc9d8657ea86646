"""All signatures that a SavedModel defines, by their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from elastic_inference.errors import InvalidInput, TensorNotFound, UnsupportedModel
from elastic_inference.models.graph_pb2 import SignatureDef, TensorInfo
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import read_meta_graph
from elastic_inference.models.tensor_graph import TensorGraph
from elastic_inference.tensors import TensorSpec

PREDICT = "tensorflow/serving/predict"


@dataclass(frozen=True)
class Definition:
    """One signature as the model's maker wrote it down.

    Attributes:
        method_name: What it is for, such as `tensorflow/serving/classify`.
        inputs, outputs: By alias.
    """

    method_name: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


def definitions_of(package: ModelPackage, tags: str | None) -> dict[str, Definition]:
    """Read the signatures of a SavedModel; none for other formats, which have one without a key.

    Signatures that nothing can be asked of are left out, such as the one that initializes a model.

    Args:
        tags: Of the meta graph, as SignatureRequest has them.
    """
    if package.format is not ModelFormat.SAVED_MODEL:
        return {}
    meta_graph = read_meta_graph(package, tags)
    graph = TensorGraph(meta_graph.graph_def)
    found = {}
    for key in sorted(meta_graph.signature_def):
        definition = _definition(graph, meta_graph.signature_def[key])
        if definition is not None:
            found[key] = definition
    return found


def _definition(graph: TensorGraph, definition: SignatureDef) -> Definition | None:
    try:
        inputs, outputs = _specs(graph, definition.inputs), _specs(graph, definition.outputs)
    except (InvalidInput, TensorNotFound, UnsupportedModel):  # an operation, or a tensor that cannot be sent
        return None
    return Definition(definition.method_name or PREDICT, inputs, outputs) if outputs else None


def _specs(graph: TensorGraph, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorSpec]:
    """Return tensors of the graph, in the shapes that the signature says where it says any."""
    found = {}
    for alias in sorted(tensors):
        info = tensors[alias]
        spec = graph.tensor(info.name)
        if info.HasField("tensor_shape") and not info.tensor_shape.unknown_rank:
            sizes = [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
            spec = replace(spec, shape=tuple(sizes))
        found[alias] = spec
    return found
