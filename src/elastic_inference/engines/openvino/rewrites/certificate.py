"""Whether what takes a loop's place computes the same, found out on samples before it does.

The model's own operations are evaluated one by one (`evaluation`), the new one is compiled by the engine alone; both
get the same made-up boxes. The samples are made to be decided at every place where the operations decide: scores at
and around the threshold, equal scores, equal and nested boxes, boxes beyond the window or without extent, no box at
all, more boxes than results have rows, and fewer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov

from elastic_inference.engines.openvino.rewrites import nms_operation
from elastic_inference.engines.openvino.rewrites.evaluation import Evaluation, NotEvaluated
from elastic_inference.engines.openvino.rewrites.graph import Array, Graph
from elastic_inference.engines.openvino.rewrites.multiclass_nms import Match, NoMatch, Suppression

_ROUNDING = 4 * 2.0**-23
"""By how much coordinates may differ, of the greatest: the engine adds and multiplies in another order."""
_NUM_IMAGES = 2
"""In one run of the new operation, so that images that get mixed up are seen."""


@dataclass(frozen=True)
class Certificate:
    """That both computed the same.

    Attributes:
        outputs: For each of the loop's results, which output of the new operation it is.
        num_samples: Images that were compared.
        worst: Greatest difference of a number, as a part of the greatest number.
    """

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
        compiled = _compiled(core, found)
        pairs: list[tuple[list[Array], list[Array]]] = []
        for images in _batches(found):
            answers = compiled([np.stack([image[name] for image in images]) for name in names])
            ours = [answers[index] for index in range(len(compiled.outputs))]
            for position, image in enumerate(images):
                theirs = evaluation.run({names[name]: value for name, value in image.items()})
                pairs.append((theirs, [output[position] for output in ours]))
    except NotEvaluated as error:
        raise NoMatch(str(error)) from error
    return _judged(pairs, len(found.results))


def _judged(pairs: Sequence[tuple[list[Array], list[Array]]], num_results: int) -> Certificate:
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
    return Certificate(tuple(outputs), len(pairs), worst)


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


def _compiled(core: ov.Core, found: Match) -> Any:
    """Compile the new operation alone, for any number of images and boxes."""
    is_ = found.suppression
    sizes = {"boxes": (is_.num_classes if is_.has_boxes_of_classes else 1, 4), "scores": (is_.num_classes,)}
    sizes |= {f"field{index}": size for index, size in enumerate(found.field_sizes)}
    given = {name: ov.opset13.parameter([-1, -1, *size], np.float32, name) for name, size in sizes.items()}
    if found.num_valid is not None:
        given["num_valid"] = ov.opset13.parameter([-1], np.int32, "num_valid")
    if found.window is not None:
        given["window"] = ov.opset13.parameter([-1, 4], np.float32, "window")
    order = [n for n in ("boxes", "scores", "num_valid", "window", *given) if n in given]
    order = list(dict.fromkeys(order))
    model = ov.Model(nms_operation.build(is_, given), [given[name] for name in order])
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})


def _batches(found: Match) -> Iterator[list[Image]]:
    is_ = found.suppression
    many = (
        max(is_.most_of_class, -(-is_.most // is_.num_classes)) + 20
    )  # more than a class and the results hold
    random = np.random.default_rng(0)
    for num_boxes, spread in ((7, 0.2), (many, 1.0), (many, 0.02), (1, 0.5)):
        yield [_image(random, found, num_boxes, spread) for _ in range(_NUM_IMAGES)]
    nothing = [_image(random, found, 5, 0.3) for _ in range(_NUM_IMAGES)]
    nothing[0]["scores"] = np.full_like(nothing[0]["scores"], min(0.0, is_.score_threshold))
    yield nothing


def _image(random: np.random.Generator, found: Match, num_boxes: int, spread: float) -> Image:
    """Made-up boxes of one image.

    Args:
        spread: How far boxes lie apart, of the picture: few overlap where it is 1.
    """
    is_ = found.suppression
    num_kinds = is_.num_classes if is_.has_boxes_of_classes else 1
    image = {"boxes": _boxes(random, num_boxes, num_kinds, spread), "scores": _scores(random, num_boxes, is_)}
    if found.num_valid is not None:
        image["num_valid"] = np.asarray(random.integers(max(1, num_boxes - 3), num_boxes + 1), np.int32)
    if found.window is not None:
        image["window"] = np.array([*random.uniform(0.0, 0.1, 2), *random.uniform(0.9, 1.0, 2)], np.float32)
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
    """Scores of which about half count, many are equal and some are the threshold itself."""
    threshold = np.float32(is_.score_threshold)
    scores = random.random((num_boxes, is_.num_classes), np.float32)
    steps = np.float32(64)
    coarse = random.random(scores.shape) < 0.5
    scores[coarse] = np.round(scores[coarse] * steps) / steps
    exact = random.random(scores.shape) < 0.05
    scores[exact] = random.choice([threshold, np.nextafter(threshold, np.float32(1))], int(exact.sum()))
    scores[random.random(scores.shape) < 0.2] = threshold * np.float32(0.5)
    return scores
