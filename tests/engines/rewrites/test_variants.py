"""Loops as releases of TensorFlow's Object Detection API write them: one operation, or left as they are and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from elastic_inference.models.artifacts.store import ArtifactStore
from tests.engines.conftest import Load
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


def test_loop_of_a_saved_model_is_rewritten_and_said_in_the_report(load: Load, tmp_path: Path) -> None:
    import tensorflow.compat.v1 as tf

    graph_def = loops.recorded("2022_frame")
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        tf.import_graph_def(tf.GraphDef.FromString(graph_def.SerializeToString()), name="")
        names = [node.name for node in graph_def.node if node.op == "Placeholder"]
        inputs = {name: graph.get_tensor_by_name(f"{name}:0") for name in names}
        outputs = {
            name.partition(":")[0]: graph.get_tensor_by_name(name) for name in loops.fetches(graph_def)
        }
        tf.saved_model.simple_save(session, str(tmp_path / "model"), inputs, outputs)
    store = ArtifactStore.at(tmp_path / "store")
    model = load(tmp_path / "model", engine="openvino", store=store)
    again = load(tmp_path / "model", engine="openvino", store=store)
    assert ["runs as one operation" in note for note in model.report.notes] == [True]
    assert "store" in again.report.source
    assert again.report.notes == model.report.notes  # from the compiled one that was kept
    feeds = loops.detections(graph_def, 2, 30, 5)
    expected = loops.on_tensorflow(graph_def)(feeds)
    for found in (model.predict(feeds), again.predict(feeds)):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name.partition(":")[0]], value, rtol=1e-6, atol=1e-7)
