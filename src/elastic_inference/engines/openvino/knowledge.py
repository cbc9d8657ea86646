"""What is known of a model on OpenVINO before it answers: what it would compute otherwise, and in which calls.

"auto" leaves a model of which something is known to the reference engine; whoever names the engine gets a note.
The knowledge itself stands in `rows`, `arithmetic` and `shapes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.call_checks import CallChecks
from elastic_inference.engines.openvino import rows
from elastic_inference.engines.openvino.arithmetic import examine
from elastic_inference.engines.openvino.shapes import order_equal_values, shape_differences
from elastic_inference.errors import UnsupportedModel
from elastic_inference.models.assertions import Assertions
from elastic_inference.models.onnx_file import onnx_nodes
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import ResolvedGraph
from elastic_inference.models.signature import Signature
from elastic_inference.models.state import tensorflow_changes
from elastic_inference.models.tensorflow_nodes import tensorflow_nodes

_MAX_TOLD = 4
_FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Knowledge:
    """What reading a model as OpenVINO has it showed; kept with the compiled model.

    Attributes:
        differences: What would be computed otherwise than the model says; a sentence each.
        loses_nan: Names of operations through which NaN, infinities or empty tensors may become other numbers.
        index_limits: Position of an input of the compiled model -> how many elements its values choose among.
        rewrites: What became of patterns that can be rewritten; a sentence each.
    """

    differences: tuple[str, ...] = ()
    loses_nan: tuple[str, ...] = ()
    index_limits: Mapping[int, int] = None  # type: ignore[assignment]
    rewrites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "index_limits", dict(self.index_limits or {}))

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Knowledge:
        """Read what `to_json` wrote; raises ValueError or KeyError for anything else."""
        value = json.loads(text)
        limits = {int(position): int(size) for position, size in value["index_limits"].items()}
        return cls(tuple(value["differences"]), tuple(value["loses_nan"]), limits, tuple(value["rewrites"]))


def study(model: Any) -> Knowledge:
    """Read a model (ov.Model) before it is compiled, and mend what can be mended in it."""
    found = examine(model)
    differences = (*found.differences, *shape_differences(model))
    order_equal_values(model)
    return Knowledge(differences, tuple(found.loses_nan), found.index_limits)


def graph_differences(resolved: ResolvedGraph, found: Assertions) -> list[str]:
    """Return what is lost when OpenVINO reads a TensorFlow graph; a sentence each."""
    nodes = list(tensorflow_nodes(resolved))
    lost = [f"Assert ({name!r}) is left out" for name in found.lost]
    lost += [f"{op} changes what the next call sees" for op in tensorflow_changes(nodes)]
    return lost + rows.differences(nodes, rows.TENSORFLOW_ROWS)


def file_differences(package: ModelPackage) -> list[str]:
    """Return what is lost when OpenVINO reads an ONNX file; a sentence each."""
    if package.format is not ModelFormat.ONNX:
        return []
    return rows.differences(onnx_nodes(package.main_path), rows.ONNX_ROWS)


def accept(differences: Sequence[str], options: EngineOptions) -> tuple[str, ...]:
    """Return the notes of a model that is loaded although something is known of it.

    Raises:
        UnsupportedModel: The engine was not asked for by name, so that another one may take the model.
    """
    if not differences:
        return ()
    told = "; ".join(differences[:_MAX_TOLD])
    if len(differences) > _MAX_TOLD:
        told += f"; and {len(differences) - _MAX_TOLD} more"
    if options.engine != "openvino":
        raise UnsupportedModel(f"OpenVINO would not compute it as it is written: {told}")
    return (f"OpenVINO does not compute this model as it is written: {told}.",)


def call_checks(
    package: ModelPackage, signature: Signature, feeds: Sequence[str | None], knowledge: Knowledge
) -> CallChecks:
    """Return what to look for in each call.

    Args:
        feeds: The alias of each input of the compiled model, None for one that is ours.
    """
    reference = registry.reference_of(package.format)
    specs = {alias: signature.inputs[alias] for alias in feeds if alias is not None}
    floats = [alias for alias, spec in specs.items() if spec.base_dtype in _FLOATS]
    return CallChecks(
        engine="openvino",
        reference="" if reference is None else reference.name,
        int32_inputs=[alias for alias, spec in specs.items() if spec.base_dtype == "int64"],
        finite_inputs=floats if knowledge.loses_nan else (),
        lossy_operations=knowledge.loses_nan,
        is_empty_wrong=bool(knowledge.loses_nan),
        index_limits={
            alias: size
            for position, size in knowledge.index_limits.items()
            if position < len(feeds) and (alias := feeds[position]) is not None
        },
        may_count_backwards=package.format is ModelFormat.ONNX,
    )


def with_assertions(resolved: ResolvedGraph, found: Assertions) -> tuple[ResolvedGraph, dict[str, str]]:
    """Return the graph with the conditions of its assertions as further outputs; their aliases, and what to say."""
    outputs = dict(resolved.outputs)
    texts: dict[str, str] = {}
    for index, assertion in enumerate(found.checked):
        alias = f"{assertion.condition}#assertion{index}"
        name = assertion.condition if ":" in assertion.condition else f"{assertion.condition}:0"
        outputs[alias] = resolved.graph.tensor(name)
        texts[alias] = assertion.text
    return replace(resolved, outputs=outputs), texts
