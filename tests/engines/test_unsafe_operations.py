"""Which graphs the TensorFlow engine refuses because of what they could do outside their session."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.tensorflow_library import import_tensorflow
from elastic_inference.engines.unsafe_operations import is_unsafe
from elastic_inference.errors import InvalidModel, UnsafeModel, UnsupportedModel
from elastic_inference.models.operations import is_stateful
from elastic_inference.models.signature import SignatureRequest
from tests.engines.conftest import Load

pytest.importorskip("tensorflow")
# Parameters and inputs by which an operation can be told what to open, call or load.
_TELLING_NAMES = re.compile(
    r"file|path|url|memory_region|source_name|descriptor_source|target_name|vocab|debug_ops|^prefix$|address"
    r"|output_stream",
    re.IGNORECASE,
)
_TELLING_BUT_HARMLESS = {"ShardedFilename", "ShardedFilespec"}  # only put names together


def _registered_ops() -> list[Any]:
    import_tensorflow()
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    listed = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return list(listed.op)


def test_every_registered_op_that_is_told_a_file_or_address_is_unsafe() -> None:
    found = [
        op.name
        for op in _registered_ops()
        if any(_TELLING_NAMES.search(arg.name) for arg in op.input_arg)
        or any(_TELLING_NAMES.search(attr.name) and "string" in attr.type for attr in op.attr)
    ]
    assert {"ReadFile", "WriteFile", "SaveV2", "RestoreV2", "SqlDataset"} <= set(found)
    assert [name for name in found if not is_unsafe(name) and name not in _TELLING_BUT_HARMLESS] == []


@pytest.mark.parametrize(
    "op",
    ["PyFunc", "PyFuncStateless", "EagerPyFunc", "MatchingFiles", "PrintV2", "RpcCall", "RemoteCall", "DebugIdentity",
     "CopyHost", "DatasetFromGraph", "XlaCustomCall", "ImmutableConst", "MergeV2Checkpoints", "NoSuchOperation"],
)  # fmt: skip
def test_unsafe(op: str) -> None:
    assert is_unsafe(op)


@pytest.mark.parametrize(
    "op",
    ["MatMul", "Placeholder", "VarHandleOp", "ReadVariableOp", "StatefulPartitionedCall", "If", "While", "Assert",
     "RandomUniform", "TensorArrayV3", "TensorArrayScatterV3", "HashTableV2", "LookupTableFindV2", "DecodeJpeg"],
)  # fmt: skip
def test_harmless(op: str) -> None:
    assert not is_unsafe(op)


def _with_vocabulary(tf: Any, folder: Path) -> Path:
    """A SavedModel that reads a table from its own asset."""
    source = folder / "words.txt"
    source.write_text("red\ngreen\n")

    class Words(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            names = tf.lookup.TextFileInitializer(
                str(source),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(names, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="word")])
        def serve(self, word: Any) -> Any:
            return {"number": self.table.lookup(word)}

    module = Words()
    tf.saved_model.save(module, str(folder / "words"), signatures=module.serve)
    source.unlink()
    return folder / "words"


def test_vocabulary_of_its_own_is_allowed_and_no_other_file(tmp_path: Path, load: Load) -> None:
    path = _with_vocabulary(import_tensorflow(), tmp_path)
    model = load(path)
    words = np.array([b"green", b"blue"], object)
    assert model.predict({"word": words})["number"].tolist() == [1, -1]
    # Where a call may feed the name of the file, it could be any.
    fed = SignatureRequest(
        input_names={"word": "serving_default_word:0", "path": "asset_path_initializer:0"},
        output_names={"number": "StatefulPartitionedCall:0"},
    )
    with pytest.raises(UnsafeModel, match="InitializeTableFromTextFileV2"):
        load(path, fed, engine="tensorflow")
    (path / "assets" / "words.txt").unlink()
    with pytest.raises(InvalidModel, match=r"asset 'words.txt', which is not in its folder assets"):
        load(path)


def test_operation_that_nobody_knows_is_not_called_unsafe(tmp_path: Path, load: Load) -> None:
    tf = import_tensorflow()
    with tf.Graph().as_default() as graph:
        tf.identity(tf.identity(tf.compat.v1.placeholder(tf.float32, [1], name="x"), name="middle"), name="y")
    graph_def = graph.as_graph_def()
    next(node for node in graph_def.node if node.name == "middle").op = "CustomThing"
    path = tmp_path / "custom.pb"
    path.write_bytes(graph_def.SerializeToString())
    request = SignatureRequest(input_names={"x": "x:0"}, output_names={"y": "y:0"})
    with pytest.raises(UnsupportedModel, match="operations that this version does not know: CustomThing"):
        load(path, request, engine="tensorflow")


def test_most_stateful_operations_are_denied() -> None:
    stateful = [op.name for op in _registered_ops() if op.is_stateful and not op.name.startswith("_")]
    assert all(is_stateful(name) for name in stateful)
    assert sum(map(is_unsafe, stateful)) > 350


def _read_secret(tf: Any, secret: Path, x: Any) -> Any:
    return tf.strings.length(tf.io.read_file(str(secret))) + tf.cast(x[0], tf.int32)


def _read_secret_in_a_function(tf: Any, secret: Path, x: Any) -> Any:
    inner = tf.function(lambda value: _read_secret(tf, secret, value))
    return tf.function(lambda value: inner(value))(x)


def _read_secret_in_a_branch(tf: Any, secret: Path, x: Any) -> Any:
    return tf.cond(x[0] > 0, lambda: _read_secret(tf, secret, x), lambda: 0)


@pytest.mark.parametrize("compute", [_read_secret, _read_secret_in_a_function, _read_secret_in_a_branch])
@pytest.mark.parametrize("engine", ["tensorflow", "auto"])
def test_graph_that_reads_a_file(
    tmp_path: Path, load: Load, compute: Callable[[Any, Path, Any], Any], engine: str
) -> None:
    tf = import_tensorflow()
    secret = tmp_path / "secret"
    secret.write_text("hush!")
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1], name="x")
        tf.identity(compute(tf, secret, x), name="y")
    path = tmp_path / "reads.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    request = SignatureRequest(input_names={"x": "x:0"}, output_names={"y": "y:0"})
    with pytest.raises(UnsafeModel, match="ReadFile"):
        load(path, request, engine=engine)
    allowed = load(path, request, engine=engine, allow_unsafe_operations=True)
    assert allowed.predict({"x": np.array([1], np.float32)})["y"] == 6


def test_unsafe_operation_that_is_never_run_does_not_count(tmp_path: Path, load: Load) -> None:
    tf = import_tensorflow()
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1], name="x")
        tf.identity(x * 2.0, name="y")
        tf.io.write_file(str(tmp_path / "written"), "text")
    path = tmp_path / "writes.pb"
    path.write_bytes(graph.as_graph_def().SerializeToString())
    request = SignatureRequest(input_names={"x": "x:0"}, output_names={"y": "y:0"})
    assert load(path, request, engine="tensorflow").predict({"x": np.array([2], np.float32)})["y"] == 4
    assert not (tmp_path / "written").exists()


def test_saved_model_that_writes_a_file_when_it_is_loaded(tmp_path: Path, load: Load) -> None:
    tf = import_tensorflow().compat.v1
    written = tmp_path / "written"
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [1], name="x")
        write = tf.io.write_file(str(written), "text")
        signature = tf.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": x * 2.0})
        builder = tf.saved_model.Builder(str(tmp_path / "model"))
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map={"serving_default": signature}, main_op=write
        )
        builder.save()
    with pytest.raises(UnsafeModel, match="WriteFile"):
        load(tmp_path / "model", engine="tensorflow")
    assert not written.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_lambda(tmp_path: Path, load: Load, suffix: str) -> None:
    keras = import_tensorflow().keras
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Lambda(lambda x: x * 3.0, name="y")])
    path = tmp_path / f"lambda{suffix}"
    model.save(path)
    with pytest.raises(UnsafeModel, match="Lambda"):
        load(path)
    allowed = load(path, allow_unsafe_operations=True)
    np.testing.assert_array_equal(allowed.predict({"x": np.array([[1, 2]], np.float32)})["y"], [[3, 6]])


def test_keras_file_that_names_a_module_of_python(tmp_path: Path, models: Path, load: Load) -> None:
    path = tmp_path / "evil.keras"
    with zipfile.ZipFile(models / "model.keras") as source, zipfile.ZipFile(path, "w") as target:
        config = json.loads(source.read("config.json"))
        config["config"]["layers"][1] |= {"module": "os", "class_name": "system"}
        for name in source.namelist():
            target.writestr(name, json.dumps(config) if name == "config.json" else source.read(name))
    with pytest.raises(UnsafeModel, match=r"os\.system"):
        load(path)
