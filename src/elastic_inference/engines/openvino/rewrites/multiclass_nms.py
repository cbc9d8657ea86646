"""The loop over images in which detectors suppress overlapping boxes, class by class; found here, and described.

TensorFlow's Object Detection API writes it as a map over the images, with one NonMaxSuppression operation and some
sixty others for each class. Versions of the API differ in those others, so they are not compared with a picture of
them: the few figures that decide are read at the places where they have to stand, and `certificate` then holds the
description against what the model's own operations compute.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum

import numpy as np

from elastic_inference.engines.openvino.rewrites.graph import Graph, Tensor, inputs_of
from elastic_inference.engines.openvino.rewrites.maps import MapLoop, NoMatch
from elastic_inference.models.graph_pb2 import NodeDef

_SUPPRESSIONS = ("NonMaxSuppressionV2", "NonMaxSuppressionV3", "NonMaxSuppressionV4", "NonMaxSuppressionV5")
_SHAPES = ("Reshape", "Slice", "StridedSlice", "Squeeze")
_FILTERS = (*_SHAPES, "Gather", "GatherV2")


class Clip(Enum):
    """When boxes are cut to the window of the image; those of which nothing is left are dropped then."""

    NEVER = "never"
    BEFORE = "before"  # they are suppressed
    AFTER = "after"


@dataclass(frozen=True)
class Suppression:
    """What the loop computes.

    Attributes:
        num_classes: C; each is suppressed by itself.
        has_boxes_of_classes: Whether each class has boxes of its own.
        score_threshold: Boxes take part whose score is greater.
        overlap_threshold: A box goes that shares more with a better one, as intersection over union.
        most_of_class: Boxes that stay of a class.
        changes_frame: Whether coordinates become those of the window, where boxes are cut to it.
        fields: For each further tensor of the boxes, whether each class has its own.
        most: Rows of a result; those that no box fills are 0. What the loop fills up to stands in many forms, so that
            it is left to whoever evaluates the loop to say.
    """

    num_classes: int
    has_boxes_of_classes: bool
    score_threshold: float
    overlap_threshold: float
    most_of_class: int
    clip: Clip
    changes_frame: bool
    fields: tuple[bool, ...] = ()
    most: int = 0

    def to_json(self) -> str:
        """One line that `from_json` reads back."""
        return json.dumps({**asdict(self), "clip": self.clip.value})

    @classmethod
    def from_json(cls, text: str) -> Suppression:
        """Read what `to_json` wrote."""
        value = json.loads(text)
        return cls(**{**value, "clip": Clip(value["clip"]), "fields": tuple(value["fields"])})


@dataclass(frozen=True)
class Match:
    """A loop, the description of it that is to be proved, and what it works on; all are tensors inside the loop.

    Attributes:
        boxes: float32[N, C or 1, 4], corners.
        scores: float32[N, C].
        num_valid: int32[], how many of the N boxes count; None: all.
        window: float32[4]; None where boxes are not cut.
        fields: Further tensors float32[N, ...] of which the rows of the boxes that stay are results.
        field_sizes: Sizes of the fields' axes after the first.
        results: Tensors that the loop gives, in the order of `MapLoop.results`.
        nodes: Names of all nodes that are part of it.
    """

    loop: MapLoop
    suppression: Suppression
    boxes: Tensor
    scores: Tensor
    num_valid: Tensor | None
    window: Tensor | None
    fields: tuple[Tensor, ...]
    field_sizes: tuple[tuple[int, ...], ...]
    results: tuple[Tensor, ...]
    nodes: frozenset[str]


def match(graph: Graph, loop: MapLoop) -> Match | None:
    """Describe the loop; None where it suppresses no boxes.

    Raises:
        NoMatch: It does so in a way that is not described here.
    """
    results = tuple(loop.results.values())
    inside = graph.ancestors(results, (*loop.elements, *loop.invariants))
    found = [graph.nodes[name] for name in inside if graph.nodes[name].op.startswith("NonMaxSuppression")]
    found += [graph.nodes[name] for name in inside if graph.nodes[name].op.startswith("CombinedNonMax")]
    return _Reader(graph, loop, inside, found).read() if found else None


class _Reader:
    def __init__(self, graph: Graph, loop: MapLoop, inside: set[str], suppressions: list[NodeDef]) -> None:
        self._graph = graph
        self._loop = loop
        self._inside = inside
        self._suppressions = suppressions

    def read(self) -> Match:
        if any(node.op not in _SUPPRESSIONS for node in self._suppressions):
            raise NoMatch(f"it suppresses boxes with {self._suppressions[0].op}")
        given = [inputs_of(node) for node in self._suppressions]
        if any(len(inputs) > 5 and not self._graph.is_constant(inputs[5], 0.0) for inputs in given):
            raise NoMatch("its suppression is soft")
        boxes, scores = self._element(i[0] for i in given), self._element(i[1] for i in given)
        sizes = self._sizes(boxes), self._sizes(scores)
        if len(sizes[0]) != 2 or len(sizes[1]) != 1 or sizes[0][1] != 4:
            raise NoMatch(f"its boxes have axes {sizes[0]} and its scores {sizes[1]} after the first")
        num_classes, num_boxes = sizes[1][0], sizes[0][0]
        if num_classes != len(self._suppressions):
            raise NoMatch(f"{len(self._suppressions)} suppressions for {num_classes} classes")
        if num_boxes not in (1, num_classes):
            raise NoMatch(f"it has {num_boxes} boxes for {num_classes} classes")
        rest = [
            tensor
            for tensor in self._loop.elements
            if tensor not in (boxes, scores) and self._is_used(tensor)
        ]
        num_valid = self._take(rest, self._is_count)
        window = self._take(rest, self._is_window)
        fields = tuple(rest)
        clip = self._clip(window)
        field_sizes = tuple(self._sizes(field) for field in fields)
        suppression = Suppression(
            num_classes=num_classes, has_boxes_of_classes=num_boxes > 1,
            score_threshold=self._score_threshold(given), overlap_threshold=self._same(i[3] for i in given),
            most_of_class=self._most_of_class(given), clip=clip,
            changes_frame=any(self._graph.nodes[name].op == "RealDiv" for name in self._inside),
            fields=tuple(self._is_of_classes(field) for field in fields),
        )  # fmt: skip
        return Match(
            self._loop, suppression, boxes, scores, num_valid, window, fields, field_sizes,
            tuple(self._loop.results.values()), frozenset(self._inside),
        )  # fmt: skip

    def _element(self, tensors: Iterable[Tensor]) -> Tensor:
        """Return the one element of the loop of which all of these are parts."""
        sources = {self._origin(tensor) for tensor in tensors}
        source = sources.pop()
        if sources or source not in self._loop.elements:
            raise NoMatch("its classes do not take their boxes or scores from one tensor")
        return source

    def _origin(self, tensor: Tensor) -> Tensor:
        """Follow a tensor back through choices of rows, cuts to a window and changes of its frame."""
        seen: set[Tensor] = set()
        while tensor not in self._loop.elements and tensor not in seen:
            seen.add(tensor)
            node = self._graph.nodes[tensor[0]]
            given = inputs_of(node)
            if node.op in ("Split", "Mul"):  # Mul: by one over the height or width of the window
                tensor = given[1]
            elif node.op in ("Identity", "Unpack", "Minimum", "Maximum", "Sub", "ConcatV2", *_FILTERS):
                tensor = given[0]
            else:
                break
        return tensor

    def _takers(self, tensor: Tensor) -> list[NodeDef]:
        found = []
        for node in self._graph.consumers.get(tensor[0], []):
            if node.name in self._inside:
                found += self._takers((node.name, 0)) if node.op == "Identity" else [node]
        return found

    def _is_used(self, tensor: Tensor) -> bool:
        return bool(self._takers(tensor))

    def _sizes(self, tensor: Tensor) -> tuple[int, ...]:
        """Sizes of the axes after the first, which the loop states when it takes the valid rows."""
        for node in self._takers(tensor):
            if node.op == "Slice":
                for taker in self._takers((node.name, 0)):
                    if taker.op == "Reshape":
                        shape = self._graph.constant(inputs_of(taker)[1])
                        if shape is not None and shape.ndim == 1 and len(shape) and int(shape[0]) == -1:
                            return tuple(int(size) for size in shape[1:])
        raise NoMatch(f"the shape of {tensor[0]!r} is not stated")

    @staticmethod
    def _take(tensors: list[Tensor], is_wanted: object) -> Tensor | None:
        found = [tensor for tensor in tensors if is_wanted(tensor)]  # type: ignore[operator]
        if len(found) > 1:
            raise NoMatch("two of its tensors could be the window, or the number of valid boxes")
        for tensor in found:
            tensors.remove(tensor)
        return found[0] if found else None

    def _is_count(self, tensor: Tensor) -> bool:
        takers = self._takers(tensor)
        return all(node.op == "Pack" for node in takers)

    def _is_window(self, tensor: Tensor) -> bool:
        takers = self._takers(tensor)
        return all(node.op in ("Unpack", "StridedSlice", "Pack", "Sub") for node in takers)

    def _is_of_classes(self, field: Tensor) -> bool:
        """Whether a field is taken apart into classes before it is chosen from."""
        pending = [node for node in self._takers(field) if node.op == "Slice"]
        while pending:
            node = pending.pop()
            if node.op == "Unpack":
                return True
            if node.op in ("Slice", "Reshape"):
                pending += self._takers((node.name, 0))
        return False

    def _clip(self, window: Tensor | None) -> Clip:
        if window is None:
            return Clip.NEVER
        sources = [inputs_of(node)[0] for node in self._suppressions]
        before = self._graph.ancestors(sources, self._loop.elements)
        is_before = any(self._graph.nodes[name].op == "Maximum" for name in before)
        return Clip.BEFORE if is_before else Clip.AFTER

    def _same(self, tensors: Iterable[Tensor]) -> float:
        values = {None if (v := self._graph.constant(t)) is None else float(v) for t in tensors}
        value = values.pop()
        if values or value is None:
            raise NoMatch("its classes have different thresholds, or such as it computes")
        return value

    def _score_threshold(self, given: list[list[Tensor]]) -> float:
        """Return the threshold of the operation itself, or else of the choice of rows before it."""
        if all(len(inputs) > 4 for inputs in given):
            own = self._same(inputs[4] for inputs in given)
            if own > -np.inf:
                return own
        limits = []
        for inputs in given:
            tests = self._graph.ancestors([inputs[1]], self._loop.elements)
            found = [inputs_of(self._graph.nodes[n]) for n in tests if self._graph.nodes[n].op == "Greater"]
            limits += [limit for value, limit in found if self._is_score(value, inputs[1])]
        if len(limits) != len(given):
            raise NoMatch("it is not clear from which score on boxes count")
        return self._same(limits)

    def _is_score(self, tensor: Tensor, score: Tensor) -> bool:
        origin = self._graph.through(tensor, *_SHAPES)
        return origin in self._loop.elements and origin == self._origin(score)

    def _most_of_class(self, given: list[list[Tensor]]) -> int:
        limits = []
        for inputs in given:
            node = self._graph.nodes[self._graph.through(inputs[2])[0]]
            values = [
                self._graph.constant(t) for t in (inputs_of(node) if node.op == "Minimum" else [inputs[2]])
            ]
            limits += [int(value) for value in values if value is not None]
        if len(limits) != len(given) or len(set(limits)) != 1:
            raise NoMatch("it is not clear how many boxes of a class stay")
        return limits[0]


def sources(found: Match) -> Mapping[str, Tensor]:
    """Return the tensors outside of the loop that the operation takes, by what they are; in its order."""
    named = {
        "boxes": found.boxes,
        "scores": found.scores,
        "num_valid": found.num_valid,
        "window": found.window,
    }
    named |= {f"field{index}": field for index, field in enumerate(found.fields)}
    return {name: found.loop.elements[tensor] for name, tensor in named.items() if tensor is not None}
