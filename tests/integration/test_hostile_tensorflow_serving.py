"""TensorFlow Serving's gRPC from clients that lie, leave or send rubbish: gRPC's own error each time."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from elastic_inference.accelerator.doors.grpc import frames
from elastic_inference.accelerator.doors.grpc.frames import Code
from elastic_inference.accelerator.doors.tensorflow_serving import messages
from elastic_inference.accelerator.doors.tensorflow_serving.wire_format import field, varint
from elastic_inference.protocol.status import GrpcCode
from tests.integration.hostile_support import Target, start_target
from tests.integration.raw_grpc import RawGrpc, assert_works, prefixed

NUM_MESSAGES = 10_000
SEED = 20261128
SERVING = "tensorflow.serving"
PREDICT = f"/{SERVING}.PredictionService/Predict"
PATHS = {
    PREDICT: "PredictRequest",
    f"/{SERVING}.PredictionService/Classify": "ClassificationRequest",
    f"/{SERVING}.PredictionService/Regress": "RegressionRequest",
    f"/{SERVING}.PredictionService/GetModelMetadata": "GetModelMetadataRequest",
    f"/{SERVING}.ModelService/GetModelStatus": "GetModelStatusRequest",
    f"/{SERVING}.ModelService/HandleReloadConfigRequest": "ReloadConfigRequest",
}
EXPECTED = {
    GrpcCode.OK, GrpcCode.INVALID_ARGUMENT, GrpcCode.NOT_FOUND, GrpcCode.RESOURCE_EXHAUSTED, GrpcCode.UNIMPLEMENTED,
}  # fmt: skip


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def right(target: Target, **changes: Any) -> Any:
    """A request that the target's model, which doubles its int32 input `x`, answers."""
    request = messages.message_class(f"{SERVING}.PredictRequest")()
    request.model_spec.name = target.model
    tensor = request.inputs["x"]
    tensor.dtype, tensor.tensor_content = 3, np.array([1, 2, 3], np.int32).tobytes()
    for size in changes.pop("shape", (3,)):
        tensor.tensor_shape.dim.add(size=size)
    for name, value in changes.items():
        if isinstance(value, list):
            getattr(tensor, name).extend(value)
        else:
            setattr(tensor, name, value)
    return request


def answer_of(data: bytes) -> list[int]:
    """The values of a PredictResponse behind its five bytes."""
    (tensor,) = messages.parse(f"{SERVING}.PredictResponse", data[5:]).outputs.values()
    return np.frombuffer(tensor.tensor_content, np.int32).tolist()


def test_a_right_request_is_answered(target: Target) -> None:
    with RawGrpc(target) as client:
        for request in (right(target), right(target, tensor_content=b"", int_val=[1, 2, 3])):
            found = client.call(request.SerializeToString(), PREDICT)
            assert (found.status, answer_of(found.data)) == (0, [2, 4, 6])
        repeated = right(target, tensor_content=b"", int_val=[7])
        assert answer_of(client.call(repeated.SerializeToString(), PREDICT).data) == [14, 14, 14]


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"shape": (4,)}, GrpcCode.INVALID_ARGUMENT, "has 16 bytes, tensor_content 12"),
        ({"shape": (1 << 60, 1 << 60)}, GrpcCode.INVALID_ARGUMENT, "tensor_content 12"),
        ({"shape": (-3,)}, GrpcCode.INVALID_ARGUMENT, "all of 0 or more"),
        ({"shape": (1,) * 100}, GrpcCode.INVALID_ARGUMENT, "at most 32 sizes"),
        ({"dtype": 1}, GrpcCode.INVALID_ARGUMENT, "is float32, the model's is int32"),
        ({"dtype": 8}, GrpcCode.INVALID_ARGUMENT, "is of type 8, the model's is int32"),
        ({"dtype": 999}, GrpcCode.INVALID_ARGUMENT, "is of type 999"),
        ({"tensor_content": b""}, GrpcCode.INVALID_ARGUMENT, "0 came as int_val"),
        ({"tensor_content": b"", "int_val": [1] * 4}, GrpcCode.INVALID_ARGUMENT, "has 3 values; 4 came"),
        ({"tensor_content": b"", "int64_val": [1]}, GrpcCode.INVALID_ARGUMENT, "0 came as int_val"),
        (
            {"tensor_content": b"", "int_val": [1], "shape": (1 << 50,)},
            GrpcCode.RESOURCE_EXHAUSTED,
            "exceeds the limit",
        ),
        ({"tensor_content": b"", "float_val": [1.0]}, GrpcCode.INVALID_ARGUMENT, "0 came as int_val"),
    ],
)  # fmt: skip
def test_tensors_that_lie_are_refused(
    target: Target, changes: dict[str, Any], code: GrpcCode, text: str
) -> None:
    with RawGrpc(target) as client:
        found = client.call(right(target, **changes).SerializeToString(), PREDICT)
        assert (found.status, text in found.text) == (code, True), found.text
        assert client.call(right(target).SerializeToString(), PREDICT).status == 0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", "model"),
        (b"\x0a", "cut short"),
        (b"\x12\xff\xff\xff\xff\x0f", "cut short"),
        (b"\x10\x05", "a number in place of a message"),
        (field(1, b"\xff"), "is not a tensorflow.serving.ModelSpec"),
        (b"\x0b\x0c", "wire type 3"),
    ],
)
def test_messages_that_are_none_are_refused(target: Target, message: bytes, text: str) -> None:
    with RawGrpc(target) as client:
        found = client.call(message, PREDICT)
        assert (found.status, text in found.text) == (GrpcCode.INVALID_ARGUMENT, True), found.text


def test_fields_that_are_unknown_change_nothing(target: Target) -> None:
    more = field(77, b"new") + varint(99 << 3) + b"\x01"
    with RawGrpc(target) as client:
        found = client.call(right(target).SerializeToString() + more, PREDICT)
        assert answer_of(found.data) == [2, 4, 6]


def test_labels_and_other_signatures_are_refused_by_name(target: Target) -> None:
    labelled, signed, versioned = right(target), right(target), right(target)
    labelled.model_spec.version_label = "stable"
    signed.model_spec.signature_name = "other"
    versioned.model_spec.version.value = 9
    with RawGrpc(target) as client:
        for request, code, text in (
            (labelled, GrpcCode.INVALID_ARGUMENT, "Unrecognized servable version label: stable"),
            (signed, GrpcCode.INVALID_ARGUMENT, 'Serving signature key "other" not found'),
            (versioned, GrpcCode.NOT_FOUND, "has version 1 only"),
        ):
            found = client.call(request.SerializeToString(), PREDICT)
            assert (found.status, text in found.text) == (code, True), found.text


def test_there_is_no_folder_to_configure(target: Target) -> None:
    request = messages.message_class(f"{SERVING}.ReloadConfigRequest")()
    request.config.model_config_list.config.add(name="m", base_path="/models/m")
    with RawGrpc(target) as client:
        found = client.call(request.SerializeToString(), f"/{SERVING}.ModelService/HandleReloadConfigRequest")
        assert (found.status, "no folder of models" in found.text) == (GrpcCode.INVALID_ARGUMENT, True)


def test_methods_that_are_not_there(target: Target) -> None:
    with RawGrpc(target) as client:
        found = client.call(b"", f"/{SERVING}.PredictionService/Predictions")
        assert found.status == GrpcCode.UNIMPLEMENTED


def test_a_message_that_is_too_large_and_a_call_that_is_cancelled(target: Target) -> None:
    with RawGrpc(target) as client:
        stream = client.open(f"/{SERVING}.ModelService/GetModelStatus", grpc_encoding="gzip")
        client.data(stream, prefixed(gzip.compress(field(99, bytes(65 << 20))), compressed=1))
        assert client.read(stream).status == GrpcCode.RESOURCE_EXHAUSTED
    with RawGrpc(target) as client:
        stream = client.open(PREDICT)
        client.send(frames.rst_stream(stream, Code.CANCEL))
        assert client.call(right(target).SerializeToString(), PREDICT).status == 0
    assert_works(target)


def test_random_messages_get_a_status_each(target: Target) -> None:
    random_ = random.Random(SEED)
    seeds = [right(target).SerializeToString()]
    for name in PATHS.values():
        request = messages.message_class(f"{SERVING}.{name}")()
        if hasattr(request, "model_spec"):
            request.model_spec.name = target.model
        seeds.append(request.SerializeToString())
    paths = list(PATHS)
    statuses: Counter[int | None] = Counter()
    with RawGrpc(target) as client:
        for _ in range(NUM_MESSAGES):
            message = bytearray(random_.choice(seeds))
            for _ in range(random_.randrange(1, 6)):
                place = random_.randrange(len(message) + 1)
                action = random_.randrange(3)
                if action == 0:
                    message[place:place] = random_.randbytes(random_.randrange(1, 5))
                elif action == 1:
                    del message[place : place + random_.randrange(1, 5)]
                elif place < len(message):
                    message[place] ^= 1 << random_.randrange(8)
            statuses[client.call(bytes(message), random_.choice(paths)).status] += 1
    assert set(statuses) <= {int(code) for code in EXPECTED}, statuses
    assert statuses[int(GrpcCode.INVALID_ARGUMENT)] > NUM_MESSAGES / 10, statuses
    assert_works(target)
