"""Writes, into the folder given, SavedModels that parse examples as estimators' do: "classifier", "regressor", "heads".

All read the feature `x`, a float; the classifier gives ["low", "high"] the scores 1 - x and x, the regressor 2 x.
"heads" has both as signatures, and a usual one, which is the regressor's.
"""

import sys
from pathlib import Path

import tensorflow as tf

folder = Path(sys.argv[1])


def parsed(inputs):
    return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([1], tf.float32)})["x"]


class Model(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def classify(self, inputs):
        x = parsed(inputs)
        classes = tf.tile(tf.constant([["low", "high"]]), [tf.shape(x)[0], 1])
        return {"classes": classes, "scores": tf.concat([1 - x, x], 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def regress(self, inputs):
        return {"outputs": 2 * parsed(inputs)}


for name, method in (("classifier", "classify"), ("regressor", "regress")):
    model = Model()
    tf.saved_model.save(model, str(folder / name / "4"), signatures=getattr(model, method))
model = Model()
signatures = {"serving_default": model.regress, "classification": model.classify, "regression": model.regress}
tf.saved_model.save(model, str(folder / "heads" / "1"), signatures=signatures)
