"""TensorFlow Serving's own stubs against `ei serve`: every method of both services. Prints nothing where all is right.

Arguments: address. Served are `linear` (see tests/integration/small_models.py) in the versions 1 and 2, whose answers
are expected in the file given, and the models of `write_example_models.py`.
"""

import json
import sys
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

address, expected_path, folder = sys.argv[1:]
expected = json.loads(Path(expected_path).read_text())
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)
SECONDS = 60
X = np.array([[1, 2, 3, 4]], np.float32)


def predict(tensor, version=None, name="linear", alias="x", wanted=(), signature="", label=""):
    request = predict_pb2.PredictRequest(output_filter=wanted)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    request.inputs[alias].CopyFrom(tensor)
    return prediction.Predict(request, timeout=SECONDS)


def refused(call, code, text):
    try:
        call()
    except grpc.RpcError as error:
        assert (error.code(), text in error.details()) == (code, True), error
        return
    raise AssertionError(f"not refused: {text}")


for version in (None, 1, 2):
    for tensor in (
        tf.make_tensor_proto(X),  # as tensor_content
        tf.compat.v1.make_tensor_proto(X.tolist(), tf.float32),  # as float_val
    ):
        answer = predict(tensor, version)
        np.testing.assert_allclose(
            tf.make_ndarray(answer.outputs["outputs"]), expected[str(version or 2)], rtol=1e-5
        )
        assert answer.model_spec.version.value == (version or 2), answer
        assert (answer.model_spec.name, answer.model_spec.signature_name) == ("linear", "serving_default")
ones = tf.make_ndarray(predict(tf.make_tensor_proto(1.0, tf.float32, [3, 4])).outputs["outputs"])
assert ones.shape == (3, 3), ones
assert (ones[0] == ones[2]).all(), ones
assert list(predict(tf.make_tensor_proto(X), wanted=["outputs"]).outputs) == ["outputs"]
assert predict(tf.make_tensor_proto(X), signature="serving_default")

invalid, absent = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
refused(lambda: predict(tf.make_tensor_proto(X), name="nothing"), absent, "nothing")
refused(lambda: predict(tf.make_tensor_proto(X), 7), absent, "version")
refused(lambda: predict(tf.make_tensor_proto(X), alias="y"), invalid, "alias not found in signature")
refused(
    lambda: predict(tf.make_tensor_proto(X.astype(np.int32))), invalid, "is int32, the model's is float32"
)
refused(lambda: predict(tf.make_tensor_proto(X[:, :2])), invalid, "has shape [1, 2]")
refused(lambda: predict(tf.make_tensor_proto(X), wanted=["z"]), invalid, "unexpected output 'z'")
refused(lambda: predict(tf.make_tensor_proto(X), signature="other"), invalid, 'key "other" not found')
refused(
    lambda: predict(tf.make_tensor_proto(X), label="old"), invalid, "Unrecognized servable version label: old"
)

for version, label in ((1, "stable"), (2, "canary")):
    answer = predict(tf.make_tensor_proto(X), label=label, signature="shifted")
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (version, "shifted"), answer
    np.testing.assert_allclose(
        tf.make_ndarray(answer.outputs["outputs"]), expected[f"{version} shifted"], rtol=1e-5
    )
assert sorted(predict(tf.make_tensor_proto(X), signature="both").outputs) == ["plain", "shifted"]


def example(x):
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[x]))
    return tf.train.Example(features=tf.train.Features(feature={"x": feature}))


examples = [example(0.25), example(0.75)]
for with_context in (False, True):
    classification, regression = (
        classification_pb2.ClassificationRequest(),
        regression_pb2.RegressionRequest(),
    )
    for request, name in ((classification, "classifier"), (regression, "regressor")):
        request.model_spec.name = name
        if with_context:
            request.input.example_list_with_context.context.CopyFrom(examples[1])
            request.input.example_list_with_context.examples.extend([examples[0], tf.train.Example()])
        else:
            request.input.example_list.examples.extend(examples)
    found = prediction.Classify(classification, timeout=SECONDS)
    assert [[(c.label, round(c.score, 5)) for c in row.classes] for row in found.result.classifications] == [
        [("low", 0.75), ("high", 0.25)],
        [("low", 0.25), ("high", 0.75)],
    ], found
    assert found.model_spec.version.value == 4
    found = prediction.Regress(regression, timeout=SECONDS)
    assert [round(row.value, 5) for row in found.result.regressions] == [0.5, 1.5], found
wrong = classification_pb2.ClassificationRequest()
wrong.model_spec.name = "classifier"
refused(lambda: prediction.Classify(wrong, timeout=SECONDS), invalid, "Input is empty.")

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def infer(*tasks, given=examples):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    request.input.example_list.examples.extend(given)
    return prediction.MultiInference(request, timeout=SECONDS).results


both = ("heads", "classification", CLASSIFY), ("heads", "regression", REGRESS)
for tasks in (both, both[::-1]):
    for result, (_, signature, method) in zip(infer(*tasks), tasks, strict=True):
        spec = result.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("heads", 1, signature), result
        if method == CLASSIFY:
            scores = [
                [round(c.score, 5) for c in row.classes]
                for row in result.classification_result.classifications
            ]
            assert scores == [[0.75, 0.25], [0.25, 0.75]], result
        else:
            assert [round(row.value, 5) for row in result.regression_result.regressions] == [0.5, 1.5], result
(only,) = infer(("heads", "", REGRESS))
assert only.model_spec.signature_name == "serving_default", only
refused(infer, invalid, "any tasks")
refused(lambda: infer(both[0], ("classifier", "", CLASSIFY)), invalid, "must access the same model name")
refused(lambda: infer(both[0], both[0]), invalid, "Duplicate evaluation of signature: classification")
refused(
    lambda: infer(("heads", "regression", "tensorflow/serving/predict")), invalid, "Unsupported signature"
)
refused(lambda: infer(("heads", "regression", CLASSIFY)), invalid, "a classification has outputs")
refused(lambda: infer(("heads", "other", CLASSIFY)), invalid, 'key "other" not found')
refused(lambda: infer(*both, given=[]), invalid, "Input is empty.")
regression = regression_pb2.RegressionRequest()
regression.input.example_list.examples.extend(examples)
regression.model_spec.name, regression.model_spec.signature_name = "heads", "regression"
found = prediction.Regress(regression, timeout=SECONDS)
assert [round(row.value, 5) for row in found.result.regressions] == [0.5, 1.5], found
regression.model_spec.signature_name = "classification"
refused(lambda: prediction.Regress(regression, timeout=SECONDS), invalid, "a regression has one output")

request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
request.model_spec.name = "linear"
metadata = prediction.GetModelMetadata(request, timeout=SECONDS)
signatures = get_model_metadata_pb2.SignatureDefMap()
assert metadata.metadata["signature_def"].Unpack(signatures)
signature = signatures.signature_def["serving_default"]
assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 4], signature
assert signature.outputs["outputs"].dtype == tf.float32.as_datatype_enum, signature
assert sorted(signatures.signature_def) == ["both", "serving_default", "shifted"], signatures
request.model_spec.version_label = "stable"
assert prediction.GetModelMetadata(request, timeout=SECONDS).model_spec.version.value == 1
assert metadata.model_spec.version.value == 2
request.metadata_field[:] = ["other"]
refused(lambda: prediction.GetModelMetadata(request, timeout=SECONDS), invalid, "other is not supported")


def states(name, version=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    answer = models.GetModelStatus(request, timeout=SECONDS)
    return {each.version: (each.state, each.status.error_code) for each in answer.model_version_status}


AVAILABLE, END = (get_model_status_pb2.ModelVersionStatus.State.Value(name) for name in ("AVAILABLE", "END"))
assert states("linear") == {1: (AVAILABLE, 0), 2: (AVAILABLE, 0)}
assert states("linear", 1) == {1: (AVAILABLE, 0)}
assert states("broken")[1] == (END, 2)
refused(lambda: states("nothing"), absent, "Could not find any versions of model")


def reload(*configs):
    request = model_management_pb2.ReloadConfigRequest()
    for name, path, change in configs:
        config = request.config.model_config_list.config.add(
            name=name, base_path=path, model_platform="tensorflow"
        )
        change(config)
    return models.HandleReloadConfigRequest(request, timeout=SECONDS)


def only_first(config):
    config.model_version_policy.specific.versions.append(1)


def nothing(_):
    pass


def with_labels(config):
    config.model_version_policy.specific.versions.extend([1, 2])
    config.version_labels["newest"] = 2


def with_a_label_of_nothing(config):
    config.version_labels["newest"] = 7


answer = reload(("linear", f"{folder}/linear", only_first))
assert answer.status.error_code == 0, answer
assert states("linear") == {1: (AVAILABLE, 0)}
np.testing.assert_allclose(
    tf.make_ndarray(predict(tf.make_tensor_proto(X)).outputs["outputs"]), expected["1"], rtol=1e-5
)
refused(lambda: predict(tf.make_tensor_proto(X), name="classifier"), absent, "was unloaded")
reload(("linear", "", nothing), ("regressor", "", nothing))
assert states("linear") == {1: (AVAILABLE, 0), 2: (AVAILABLE, 0)}
assert states("regressor") == {4: (AVAILABLE, 0)}
refused(lambda: reload(("linear", "/etc", nothing)), invalid, "base_path '/etc'")
refused(lambda: reload(("nothing", "", nothing)), absent, "none called 'nothing'")
reload(("linear", "", with_labels))
assert predict(tf.make_tensor_proto(X), label="newest").model_spec.version.value == 2
refused(lambda: predict(tf.make_tensor_proto(X), label="stable"), invalid, "version label: stable")
refused(lambda: reload(("linear", "", with_a_label_of_nothing)), invalid, "'newest' of version 7")
assert predict(tf.make_tensor_proto(X), label="newest").model_spec.version.value == 2
assert states("linear") == {1: (AVAILABLE, 0), 2: (AVAILABLE, 0)}
