"""What Triton's example programs look for, asked of `ei serve` by NVIDIA's clients: words of errors, name, labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException as TritonError

from tests.integration.serve_process import Serving, serving

CONFIG = """
backend: "onnxruntime"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 1, 1, 3 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1, 1, 3 ] label_filename: "names.txt" }
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A model that doubles its images, with a configuration in Triton's form and two labels of three."""
    scratch = tmp_path_factory.mktemp("examples")
    folder = scratch / "models" / "twice"
    (folder / "1").mkdir(parents=True)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 1, 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "1" / "model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG)
    (folder / "names.txt").write_text("tabby\nfox\n")
    options = ("--http", "0", "--grpc", "0", "--server-name", "triton")
    with serving(Path(folder.parent), *options, scratch=scratch) as running:
        assert [m["state"] for m in running.models] == ["READY"], running.models
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(served: Serving, request: pytest.FixtureRequest) -> Iterator[Any]:
    module = triton_http if request.param == "http" else triton_grpc
    with module.InferenceServerClient(served.endpoints[request.param]) as opened:
        yield opened


def test_the_server_is_called_as_asked(client: Any) -> None:
    found = client.get_server_metadata()
    assert (found["name"] if isinstance(found, dict) else found.name) == "triton"


def test_the_format_of_images_is_in_the_configuration(client: Any) -> None:
    found = client.get_model_config("twice")
    if isinstance(found, dict):
        assert found["input"][0]["format"] == "FORMAT_NHWC"
    else:
        assert (
            triton_grpc.model_config_pb2.ModelInput.Format.Name(found.config.input[0].format) == "FORMAT_NHWC"
        )


def test_classes_have_their_labels(client: Any) -> None:
    module = triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc
    x = module.InferInput("x", [1, 1, 1, 3], "FP32")
    x.set_data_from_numpy(np.array([[[[1, 2, 0.5]]]], np.float32))
    wanted = module.InferRequestedOutput("y", class_count=3)
    classes = client.infer("twice", [x], outputs=[wanted]).as_numpy("y").reshape(-1)
    assert list(classes) == [b"4.000000:1:fox", b"2.000000:0:tabby", b"1.000000:2"]


def test_a_configuration_that_is_none_failed_to_load(client: Any) -> None:
    with pytest.raises(TritonError, match="failed to load 'twice': config is not JSON"):
        client.load_model("twice", config='"parameters": {"config": {{"max_batch_size": "16"}}}')
    client.load_model("twice", config=json.dumps({"max_batch_size": "16"}))
    found = client.get_model_config("twice")
    assert (found["max_batch_size"] if isinstance(found, dict) else found.config.max_batch_size) == 16


def test_contents_beside_raw_contents_and_a_version_that_is_no_number(served: Serving) -> None:
    request = service_pb2.ModelInferRequest(model_name="twice")
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 1, 1, 3])
    given.contents.fp32_contents[:] = [1, 2, 3]
    with grpc.insecure_channel(served.endpoints["grpc"]) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request)
        assert list(np.frombuffer(answer.raw_output_contents[0], np.float32)) == [2, 4, 6]
        request.model_version = "latest"
        with pytest.raises(
            grpc.RpcError, match="failed to get model version from specified version string 'latest'"
        ):
            stub.ModelInfer(request)
        request.model_version = ""
        request.raw_input_contents.append(bytes(12))
        words = "contents field must not be specified when using raw_input_contents for 'x' for model 'twice'"
        with pytest.raises(grpc.RpcError, match=words):
            stub.ModelInfer(request)
