"""NVIDIA's own client of the protocol against an accelerator process, on OpenVINO and the testing engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model
from tests.integration.tiny_model import (
    operation,
    placeholder,
    write_doubling_graph,
    write_graph,
    write_logical_graph,
)

triton = pytest.importorskip("tritonclient.http")
shm = pytest.importorskip("tritonclient.utils.shared_memory")
TritonError = pytest.importorskip("tritonclient.utils").InferenceServerException

ECHOED = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL",
}  # fmt: skip


@dataclass
class Served:
    """A client, the token's header and the models' names on the accelerator."""

    client: Any
    headers: dict[str, str]
    doubling: str
    negating: str
    half: str
    echo: str

    def infer(self, model: str, inputs: list[Any], **more: Any) -> Any:
        """One inference request with the token."""
        # A copy, because the client writes the head's length into the dictionary that it is given.
        return self.client.infer(model, inputs, headers=dict(self.headers), **more)


def _names(client: Any, headers: dict[str, str]) -> set[str]:
    return {entry["name"] for entry in client.get_model_repository_index(headers=headers)}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("triton")
    half = [placeholder("x", "float16", [-1, 2]), operation("y", "AddV2", ["x", "x"], "float16")]
    echo = {name: (name, (None, None)) for name in (*ECHOED, "string")}
    paths: list[tuple[Path, dict[str, Any]]] = [
        (
            write_doubling_graph(folder / "doubling.pb"),
            {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}},
        ),
        (
            write_logical_graph(folder / "not.pb"),
            {"input_names": {"flag": "flag:0"}, "output_names": {"not": "not:0"}},
        ),
        (
            write_graph(folder / "half.pb", half),
            {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}},
        ),
        (write_model(folder / "echo.testing", echo, echo), {}),
    ]
    with ExitStack() as stack:
        accelerator = stack.enter_context(start_accelerator())
        client = stack.enter_context(triton.InferenceServerClient(accelerator.address.removeprefix("tcp:")))
        headers = {"Authorization": f"Bearer {accelerator.token}"}
        names: list[str] = []
        for path, arguments in paths:
            before = _names(client, headers)
            predictor = EIPredictor(
                str(path), **arguments, address=accelerator.address, token=accelerator.token
            )
            stack.enter_context(predictor)
            names += _names(client, headers) - before
        yield Served(client, headers, *names)


def _input(name: str, array: Any, datatype: str, *, binary: bool = True) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def test_server_and_models_say_what_they_are(served: Served) -> None:
    client, headers = served.client, served.headers
    assert client.is_server_live()
    assert client.is_server_ready(headers=headers)
    server = client.get_server_metadata(headers=headers)
    assert server["name"] == "elastic-inference"
    assert {"binary_tensor_data", "system_shared_memory"} <= set(server["extensions"])
    assert client.is_model_ready(served.doubling, headers=headers)
    assert client.is_model_ready(served.doubling, "1", headers=headers)
    model = client.get_model_metadata(served.doubling, headers=headers)
    assert model["name"] == served.doubling
    assert model["versions"] == ["1"]
    assert model["platform"] == "openvino"
    assert model["inputs"] == [{"name": "x", "datatype": "INT32", "shape": [-1]}]
    assert model["outputs"] == [{"name": "y", "datatype": "INT32", "shape": [-1]}]
    assert client.get_model_config(served.doubling, headers=headers)["name"] == served.doubling
    index = client.get_model_repository_index(headers=headers)
    assert {entry["state"] for entry in index} == {"READY"}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tensors_go_as_bytes_or_as_json(served: Served, binary_in: bool, binary_out: bool) -> None:
    values = np.array([1, -2, 2**30 - 1], np.int32)
    result = served.infer(
        served.doubling,
        [_input("x", values, "INT32", binary=binary_in)],
        outputs=[triton.InferRequestedOutput("y", binary_data=binary_out)],
        request_id="a-request",
    )
    np.testing.assert_array_equal(result.as_numpy("y"), values * 2)
    assert result.get_response()["id"] == "a-request"
    assert result.get_response()["model_name"] == served.doubling
    assert ("data" in result.get_output("y")) is not binary_out


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_json_does_not_have_is_refused_in_json_and_exact_as_bytes(served: Served, value: float) -> None:
    inputs = [_input("x", np.array([[value, 1]], np.float16), "FP16")]
    in_json = [triton.InferRequestedOutput("y", binary_data=False)]
    with pytest.raises(TritonError, match=r"output 'y' holds NaN or infinity, .* ask for binary data"):
        served.infer(served.half, inputs, outputs=in_json)
    result = served.infer(served.half, inputs)
    np.testing.assert_array_equal(result.as_numpy("y"), np.array([[value, 2]], np.float16))


def test_all_outputs_come_where_none_is_named(served: Served) -> None:
    result = served.infer(served.doubling, [_input("x", np.array([3], np.int32), "INT32")])
    assert result.as_numpy("y").tolist() == [6]


def test_booleans_and_half_floats_on_openvino(served: Served) -> None:
    flags = np.array([True, False, True])
    result = served.infer(served.negating, [_input("flag", flags, "BOOL")])
    np.testing.assert_array_equal(result.as_numpy("not"), ~flags)
    halves = np.array([[0.5, -1.25], [3.0, 0.0]], np.float16)
    result = served.infer(served.half, [_input("x", halves, "FP16")])
    assert result.as_numpy("y").dtype == np.float16
    np.testing.assert_array_equal(result.as_numpy("y"), halves * 2)


def _all_echo_inputs(**replaced: Any) -> list[Any]:
    arrays = {name: np.zeros((1, 1), name) for name in ECHOED} | {"string": np.array([[b""]], object)}
    arrays |= replaced
    return [_input(name, array, ECHOED.get(name, "BYTES")) for name, array in arrays.items()]


@pytest.mark.parametrize("dtype", ECHOED)
def test_every_dtype_comes_back_as_it_went(served: Served, dtype: str) -> None:
    values = np.array([[0, 1, 77], [100, 2, 3]]).astype(dtype)
    result = served.infer(served.echo, _all_echo_inputs(**{dtype: values}))
    returned = result.as_numpy(dtype)
    assert returned.dtype == values.dtype
    np.testing.assert_array_equal(returned, values)


@pytest.mark.parametrize("binary", [True, False])
def test_strings_come_back_as_they_went(served: Served, binary: bool) -> None:
    words = np.array([[b"", "größer".encode(), b"a" * 100_000]], object)
    inputs = _all_echo_inputs(string=words)
    outputs = [triton.InferRequestedOutput("string", binary_data=binary)]
    result = served.infer(served.echo, inputs, outputs=outputs)
    returned = result.as_numpy("string")
    assert [w if isinstance(w, bytes) else w.encode() for w in returned.ravel()] == words.ravel().tolist()


def test_empty_tensors_come_back_empty(served: Served) -> None:
    result = served.infer(served.echo, _all_echo_inputs(float32=np.zeros((0, 5), np.float32)))
    assert result.as_numpy("float32").shape == (0, 5)


def test_several_requests_at_once(served: Served) -> None:
    with triton.InferenceServerClient(
        f"127.0.0.1:{served.client._client_stub.port}", concurrency=8
    ) as client:
        pending = [
            client.async_infer(
                served.doubling, [_input("x", np.array([i], np.int32), "INT32")], headers=dict(served.headers)
            )
            for i in range(64)
        ]
        assert [p.get_result().as_numpy("y").tolist() for p in pending] == [[2 * i] for i in range(64)]


def test_system_shared_memory_both_ways(served: Served) -> None:
    client, headers = served.client, served.headers
    key = f"/triton-{secrets.token_hex(8)}"
    values = np.arange(1000, dtype=np.int32)
    region = shm.create_shared_memory_region("both", key, 8000)
    try:
        shm.set_shared_memory_region(region, [values])
        client.register_system_shared_memory("both", key, 8000, headers=headers)
        (status,) = client.get_system_shared_memory_status("both", headers=headers)
        assert status == {"name": "both", "key": key, "offset": 0, "byte_size": 8000}
        given = triton.InferInput("x", [1000], "INT32")
        given.set_shared_memory("both", 4000)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("both", 4000, offset=4000)
        result = served.infer(served.doubling, [given], outputs=[wanted])
        assert result.get_output("y")["shape"] == [1000]
        doubled = shm.get_contents_as_numpy(region, np.int32, [1000], offset=4000)
        np.testing.assert_array_equal(doubled, values * 2)
        del doubled
        with pytest.raises(TritonError, match="already"):
            client.register_system_shared_memory("both", key, 8000, headers=headers)
        client.unregister_system_shared_memory("both", headers=headers)
        names = [region["name"] for region in client.get_system_shared_memory_status(headers=headers)]
        assert "both" not in names
        with pytest.raises(TritonError, match="both"):
            served.infer(served.doubling, [given])
    finally:
        client.unregister_system_shared_memory(headers=headers)
        shm.destroy_shared_memory_region(region)


def test_statistics_count_requests(served: Served) -> None:
    def count() -> tuple[int, int]:
        stats = served.client.get_inference_statistics(served.doubling, headers=served.headers)
        inference = stats["model_stats"][0]["inference_stats"]
        return inference["success"]["count"], inference["fail"]["count"]

    before = count()
    served.infer(served.doubling, [_input("x", np.array([3], np.int32), "INT32")])
    with pytest.raises(TritonError):
        served.infer(served.doubling, [_input("x", np.array([3.0], np.float32), "FP32")])
    assert count() == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    ("name", "values", "datatype", "text"),
    [
        ("nothing", np.array([1], np.int32), "INT32", "nothing"),
        ("x", np.array([1.0], np.float32), "FP32", "FP32"),
        ("x", np.array([[1]], np.int32), "INT32", "shape"),
    ],
)
def test_wrong_inputs_are_refused_with_their_reason(
    served: Served, name: str, values: Any, datatype: str, text: str
) -> None:
    with pytest.raises(TritonError, match=text) as caught:
        served.infer(served.doubling, [_input(name, values, datatype)])
    assert caught.value.status() == "400"


def test_unknown_models_and_missing_tokens_are_refused(served: Served) -> None:
    tensor = _input("x", np.array([1], np.int32), "INT32")
    with pytest.raises(TritonError) as caught:
        served.infer("nothing", [tensor])
    assert caught.value.status() in ("400", "404")
    assert not served.client.is_model_ready("nothing", headers=served.headers)
    with pytest.raises(TritonError) as caught:
        served.client.infer(served.doubling, [tensor])
    assert caught.value.status() == "401"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_bodies_are_unpacked(served: Served, coding: str) -> None:
    values = np.arange(10_000, dtype=np.int32)
    result = served.infer(
        served.doubling, [_input("x", values, "INT32")], request_compression_algorithm=coding
    )
    np.testing.assert_array_equal(result.as_numpy("y"), values * 2)


def test_an_output_comes_as_its_largest_values(served: Served) -> None:
    values = np.array([3, -4, 7, 7], np.int32)
    wanted = triton.InferRequestedOutput("y", class_count=3)
    result = served.infer(served.doubling, [_input("x", values, "INT32")], outputs=[wanted])
    assert result.get_output("y")["datatype"] == "BYTES"
    assert result.as_numpy("y").tolist() == [b"14:2", b"14:3", b"6:0"]


def test_a_configuration_has_tritons_form(served: Served) -> None:
    doubling = served.client.get_model_config(served.doubling, headers=served.headers)
    assert doubling["max_batch_size"] == 0  # its only axis may be anything
    form = {"data_type": "TYPE_INT32", "dims": [-1], "format": "FORMAT_NONE"}
    assert doubling["input"] == [{"name": "x", **form}]
    half = served.client.get_model_config(served.half, headers=served.headers)
    assert half["max_batch_size"] > 0
    assert half["output"] == [{"name": "y", "data_type": "TYPE_FP16", "dims": [2]}]


def test_statistics_say_where_the_time_went(served: Served) -> None:
    served.infer(served.doubling, [_input("x", np.arange(100_000, dtype=np.int32), "INT32")])
    stats = served.client.get_inference_statistics(served.doubling, headers=served.headers)
    durations = stats["model_stats"][0]["inference_stats"]
    parts = [durations[name]["ns"] for name in ("compute_input", "queue", "compute_infer", "compute_output")]
    assert min(parts) > 0
    assert durations["success"]["ns"] == pytest.approx(sum(parts), abs=4)


def test_cuda_shared_memory_has_no_regions_and_takes_none(served: Served) -> None:
    client, headers = served.client, served.headers
    assert client.get_cuda_shared_memory_status(headers=headers) == []
    client.unregister_cuda_shared_memory(headers=headers)
    with pytest.raises(TritonError, match="not offered"):
        client.register_cuda_shared_memory("a", b"handle", 0, 64, headers=headers)


def test_log_settings_are_told_and_changed_as_far_as_they_can_be(served: Served) -> None:
    client, headers = served.client, served.headers
    before = client.get_log_settings(headers=headers)
    assert client.update_log_settings({"log_verbose_level": 1}, headers=headers)["log_verbose_level"] == 1
    assert client.update_log_settings({"log_verbose_level": 0}, headers=headers) == before | {
        "log_info": True
    }
    with pytest.raises(TritonError, match="log_file is '' here"):
        client.update_log_settings({"log_file": "/tmp/x"}, headers=headers)


def test_trace_settings_are_told_and_cannot_be_changed(served: Served) -> None:
    client, headers = served.client, served.headers
    settings = client.get_trace_settings(headers=headers)
    assert settings["trace_level"] == ["OFF"]
    assert client.update_trace_settings(settings=settings, headers=headers) == settings
    with pytest.raises(TritonError, match="trace_rate is '1' here"):
        client.update_trace_settings(settings={"trace_rate": "5"}, headers=headers)


def test_a_model_is_loaded_and_unloaded(served: Served, tmp_path: Path) -> None:
    client, headers = served.client, served.headers
    address = f"tcp:127.0.0.1:{client._client_stub.port}"
    before = _names(client, headers)
    path = write_model(tmp_path / "another.testing")
    token = headers["Authorization"].removeprefix("Bearer ")
    with EIPredictor(str(path), address=address, token=token):
        (name,) = _names(client, headers) - before
        client.load_model(name, headers=headers)
        assert client.is_model_ready(name, headers=headers)
        client.unload_model(name, headers=headers)
        assert not client.is_model_ready(name, headers=headers)
        (row,) = [r for r in client.get_model_repository_index(headers=headers) if r["name"] == name]
        assert (row["state"], row["reason"]) == ("UNAVAILABLE", "unloaded")
        with pytest.raises(TritonError) as caught:
            client.unload_model(name, headers=headers)
        assert caught.value.status() in ("400", "404")
        client.load_model(name, headers=headers)  # its files are still here
        assert client.is_model_ready(name, headers=headers)
        client.unload_model(name, headers=headers)
    with pytest.raises(TritonError, match="failed to load"):
        client.load_model("nothing", headers=headers)
    with pytest.raises(TritonError, match="failed to load 'nothing': a configuration alone"):
        client.load_model("nothing", headers=headers, config="{}")
