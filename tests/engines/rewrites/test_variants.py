"""Loops as releases of TensorFlow's Object Detection API write them: one operation, or left as they are and said so."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engines.rewrites import loops

pytest.importorskip("openvino")
pytest.importorskip("tensorflow")

LEFT = {
    "soft": "its suppression is soft",
    "agnostic": "its classes do not take their boxes or scores from one tensor",
}
NOT_FOUND = ("static",)  # other loops, without an operation that suppresses boxes, or one that pads


def _variants(*kinds: str, without: bool = False) -> list[str]:
    return [name for name in loops.names() if (name[5:] in kinds) is not without]


@pytest.mark.parametrize("name", _variants(*LEFT, *NOT_FOUND, without=True))
def test_one_operation_finds_what_tensorflow_finds(name: str) -> None:
    graph_def = loops.recorded(name)
    changed, notes = loops.rewritten(graph_def)
    assert [note for note in notes if "runs as one operation" in note] == list(notes) != []
    assert not {node.op for node in changed.node} & {"Enter", "NonMaxSuppressionV3", "TensorArrayV3"}
    ours, theirs = loops.on_openvino(changed), loops.on_tensorflow(graph_def)
    for num_images, num_boxes, kind in (
        (1, 40, ""), (2, 40, ""), (3, 7, ""), (1, 1, ""), (2, 60, "ties"), (1, 60, "crowd"), (2, 9, "nothing"),
    ):  # fmt: skip
        feeds = loops.detections(graph_def, num_images, num_boxes, 1, kind=kind)
        found, expected = ours(feeds), theirs(feeds)
        for output, value in expected.items():
            assert found[output].dtype == value.dtype, output
            np.testing.assert_allclose(found[output], value, rtol=1e-6, atol=1e-7, err_msg=f"{output} {kind}")


@pytest.mark.parametrize("name", _variants(*LEFT))
def test_loop_that_is_not_known_is_left_and_says_why(name: str) -> None:
    graph_def = loops.recorded(name)
    changed, notes = loops.rewritten(graph_def)
    assert changed == graph_def
    assert [LEFT[name[5:]] in note for note in notes] == [True]


@pytest.mark.parametrize("name", _variants(*NOT_FOUND))
def test_padded_loop_is_left(name: str) -> None:
    graph_def = loops.recorded(name)
    assert loops.rewritten(graph_def) == (graph_def, ())
