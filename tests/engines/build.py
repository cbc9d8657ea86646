"""Make the small models that the tests of engines load: trained, with variables and functions, in every format."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference.engines.tensorflow_library import import_tensorflow

IMAGE_SHAPE = (8, 8, 3)
NUM_CLASSES = 4


def write_all(folder: Path) -> None:
    """Write `tf1`, `tf2`, `frozen.pb`, `model.keras`, `model.h5`, `model.onnx` and `model.tflite`."""
    classifier = trained_classifier()
    classifier.save(folder / "model.keras")
    classifier.save(folder / "model.h5")
    write_frozen(classifier, folder / "frozen.pb")
    write_tflite(classifier, folder / "model.tflite")
    write_onnx(classifier, folder / "model.onnx")
    write_tf1_saved_model(folder / "tf1")
    write_tf2_saved_model(folder / "tf2")


def images(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """float32[count, 8, 8, 3], 0..1."""
    return np.random.default_rng(seed).random((count, *IMAGE_SHAPE), dtype=np.float32)


def trained_classifier() -> Any:
    """A Keras classifier (`pixels` float32[N, 8, 8, 3] -> `classes` [N, 4]), trained to tell the brightest corner."""
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    pixels = tf.keras.Input(IMAGE_SHAPE, name="pixels")
    x = layers.Conv2D(8, 3, activation="relu", padding="same")(pixels)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D(4)(x)
    x = layers.Flatten()(x)
    classes = layers.Dense(NUM_CLASSES, activation="softmax", name="classes")(x)
    model = tf.keras.Model(pixels, classes)
    model.compile("adam", "sparse_categorical_crossentropy")
    train = images(256, seed=1)
    corners = np.stack([train[:, i : i + 4, j : j + 4].mean((1, 2, 3)) for i in (0, 4) for j in (0, 4)], 1)
    model.fit(train, corners.argmax(1), epochs=2, verbose=0)
    return model


def write_frozen(model: Any, path: Path) -> None:
    """Freeze a Keras model into one GraphDef with input `x:0` and output `probabilities:0`."""
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def forward(x: Any) -> Any:
        return tf.identity(model(x), name="probabilities")

    concrete = tf.function(forward).get_concrete_function(
        tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32, name="x")
    )
    path.write_bytes(convert_variables_to_constants_v2(concrete).graph.as_graph_def().SerializeToString())


def write_tflite(model: Any, path: Path) -> None:
    """Convert a Keras model; float32 throughout."""
    tf = import_tensorflow()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        path.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def write_onnx(model: Any, path: Path) -> None:
    """The same classifier, layer by layer, as an ONNX graph `image` -> `scores` and `best`."""
    import onnx
    from onnx import helper, numpy_helper

    conv, norm, dense = (
        next(x for x in model.layers if kind in x.name) for kind in ("conv", "batch", "classes")
    )
    kernel, bias = conv.get_weights()
    scale, offset, mean, variance = norm.get_weights()
    matrix, vector = dense.get_weights()
    weights = {
        "kernel": kernel.transpose(3, 2, 0, 1), "bias": bias, "scale": scale, "offset": offset, "mean": mean,
        "variance": variance, "matrix": matrix, "vector": vector, "flat": np.array([0, -1]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "kernel", "bias"], ["conv"], pads=[1, 1, 1, 1]),
        node("Relu", ["conv"], ["relu"]),
        node(
            "BatchNormalization",
            ["relu", "scale", "offset", "mean", "variance"],
            ["norm"],
            epsilon=norm.epsilon,
        ),
        node("MaxPool", ["norm"], ["pool"], kernel_shape=[4, 4], strides=[4, 4]),
        node("Transpose", ["pool"], ["pixels"], perm=[0, 2, 3, 1]),
        node("Reshape", ["pixels", "flat"], ["row"]),
        node("Gemm", ["row", "matrix", "vector"], ["logits"]),
        node("Softmax", ["logits"], ["scores"], axis=1),
        node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    value, float32, int64 = helper.make_tensor_value_info, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        "classifier",
        [value("image", float32, ["n", *IMAGE_SHAPE])],
        [value("scores", float32, ["n", NUM_CLASSES]), value("best", int64, ["n"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def write_tf1_saved_model(path: Path) -> None:
    """Two tag sets, two signatures each: y = scale * x * w + b with another scale in each, and r = relu(y)."""
    tf = import_tensorflow().compat.v1
    builder = tf.saved_model.Builder(str(path))
    for tags, scale in ((["serve"], 1.0), (["serve", "large"], 10.0)):
        with tf.Graph().as_default(), tf.Session() as session:
            x = tf.placeholder(tf.float32, [None, 2], name="x")
            w = tf.get_variable("w", initializer=[[3.0, 1.0], [0.0, 2.0]], use_resource=True)
            b = tf.get_variable("b", initializer=[1.0, -1.0], use_resource=False)
            y = tf.add(scale * tf.matmul(x, w), b, name="y")
            session.run(tf.global_variables_initializer())
            predict = tf.saved_model.signature_def_utils.predict_signature_def
            signatures = {
                "serving_default": predict({"x": x}, {"y": y}),
                "relu": predict({"x": x}, {"r": tf.nn.relu(y)}),
            }
            if len(tags) == 1:
                builder.add_meta_graph_and_variables(session, tags, signature_def_map=signatures)
            else:
                builder.add_meta_graph(tags, signature_def_map=signatures)
    builder.save()


def write_tf2_saved_model(path: Path) -> None:
    """Variables, a function that another calls, a loop and a branch; signatures `serving_default` and `loop`."""
    tf = import_tensorflow()

    class Model(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.w = tf.Variable([[1.0, 2.0], [3.0, 4.0]], name="weights")
            self.b = tf.Variable([0.5, -0.5], name="offset")

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
        def affine(self, x: Any) -> Any:
            return tf.matmul(x, self.w) + self.b

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def serve(self, x: Any) -> Any:
            y = self.affine(x)
            return {"y": y, "sign": tf.cond(tf.reduce_sum(y) > 0, lambda: y * 2.0, lambda: -y)}

        @tf.function(
            input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x"), tf.TensorSpec([], tf.int32)]
        )
        def loop(self, x: Any, count: Any) -> Any:
            return {
                "z": tf.while_loop(
                    lambda i, _: i < count, lambda i, v: (i + 1, self.affine(v) / 4.0), (0, x)
                )[1]
            }

    model = Model()
    tf.saved_model.save(model, str(path), signatures={"serving_default": model.serve, "loop": model.loop})
