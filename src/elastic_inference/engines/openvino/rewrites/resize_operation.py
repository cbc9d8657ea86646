"""TensorFlow's ResizeBilinear, made of OpenVINO's operations while it reads the graph.

OpenVINO's own Interpolate turns the whole picture to float32 and its axes around first, which takes longer than the
resize, and rounds positions otherwise than TensorFlow. Here the four pixels of each result are chosen first, in the
picture's own dtype, and the arithmetic on them is TensorFlow's, operation by operation. What is left is the rounding of
the one division by which sizes become a scale.

Where the engine computes in bfloat16, all that is float32 here is rounded to it, and it has no number for most rows
beyond 256. There, positions are quotients of integers, which the engine leaves alone; only how far a result lies
between its pixels is rounded, as the pixels are.
"""

from __future__ import annotations

from typing import Any

from openvino import opset13 as ops

from elastic_inference.engines.openvino.rewrites.builders import element, integer, integers, number

OPERATION = "ElasticResizeBilinear"
"""Its name in a graph; TensorFlow has none of it."""
IN_INTEGERS = "positions_in_integers"
"""Its attribute beside TensorFlow's `half_pixel_centers`."""


def build(images: Any, size: Any, *, half_pixel_centers: bool, in_integers: bool = False) -> Any:
    """Return float32[B, size[0], size[1], C] for images [B, H, W, C] of any dtype and a size int32[2].

    Args:
        half_pixel_centers: As TensorFlow's attribute.
        in_integers: Whether positions are computed in int32; exact for sizes up to 2,048.
    """
    shape = ops.shape_of(images, "i32")
    batch, channels = _range_of(shape, 0, 1), _range_of(shape, 3, 4)
    ends: list[tuple[Any, Any, Any]] = []
    positions = _integer_positions if in_integers else _positions
    for axis in (0, 1):
        length, wanted = element(shape, axis + 1), element(size, axis)
        ends.append(positions(length, wanted, half_pixel_centers))
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


def _integer_positions(length: Any, wanted: Any, half_pixel_centers: bool) -> tuple[Any, Any, Any]:
    """Return the same, exact but for the last.

    What a side holds whole is taken out first. What is left to divide is below four times the square of a size, where
    the engine's quotients, computed in float32, are exact and known to be (see `arithmetic`), however large the side.
    """
    places, parts = ops.range(integer(0), wanted, integer(1), "i32"), wanted
    if half_pixel_centers:  # (place + 1/2) length / wanted - 1/2
        places = ops.add(ops.multiply(places, integer(2)), integer(1))
        parts = ops.multiply(wanted, integer(2))
    whole, left = ops.divide(length, parts), ops.floor_mod(length, parts)
    first, ahead = ops.multiply(places, whole), ops.multiply(places, left)
    if half_pixel_centers:  # less a half is one less, and a half more
        first, ahead = ops.subtract(first, integer(1)), ops.add(ahead, wanted)
    quotient = ops.divide(ahead, parts)
    rest = ops.subtract(ahead, ops.multiply(quotient, parts))
    first = ops.add(first, quotient)
    if half_pixel_centers:  # what lies before the first pixel is that pixel
        rest = ops.multiply(rest, ops.minimum(ops.add(first, integer(1)), integer(1)))
        first = ops.maximum(first, integer(0))
    following = ops.add(first, ops.minimum(rest, integer(1)))
    second = ops.minimum(following, ops.subtract(length, integer(1)))
    return first, second, ops.divide(ops.convert(rest, "f32"), ops.convert(parts, "f32"))


def _between(first: Any, second: Any, part: Any) -> Any:
    return ops.add(first, ops.multiply(ops.subtract(second, first), part))


def _range_of(vector: Any, start: int, stop: int) -> Any:
    return ops.slice(vector, integers(start), integers(stop), integers(1), integers(0))
