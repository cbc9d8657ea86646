"""Write data/counter.tflite, which adds its inputs up: `python -m tests.engines.make_counter_tflite`."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf


class Counter(tf.Module):  # type: ignore[misc]
    """x float32[1] -> y, the sum of all x so far."""

    def __init__(self) -> None:
        super().__init__()
        self.total = tf.Variable(tf.zeros([1]))

    @tf.function(input_signature=[tf.TensorSpec([1], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.total.assign_add(x)
        return {"y": self.total + 0.0}


if __name__ == "__main__":
    counter = Counter()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [counter.__call__.get_concrete_function()], counter
    )
    converter.experimental_enable_resource_variables = True
    Path(__file__).with_name("data").joinpath("counter.tflite").write_bytes(converter.convert())
