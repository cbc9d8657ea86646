"""TensorFlow's ResizeBilinear, made of OpenVINO's operations while it reads the graph.

OpenVINO's own Interpolate turns the whole picture to float32 and its axes around first, which takes longer than the
resize, and rounds positions otherwise than TensorFlow. Here the four pixels of each result are chosen first, in the
picture's own dtype, and the arithmetic on them is TensorFlow's, operation by operation. What is left is the rounding of
the one division by which sizes become a scale.
"""

from __future__ import annotations

from typing import Any

from openvino import opset13 as ops

from elastic_inference.engines.openvino.rewrites.builders import element, integer, integers, number

OPERATION = "ElasticResizeBilinear"
"""Its name in a graph; TensorFlow has none of it."""


def build(images: Any, size: Any, *, half_pixel_centers: bool) -> Any:
    """Return float32[B, size[0], size[1], C] for images [B, H, W, C] of any dtype and a size int32[2]."""
    shape = ops.shape_of(images, "i32")
    batch, channels = _range_of(shape, 0, 1), _range_of(shape, 3, 4)
    ends: list[tuple[Any, Any, Any]] = []
    for axis in (0, 1):
        length, wanted = element(shape, axis + 1), element(size, axis)
        ends.append(_positions(length, wanted, half_pixel_centers))
    (top, bottom, down), (left, right, across) = ends
    # Columns and channels are one axis in what follows: arithmetic along three channels alone is slow.
    rows = ops.concat([batch, _range_of(size, 0, 1), integers(-1)], 0)
    per_channel = ops.broadcast(
        ops.unsqueeze(across, integers(1)), ops.concat([_range_of(size, 1, 2), channels], 0)
    )
    across = ops.reshape(per_channel, integers(1, 1, -1), False)
    down = ops.reshape(down, integers(1, -1, 1), False)

    def pixels(lines: Any, columns: Any) -> Any:
        return ops.convert(ops.reshape(ops.gather(lines, columns, integer(2)), rows, False), "f32")

    lines = []
    for line in (top, bottom):
        whole = ops.gather(images, line, integer(1))
        lines.append(_between(pixels(whole, left), pixels(whole, right), across))
    return ops.reshape(_between(lines[0], lines[1], down), ops.concat([batch, size, channels], 0), False)


def _positions(length: Any, wanted: Any, half_pixel_centers: bool) -> tuple[Any, Any, Any]:
    """Return for each row or column of the result the two of the picture that it lies between, and where."""
    scale = ops.divide(ops.convert(length, "f32"), ops.convert(wanted, "f32"))
    places = ops.convert(ops.range(integer(0), wanted, integer(1), "i32"), "f32")
    if half_pixel_centers:
        places = ops.subtract(ops.multiply(ops.add(places, number(0.5)), scale), number(0.5))
    else:
        places = ops.multiply(places, scale)
    below = ops.floor(places)
    first = ops.maximum(ops.convert(below, "i32"), integer(0))
    second = ops.minimum(ops.convert(ops.ceiling(places), "i32"), ops.subtract(length, integer(1)))
    return first, second, ops.subtract(places, below)


def _between(first: Any, second: Any, part: Any) -> Any:
    return ops.add(first, ops.multiply(ops.subtract(second, first), part))


def _range_of(vector: Any, start: int, stop: int) -> Any:
    return ops.slice(vector, integers(start), integers(stop), integers(1), integers(0))
