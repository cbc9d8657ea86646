"""Which operations of a model change something that the next call sees: variables, tables, queues, random generators.

A predictor of such a model has to be alone with it: TensorFlow's Predictor had a session of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from elastic_inference.models.source_nodes import SourceNode

_TENSORFLOW = re.compile(
    r"""Assign(Add|Sub)?(VariableOp)? | Assign(Add|Sub)?Variable | CountUpTo | ResourceCountUpTo
    | Resource(Scatter|Apply|SparseApply|StridedSliceAssign)\w*
    | Scatter(Add|Sub|Mul|Div|Min|Max|Update|NdUpdate|NdAdd|NdSub)
    | StridedSliceAssign | (Sparse)?Apply\w+ | LookupTable(Insert|Remove|Import)(V2)? | InitializeTable\w*
    | Queue(Enqueue|Dequeue)\w* | Iterator\w* | Reader\w+ | Barrier\w* | (Map|OrderedMap)?(Un)?[Ss]tage
    | Multinomial | ParameterizedTruncatedNormal | TruncatedNormal | SampleDistortedBoundingBox(V2)?
    | Random(Crop|Gamma|Poisson|PoissonV2|Shuffle|StandardNormal|Uniform|UniformInt)
    | Rng(ReadAndSkip|Skip) | Stateful\w*(Binomial|Normal|NormalV2|Uniform|UniformFullInt|UniformInt)
    | (Uniform|LogUniform|LearnedUnigram|ThreadUnsafeUnigram|FixedUnigram|All)CandidateSampler
    | (Conditional)?Accumulator\w* | Stack(Push|Pop)(V2)?""",
    re.VERBOSE,
)
_ONNX = re.compile(r"Random(Normal|Uniform)(Like)?|Multinomial|Bernoulli")


def tensorflow_changes(nodes: Iterable[SourceNode]) -> tuple[str, ...]:
    """Return the names of the operations among them that change something, each once."""
    return _matching(nodes, _TENSORFLOW)


def onnx_changes(nodes: Iterable[SourceNode]) -> tuple[str, ...]:
    """Return the same of ONNX, where only random generators do."""
    return _matching((node for node in nodes if node.domain == ""), _ONNX)


def _matching(nodes: Iterable[SourceNode], pattern: re.Pattern[str]) -> tuple[str, ...]:
    return tuple(sorted({node.op for node in nodes if pattern.fullmatch(node.op)}))
