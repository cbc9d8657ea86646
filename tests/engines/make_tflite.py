"""Write the TFLite files of data/: `python -m tests.engines.make_tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

DATA = Path(__file__).with_name("data")


class Counter(tf.Module):  # type: ignore[misc]
    """x float32[1] -> y, the sum of all x so far."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(tf.zeros([1]))

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.total.assign_add(x)
        return {"y": self.total + 0.0}


class OpenSizes(tf.Module):  # type: ignore[misc]
    """x float32[?, ?, 1] -> y, sums of 5 neighbours; no length below 5 will do."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, 1], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.nn.conv1d(x, tf.ones([5, 1, 1]), 1, "VALID")}


class Hybrid(tf.Module):  # type: ignore[misc]
    """x float32[1, 64] -> y float32[1, 32], a product with weights that become int8."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.constant(tf.random.stateless_normal([64, 32], [1, 2]).numpy())

    @tf.function(input_signature=[tf.TensorSpec([1, 64], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, self.weights)}


def _write(model: tf.Module, name: str, optimizations: Sequence[tf.lite.Optimize] = ()) -> None:
    function = model.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = list(optimizations)
    converter.experimental_enable_resource_variables = True
    (DATA / name).write_bytes(converter.convert())


if __name__ == "__main__":
    _write(Counter(), "counter.tflite")
    _write(OpenSizes(), "open_sizes.tflite")
    _write(Hybrid(), "hybrid.tflite", [tf.lite.Optimize.DEFAULT])
