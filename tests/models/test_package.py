"""Which files a model consists of, what a directory is taken for, and which files are never read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from elastic_inference.errors import InvalidModel, ModelNotFound
from elastic_inference.models.onnx_file import check_external_data, external_data, onnx_nodes, unranked
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.protobuf_wire import fields


def write_external(folder: Path, location: str) -> Path:
    """An ONNX model whose one weight lies in the file `location`."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [value("x", TensorProto.FLOAT, [2])],
        [value("y", TensorProto.FLOAT, [2])],
        [weight],
    )
    path = folder / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_external_data_belongs_to_the_model(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(np.float32([1, 2]).tobytes())
    package = ModelPackage.read(write_external(tmp_path, "weights/w.bin"))
    assert [file.path for file in package.files] == ["model.onnx", "weights/w.bin"]
    assert package.main_path == tmp_path / "model.onnx"
    check_external_data(package.main_path, [file.path for file in package.files])
    with pytest.raises(InvalidModel, match=r"'weights/w.bin' for its data, which is not one of its own"):
        check_external_data(package.main_path, ["model.onnx"])


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "link", "folder/../../secret"])
def test_external_data_stays_within_the_folder(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_text("hush")
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "link")
    with pytest.raises(InvalidModel, match="which is not within its folder"):
        ModelPackage.read(write_external(folder, location))


def test_external_data_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"keeps data in 'w.bin', which is not beside it"):
        ModelPackage.read(write_external(tmp_path, "w.bin"))


def test_newest_version_of_tensorflow_serving(tmp_path: Path) -> None:
    for version in ("9", "10"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(version.encode())
    package = ModelPackage.read(tmp_path)
    assert (package.format, package.root) == (ModelFormat.SAVED_MODEL, tmp_path / "10")


def test_one_onnx_model_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    path = write_external(tmp_path, "w.bin")
    assert ModelPackage.read(tmp_path).main_path == path
    (tmp_path / "other.onnx").write_bytes(path.read_bytes())
    with pytest.raises(ModelNotFound, match=r"several ONNX models, so name one: model.onnx, other.onnx"):
        ModelPackage.read(tmp_path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("pytorch_model.bin", "Hugging Face model of PyTorch weights: export it with `optimum-cli"),
        ("model.safetensors", "Hugging Face model of PyTorch"),
        ("tf_model.h5", "Hugging Face model of TensorFlow"),
        ("manifest.ocdbt", "checkpoint of orbax"),
        ("model.ckpt.index", "TensorFlow checkpoint, which holds variables alone"),
        ("saved_model.pbtxt", "SavedModel in text form"),
        ("model.json", "model of TensorFlow.js"),
    ],
)
def test_directory_that_is_something_else(tmp_path: Path, file: str, words: str) -> None:
    (tmp_path / file).write_text("x")
    with pytest.raises(
        ModelNotFound, match=f"SavedModel file does not exist at: .*It is a .*{words.removeprefix('a ')}"
    ):
        ModelPackage.read(tmp_path)


def test_no_testing_engine_in_lists(tmp_path: Path) -> None:
    (tmp_path / "model.xyz").write_text("x")
    with pytest.raises(InvalidModel, match="suffix") as told:
        ModelPackage.read(tmp_path / "model.xyz")
    assert ".testing" not in str(told.value)


def test_nodes_are_those_that_onnx_reads(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["z"])], "body", [], [value("z", TensorProto.FLOAT, None)]
    )
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=body, else_branch=body)
    graph = helper.make_graph(
        [node, helper.make_node("TopK", ["y", ""], ["v", "i"], axis=-1, largest=0)],
        "graph",
        [value("c", TensorProto.BOOL, []), value("x", TensorProto.FLOAT, None)],
        [value("v", TensorProto.FLOAT, None)],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    found = onnx_nodes(path)
    assert sorted(node.op for node in found) == ["If", "Neg", "Neg", "TopK"]
    (top,) = (node for node in found if node.op == "TopK")
    assert (top.attributes, top.version, list(top.outputs)) == ({"axis": -1, "largest": 0}, 17, ["v", "i"])
    assert (top.has_input(0), top.has_input(1)) == (True, False)
    assert unranked(path) == {"x", "v"}
    assert external_data(path) == ()


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x7f", b"\x0b", b"\xff" * 20, b"no model at all"])
def test_bytes_that_are_no_message(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidModel):
        list(fields(memoryview(data)))
    (tmp_path / "model.onnx").write_bytes(data)
    assert external_data(tmp_path / "model.onnx") == ()
    with pytest.raises(InvalidModel, match="is not an ONNX model"):
        onnx_nodes(tmp_path / "model.onnx")
