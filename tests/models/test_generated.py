"""What is generated and committed says the same as what it was generated from."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference.accelerator.doors.grpc import messages as grpc_messages
from elastic_inference.accelerator.doors.tensorflow_serving import messages as serving_messages
from elastic_inference.accelerator.message_pool import MessagePool
from elastic_inference.models import graph_pb2
from elastic_inference.models.generate_operations import OPERATIONS_PATH, operations_text

SOURCE = Path(graph_pb2.__file__).parents[2]
PROTO = "elastic_inference/models/graph.proto"


def test_graph_pb2_is_not_stale(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("needs grpcio-tools, which is in the dev extra")
    from google.protobuf import descriptor_pb2

    output = tmp_path / "descriptors"
    # In a process of its own: its copy of protobuf and TensorFlow's crash each other.
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{SOURCE}",
        f"--descriptor_set_out={output}",
        PROTO,
    ]
    subprocess.run(command, check=True, timeout=120)
    (wanted,) = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    committed = descriptor_pb2.FileDescriptorProto()
    graph_pb2.DESCRIPTOR.CopyToProto(committed)
    for message in (wanted, committed):
        message.ClearField("source_code_info")
        for nested in message.message_type:
            _clear_json_names(nested)
    assert committed == wanted


def _clear_json_names(message: object) -> None:
    for field in message.field:  # type: ignore[attr-defined]
        field.ClearField("json_name")  # only some versions of protoc write it
    for nested in message.nested_type:  # type: ignore[attr-defined]
        _clear_json_names(nested)


@pytest.mark.parametrize("pool", [grpc_messages.POOL, serving_messages.POOL])
def test_the_descriptors_of_the_grpc_services_are_not_stale(pool: MessagePool, tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("needs grpcio-tools, which is in the dev extra")
    from google.protobuf import descriptor_pb2

    folder = pool.descriptors.parent
    protos = sorted(path.name for path in folder.glob("*.proto"))
    output = tmp_path / "descriptors"
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{folder}",
        "--include_imports",
        f"--descriptor_set_out={output}",
        *protos,
    ]
    subprocess.run(command, check=True, timeout=120)
    wanted = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())
    assert {file.name: file for file in pool.file_set.file} == {file.name: file for file in wanted.file}


def test_operations_agree_with_the_installed_tensorflow() -> None:
    pytest.importorskip("tensorflow")
    registered, committed = (
        {line.split()[0].removeprefix("!"): line for line in text.splitlines()}
        for text in (operations_text(), OPERATIONS_PATH.read_text())
    )
    shared = registered.keys() & committed.keys()
    assert len(shared) > 1500
    assert {name: committed[name] for name in shared} == {name: registered[name] for name in shared}
