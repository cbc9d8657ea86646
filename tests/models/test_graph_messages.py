"""Our messages beside TensorFlow's: the same bytes, in the same process."""

from __future__ import annotations

import pytest

from elastic_inference.models.graph_pb2 import GraphDef, SavedModel
from tests.oracle import MODELS


def test_what_we_do_not_name_survives_a_rewrite() -> None:
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        tf.constant([[1.5, 2.5]], name="values") + tf.compat.v1.placeholder("float32", name="x")
    theirs = graph.as_graph_def(add_shapes=True)
    rewritten = tf.compat.v1.GraphDef.FromString(
        GraphDef.FromString(theirs.SerializeToString()).SerializeToString()
    )
    assert rewritten == theirs


@pytest.mark.parametrize("name", ["arithmetic", "image", "dtypes", "scalar"])
def test_saved_model_survives_a_rewrite(name: str) -> None:
    pytest.importorskip("tensorflow")
    from tensorflow.core.protobuf import saved_model_pb2

    path = MODELS / name / "saved_model.pb"
    ours = SavedModel.FromString(path.read_bytes())
    assert saved_model_pb2.SavedModel.FromString(
        ours.SerializeToString()
    ) == saved_model_pb2.SavedModel.FromString(path.read_bytes())
