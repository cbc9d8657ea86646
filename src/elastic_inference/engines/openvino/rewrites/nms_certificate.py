"""Whether what takes a loop's place computes the same, found out on samples before it does.

The model's own operations are evaluated one by one (`evaluation`), the new one is compiled by the engine alone; both
get the same made-up boxes. The samples are made to be decided at every place where the operations decide: scores at
and around the threshold, equal scores, equal and nested boxes, boxes beyond the window or without extent, no box at
all, more boxes than results have rows, and fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13

from elastic_inference.engines.openvino.rewrites import nms_operation
from elastic_inference.engines.openvino.rewrites.evaluation import Evaluation, NotEvaluated
from elastic_inference.engines.openvino.rewrites.graph import Array, Graph
from elastic_inference.engines.openvino.rewrites.maps import NoMatch
from elastic_inference.engines.openvino.rewrites.multiclass_nms import Match, Suppression

_ROUNDING = 4 * 2.0**-23
"""By how much coordinates may differ, of the greatest: the engine adds and multiplies in another order."""


_STEPS = np.float32(64)
_DENSE_CLASSES = 4
_SPARSE_BOXES = 4
_AXES = 5
"""Numbers up to it name axes and their parts."""


@dataclass(frozen=True)
class Certificate:
    """That both computed the same.

    Attributes:
        suppression: The description, complete.
        outputs: For each of the loop's results, which output of the new operation it is.
        num_samples: Images that were compared.
        worst: Greatest difference of a number, as a part of the greatest number.
    """

    suppression: Suppression
    outputs: tuple[int, ...]
    num_samples: int
    worst: float


Image = dict[str, Array]


def certify(core: ov.Core, graph: Graph, found: Match) -> Certificate:
    """Compare.

    Raises:
        NoMatch: They differ, or cannot be compared; the text says where.
    """
    inside = {
        "boxes": found.boxes, "scores": found.scores, "num_valid": found.num_valid, "window": found.window,
        **{f"field{index}": tensor for index, tensor in enumerate(found.fields)},
    }  # fmt: skip
    names = {name: tensor for name, tensor in inside.items() if tensor is not None}
    try:
        evaluation = Evaluation(graph, found.results, names.values())

        def evaluated(image: Image) -> list[Array]:
            return evaluation.run({names[name]: value for name, value in image.items()})

        first = evaluated(_image(np.random.default_rng(0), found, 1, 1, 1.0, 1.0))
        rows = {result.shape[0] for result in first if result.ndim}
        if len(rows) != 1:
            raise NoMatch("its results have different numbers of rows")
        suppression = replace(found.suppression, most=rows.pop())
        _check_constants(graph, found, suppression)
        compiled = _compiled(core, found, suppression, list(names))
        pairs: list[tuple[list[Array], list[Array]]] = []
        for images in _batches(found, suppression):
            answers = compiled([np.stack([image[name] for image in images]) for name in names])
            ours = [answers[index] for index in range(len(compiled.outputs))]
            pairs += [
                (evaluated(image), [o[position] for o in ours]) for position, image in enumerate(images)
            ]
    except NotEvaluated as error:
        raise NoMatch(str(error)) from error
    return _judged(suppression, pairs, len(found.results))


def _judged(
    suppression: Suppression, pairs: Sequence[tuple[list[Array], list[Array]]], num_results: int
) -> Certificate:
    outputs, worst = [], 0.0
    for index in range(num_results):
        candidates = [
            (max(_difference(theirs[index], ours[output]) for theirs, ours in pairs), output)
            for output in range(len(pairs[0][1]))
        ]
        difference, output = min(candidates)
        if difference > _ROUNDING:
            raise NoMatch(f"result {index} of its loop is not what one operation computes on samples")
        outputs.append(output)
        worst = max(worst, difference)
    return Certificate(suppression, tuple(outputs), len(pairs), worst)


def _difference(theirs: Array, ours: Array) -> float:
    """Return the greatest difference as a part of the greatest number; infinite where shapes differ."""
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return float("inf")
    if not theirs.size or np.array_equal(theirs, ours):
        return 0.0
    with np.errstate(all="ignore"):
        difference = float(np.max(np.abs(theirs.astype(np.float64) - ours)))
        result = difference / max(float(np.max(np.abs(theirs))), 1e-30)
    return result if np.isfinite(result) else float("inf")


def _compiled(core: ov.Core, found: Match, suppression: Suppression, order: Sequence[str]) -> Any:
    """Compile the new operation alone, for any number of images and boxes."""
    num_classes = suppression.num_classes
    sizes = {
        "boxes": (-1, num_classes if suppression.has_boxes_of_classes else 1, 4),
        "scores": (-1, num_classes), "num_valid": (), "window": (4,),
        **{f"field{index}": (-1, *size) for index, size in enumerate(found.field_sizes)},
    }  # fmt: skip
    given = {
        name: opset13.parameter([-1, *sizes[name]], np.int32 if name == "num_valid" else np.float32, name)
        for name in order
    }
    model = ov.Model(nms_operation.build(suppression, given), list(given.values()))
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})


def _check_constants(graph: Graph, found: Match, suppression: Suppression) -> None:
    """See that the loop holds no numbers but those of its description: others could decide where no sample is."""
    is_ = suppression
    floats = {0.0, 1.0, -1.0, is_.score_threshold, is_.overlap_threshold, -np.inf, *range(is_.num_classes)}
    integers = {is_.num_classes, is_.most_of_class, is_.most, *range(_AXES + 1), *range(is_.num_classes)}
    integers |= {size for sizes in found.field_sizes for size in sizes}
    for name in found.nodes:
        value = graph.constant((name, 0)) if graph.nodes[name].op == "Const" else None
        if value is None or value.dtype.kind == "b":
            continue
        allowed = floats if value.dtype.kind == "f" else integers
        unknown = {number for number in value.reshape(-1).tolist() if number not in allowed and number != -1}
        if unknown:
            raise NoMatch(
                f"it holds {unknown.pop()!r} ({name!r}), which has no meaning in what is known of it"
            )


def _batches(found: Match, suppression: Suppression) -> Iterator[list[Image]]:
    many = max(suppression.most_of_class, suppression.most) + 20  # more than there are places
    random = np.random.default_rng(0)
    for num_boxes, spread, scale in (
        (7, 0.2, 1),
        (many, 1.0, 1),
        (many, 0.02, 1),
        (9, 0.2, 1000),
        (1, 0.5, 1),
    ):
        for_valid = (max(1, num_boxes - 3), num_boxes)
        yield [_image(random, found, num_boxes, num_valid, spread, scale) for num_valid in for_valid]
    nothing = [_image(random, found, 5, 5, 0.3, 1) for _ in range(2)]
    nothing[0]["scores"] = np.full_like(nothing[0]["scores"], min(0.0, suppression.score_threshold))
    yield nothing


def _image(
    random: np.random.Generator, found: Match, num_boxes: int, num_valid: int, spread: float, scale: float
) -> Image:
    """Made-up boxes of one image.

    Args:
        spread: How far boxes lie apart, of the picture: few overlap where it is 1.
        scale: The picture's size: coordinates are parts of it, or pixels.
    """
    is_ = found.suppression
    num_kinds = is_.num_classes if is_.has_boxes_of_classes else 1
    boxes = _boxes(random, num_boxes, num_kinds, spread) * np.float32(scale)
    image = {"boxes": boxes, "scores": _scores(random, num_boxes, is_)}
    if found.num_valid is not None:
        image["num_valid"] = np.asarray(num_valid, np.int32)
    if found.window is not None:
        window = scale * np.array([*random.uniform(0.0, 0.1, 2), *random.uniform(0.9, 1.0, 2)])
        image["window"] = window.astype(np.float32)
    for index, size in enumerate(found.field_sizes):
        image[f"field{index}"] = random.random((num_boxes, *size), np.float32)
    return image


def _boxes(random: np.random.Generator, num_boxes: int, num_kinds: int, spread: float) -> Array:
    centers = 0.5 + spread * random.uniform(-0.7, 0.7, (num_boxes, num_kinds, 2))
    extents = random.uniform(0.0, 0.15, (num_boxes, num_kinds, 2)) + spread * 0.05
    boxes = np.concatenate([centers - extents, centers + extents], -1).astype(np.float32)
    rows = random.permutation(num_boxes)
    if num_boxes > 6:
        boxes[rows[0]] = boxes[rows[1]]  # equal
        boxes[rows[2], :, 2] = boxes[rows[2], :, 0]  # without extent
        boxes[rows[3]] = boxes[rows[4]] * 0.5 + boxes[rows[4]].mean() * 0.5  # nested
        boxes[rows[5]] += np.float32(2)  # beyond the window
    return boxes


def _scores(random: np.random.Generator, num_boxes: int, is_: Suppression) -> Array:
    """Scores of which many are equal and some are the threshold itself.

    In a few classes, others in each sample, half of the boxes count; in the others not more than a handful, since every
    box that counts costs time.
    """
    threshold = np.float32(is_.score_threshold)
    shape = (num_boxes, is_.num_classes)
    scores = random.random(shape, np.float32)
    coarse = random.random(shape) < 0.5
    scores[coarse] = np.round(scores[coarse] * _STEPS) / _STEPS
    exact = random.random(shape) < 0.1
    scores[exact] = random.choice([threshold, np.nextafter(threshold, np.float32(1))], int(exact.sum()))
    is_dense = np.isin(np.arange(is_.num_classes), random.permutation(is_.num_classes)[:_DENSE_CLASSES])
    counts = random.random(shape) < np.where(is_dense, 0.5, min(1.0, _SPARSE_BOXES / num_boxes))
    scores[~counts & ~exact] = threshold * np.float32(0.5)
    return scores
