"""Triton's model configuration: what of it is heeded, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.accelerator.expectations import check, input_format, labels
from elastic_inference.accelerator.repository import triton_config
from elastic_inference.accelerator.repository.model_settings import made
from elastic_inference.errors import InvalidInput
from elastic_inference.models.package import ModelFormat
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec

DENSENET = """
name: "densenet"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "data" data_type: TYPE_FP32 format: FORMAT_NONE dims: [ 3, 224, -1 ] }
]
output { name: "scores" data_type: TYPE_STRING dims: 1000 }
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
version_policy: { specific { versions: [ 1, 3 ] } }
default_model_filename: "net.onnx"
model_warmup { name: "zeros" batch_size: 2
  inputs { key: "data" value { data_type: TYPE_FP32 dims: [ 3, 224, 224 ] zero_data: true } } }
"""


def read(tmp_path: Path, text: str, device: str = "cpu:0") -> dict[str, Any]:
    (tmp_path / "config.pbtxt").write_text(text)
    return triton_config.read(tmp_path / "config.pbtxt", "densenet", device)


def test_what_is_heeded(tmp_path: Path) -> None:
    settings = made(read(tmp_path, DENSENET), "config")
    assert settings.expects == {
        "inputs": {"data": {"datatype": "FP32", "shape": [-1, 3, 224, -1]}},
        "outputs": {"scores": {"datatype": "BYTES", "shape": [-1, 1000]}},
    }
    assert (settings.versions, settings.model_file) == ((1, 3), "net.onnx")
    load = settings.load(ModelFormat.ONNX, {"engine": "auto"})
    assert (load["max_batch_rows"], load["max_batch_delay_seconds"]) == (8, pytest.approx(1e-4))
    assert load["warm_up"] == {"data": (2, 3, 224, 224)}
    assert load["engine"] == "auto"


def test_json_is_the_same_message() -> None:
    value = {
        "name": "densenet", "maxBatchSize": 8, "versionPolicy": {"latest": {"numVersions": "2"}},
        "input": [{"name": "data", "data_type": "TYPE_FP32", "dims": ["3", "-1"]}],
        "modelWarmup": [{"batchSize": 1, "inputs": {"someInput": {"dims": [4], "zeroData": True}}}],
        "optimization": {}, "parameters": {},
    }  # fmt: skip
    found = triton_config.read_json(json.dumps(value), "densenet", "cpu:0")
    assert found == {
        "expects": {"inputs": {"data": {"datatype": "FP32", "shape": [-1, 3, -1]}}, "outputs": {}},
        "max_batch_rows": 8, "versions": 2, "warm_up": {"someInput": [1, 4]},
    }  # fmt: skip
    assert triton_config.read_json("{}", "densenet", "cpu:0") == {"expects": {"inputs": {}, "outputs": {}}}


def test_a_model_without_batches_is_not_batched(tmp_path: Path) -> None:
    found = read(tmp_path, 'max_batch_size: 0 input { name: "x" data_type: TYPE_INT8 dims: [2] }')
    assert found["batching"] == "off"
    assert found["expects"]["inputs"]["x"]["shape"] == [2]
    assert read(tmp_path, "version_policy { all {} }")["versions"] == "all"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('name: "other"', "name is 'other', the model's is 'densenet'"),
        ('backend: "python"', "backend 'python' is not offered"),
        ('platform: "ensemble"', "platform 'ensemble' is not offered"),
        ("sequence_batching {}", "sequence_batching is not offered"),
        ('parameters { key: "a" value { string_value: "b" } }', "parameters is not offered"),
        ("response_cache { enable: true }", "response_cache is not offered"),
        ("instance_group [ { count: 2 kind: KIND_CPU } ]", "count 2 is not offered"),
        ("instance_group [ { kind: KIND_GPU } ]", "KIND_GPU is not offered; it computes on cpu:0"),
        ("instance_group [ {}, {} ]", "several are not offered"),
        (
            'input { name: "x" data_type: TYPE_FP32 reshape { shape: 3 } }',
            "input 'x': reshape is not offered",
        ),
        ('input { name: "x" }', "needs a name and a data_type"),
        (
            'output { name: "x" data_type: TYPE_FP32 format: FORMAT_NHWC }',
            "output 'x': format is not offered",
        ),
        (
            'output { name: "x" data_type: TYPE_FP32 label_filename: "../l.txt" }',
            "'../l.txt' must be a name within",
        ),
        ('output { name: "x" data_type: TYPE_FP32 label_filename: "none" }', "'none' cannot be read"),
        ("dynamic_batching { priority_levels: 3 }", "dynamic_batching: priority_levels is not offered"),
        (
            'model_warmup { inputs { key: "x" value { input_data_file: "f" } } }',
            "input_data_file is not offered",
        ),
        ("model_warmup {} model_warmup {}", "several samples are not offered"),
        ("max_batch_size: -1", "max_batch_size must be 0 or more"),
        ('max_batch_size: "many"', "max_batch_size must be a whole number"),
        ("input: 3", "input must be a message"),
        ("made_up: 3", "made_up is not offered"),
        ("name", "line 1: field name has no value"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=f"config.pbtxt: .*{named}"):
        read(tmp_path, text)


def test_formats_and_labels_are_told(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("tabby\nfox\n")
    text = (
        'input { name: "x" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [2, 2, 3] }'
        'output { name: "y" data_type: TYPE_FP32 dims: [2] label_filename: "names.txt" }'
    )
    load = made(read(tmp_path, text), "config").load(ModelFormat.ONNX, {})
    assert input_format(load, "x") == "FORMAT_NHWC"
    assert labels(load, "y") == ["tabby", "fox"]
    assert (input_format(load, "y"), labels(load, "x"), labels({}, "y")) == ("FORMAT_NONE", (), ())


def test_labels_come_from_the_folder_alone() -> None:
    config = {"output": [{"name": "y", "data_type": "TYPE_FP32", "label_filename": "names.txt"}]}
    with pytest.raises(InvalidInput, match="label_filename is not offered"):
        triton_config.read_json(json.dumps(config), "densenet", "cpu:0")


@pytest.mark.parametrize(
    ("tensor", "named"),
    [({"format": "FORMAT_XYZ"}, "format of output 'y' is 'FORMAT_XYZ'"), ({"labels": [3]}, "a list of text")],
)
def test_what_is_told_to_clients_is_looked_at(tensor: dict[str, Any], named: str) -> None:
    signature = Signature({}, {"y": TensorSpec("y", "float32", (None, 2))})
    with pytest.raises(InvalidInput, match=named):
        check(signature, {"outputs": {"y": tensor}})


def test_a_gpu_may_be_asked_for_where_there_is_one(tmp_path: Path) -> None:
    assert read(tmp_path, "instance_group [ { kind: KIND_GPU } ]", "cuda:0")


_keys = st.sampled_from([
    "name", "input", "output", "dims", "data_type", "max_batch_size", "version_policy", "specific", "versions",
    "latest", "num_versions", "model_warmup", "inputs", "key", "value", "instance_group", "count", "dynamic_batching",
    "batch_size",
])  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_keys, json_values))
def test_any_json_is_read_or_refused(value: dict[str, Any]) -> None:
    try:
        made(triton_config.read_json(json.dumps(value), "densenet", "cpu:0"), "config")
    except InvalidInput:
        return
