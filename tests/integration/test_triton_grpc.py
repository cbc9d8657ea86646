"""NVIDIA's own gRPC client, and gRPC's own tools, against an accelerator process."""

from __future__ import annotations

import asyncio
import queue
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.dataplane.certificate import write_certificate

from elastic_inference import EIPredictor
from elastic_inference.accelerator.doors.grpc import messages
from elastic_inference.testing import start_accelerator, write_model
from tests.integration.tiny_model import write_doubling_graph
from tests.waiting import wait_until

grpc = pytest.importorskip("grpc")
triton = pytest.importorskip("tritonclient.grpc")
aio = pytest.importorskip("tritonclient.grpc.aio")
shm = pytest.importorskip("tritonclient.utils.shared_memory")
TritonError = pytest.importorskip("tritonclient.utils").InferenceServerException

ECHOED = {
    "float16": "FP16", "float32": "FP32", "float64": "FP64", "int8": "INT8", "int16": "INT16", "int32": "INT32",
    "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL",
}  # fmt: skip
TYPED = {
    "bool": "bool_contents", "int8": "int_contents", "int16": "int_contents", "int32": "int_contents",
    "int64": "int64_contents", "uint8": "uint_contents", "uint16": "uint_contents", "uint32": "uint_contents",
    "uint64": "uint64_contents", "float32": "fp32_contents", "float64": "fp64_contents",
}  # fmt: skip


@dataclass
class Served:
    """An accelerator with a client, and its models' names by what they do."""

    address: str
    client: Any
    headers: dict[str, str]
    names: dict[str, str]

    def infer(self, model: str, inputs: list[Any], **more: Any) -> Any:
        """One inference request with the token."""
        return self.client.infer(self.names[model], inputs, headers=self.headers, **more)

    def call(self, path: str, request: Any, answer: str, **more: Any) -> Any:
        """One call of any method with messages of ours, as any gRPC client would make it."""
        with grpc.insecure_channel(self.address) as channel:
            method = channel.unary_unary(
                path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=messages.message_class(answer).FromString,
            )
            return method(request, timeout=60, metadata=list(self.headers.items()), **more)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("grpc")
    echo = {name: (name, (None, None)) for name in (*ECHOED, "string")}
    one = {"x": ("uint8", (None, None))}
    half = {"x": ("bfloat16", (None,))}
    models: dict[str, tuple[Path, dict[str, Any]]] = {
        "doubling": (
            write_doubling_graph(folder / "doubling.pb"),
            {"input_names": {"x": "x:0"}, "output_names": {"y": "y:0"}},
        ),
        "echo": (write_model(folder / "echo.testing", echo, echo), {}),
        "one": (write_model(folder / "one.testing", one, one), {}),
        "half": (write_model(folder / "half.testing", half, half), {}),
        "slow": (write_model(folder / "slow.testing", one, one, wait_seconds=0.4), {}),
        "failing": (
            write_model(folder / "failing.testing", one, one, fail="out of luck"),
            {"warm_up": False},
        ),
    }
    with ExitStack() as stack:
        accelerator = stack.enter_context(start_accelerator())
        address = accelerator.address.removeprefix("tcp:")
        client = stack.enter_context(triton.InferenceServerClient(address))
        headers = {"authorization": f"Bearer {accelerator.token}"}
        names: dict[str, str] = {}
        for label, (path, arguments) in models.items():
            place = {"address": accelerator.address, "token": accelerator.token}
            stack.enter_context(EIPredictor(str(path), **arguments, **place))
            index = client.get_model_repository_index(headers=headers, as_json=True)["models"]
            (names[label],) = {entry["name"] for entry in index} - set(names.values())
        yield Served(address, client, headers, names)


def _input(name: str, array: Any, datatype: str = "UINT8") -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


BYTES = np.array([[1, 2, 250]], np.uint8)


def test_server_and_models_say_what_they_are(served: Served) -> None:
    client, headers, name = served.client, served.headers, served.names["doubling"]
    assert client.is_server_live()
    assert client.is_server_ready()
    server = client.get_server_metadata(headers=headers)
    assert server.name == "elastic-inference"
    assert {"system_shared_memory", "statistics"} <= set(server.extensions)
    assert client.is_model_ready(name, headers=headers)
    assert client.is_model_ready(name, "1", headers=headers)
    assert not client.is_model_ready("nothing", headers=headers)
    model = client.get_model_metadata(name, headers=headers, as_json=True)
    assert model["inputs"] == [{"name": "x", "datatype": "INT32", "shape": ["-1"]}]
    config = client.get_model_config(name, headers=headers).config
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [("x", 8, [-1])]


@pytest.mark.parametrize("dtype", ECHOED)
def test_every_dtype_comes_back_as_it_went(served: Served, dtype: str) -> None:
    values = np.array([[0, 1, 77], [100, 2, 3]]).astype(dtype)
    result = served.infer("echo", _all_echo_inputs(**{dtype: values}), request_id="a-request")
    returned = result.as_numpy(dtype)
    assert returned.dtype == values.dtype
    np.testing.assert_array_equal(returned, values)
    assert result.get_response().id == "a-request"


def _all_echo_inputs(**replaced: Any) -> list[Any]:
    arrays = {name: np.zeros((1, 1), name) for name in ECHOED} | {"string": np.array([[b""]], object)}
    return [_input(name, array, ECHOED.get(name, "BYTES")) for name, array in (arrays | replaced).items()]


def test_strings_and_bfloat16_come_back_as_they_went(served: Served) -> None:
    words = np.array([[b"", "größer".encode(), b"a" * 100_000]], object)
    result = served.infer("echo", _all_echo_inputs(string=words))
    assert result.as_numpy("string").tolist() == words.tolist()
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    assert served.infer("half", [_input("x", numbers, "BF16")]).as_numpy("x").tolist() == [1.5, -2.0]


@pytest.mark.parametrize("dtype", TYPED)
def test_tensors_may_come_as_typed_contents(served: Served, dtype: str) -> None:
    """As clients made from the protocol's text alone send them; tritonclient never does."""
    request = messages.message_class("inference.ModelInferRequest")(model_name=served.names["echo"])
    for name in (*ECHOED, "string"):
        if name == "float16":
            continue
        tensor = request.inputs.add(name=name, datatype=ECHOED.get(name, "BYTES"), shape=[1, 2])
        field = TYPED.get(name, "bytes_contents")
        getattr(tensor.contents, field).extend([b"a", b"\xff"] if name == "string" else [0, 1])
    # float16 has no contents of its own, so it is left out, and refused for that alone
    with pytest.raises(grpc.RpcError) as caught:
        served.call("/inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse")
    assert "missing inputs ['float16']" in caught.value.details()
    wrong = request.inputs[list(ECHOED).index(dtype) - 1]
    getattr(wrong.contents, TYPED[dtype]).append(0)
    with pytest.raises(grpc.RpcError) as caught:
        served.call("/inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert repr(dtype) in caught.value.details()


def test_typed_contents_are_computed_with(served: Served) -> None:
    request = messages.message_class("inference.ModelInferRequest")(model_name=served.names["doubling"])
    request.inputs.add(name="x", datatype="INT32", shape=[3]).contents.int_contents.extend([1, -2, 3])
    answer = served.call(
        "/inference.GRPCInferenceService/ModelInfer", request, "inference.ModelInferResponse"
    )
    assert np.frombuffer(answer.raw_output_contents[0], np.int32).tolist() == [2, -4, 6]


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 65_535, 65_536, 5_000_000, 40_000_000])
def test_messages_of_any_length_arrive_whole(served: Served, size: int) -> None:
    values = np.frombuffer(np.random.default_rng(size).bytes(size), np.uint8).reshape(1, size)
    np.testing.assert_array_equal(served.infer("one", [_input("x", values)]).as_numpy("x"), values)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_messages_are_unpacked(served: Served, coding: str) -> None:
    values = np.arange(1 << 17, dtype=np.uint32).view(np.uint8).reshape(1, -1)
    result = served.infer("one", [_input("x", values)], compression_algorithm=coding)
    np.testing.assert_array_equal(result.as_numpy("x"), values)


def test_many_calls_at_once_over_one_connection(served: Served) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    for number in range(200):
        values = np.full((1, 1 + number * 500), number, np.uint8)
        served.client.async_infer(
            served.names["one"],
            [_input("x", values)],
            lambda result, error: answers.put((result, error)),
            headers=served.headers,
        )
    found = [answers.get(timeout=60) for _ in range(200)]
    assert [error for _, error in found if error is not None] == []
    arrays = [result.as_numpy("x") for result, _ in found]
    assert sorted((a.shape[1], int(a[0, 0])) for a in arrays) == [(1 + n * 500, n) for n in range(200)]


def test_system_shared_memory_both_ways(served: Served) -> None:
    client, headers = served.client, served.headers
    key = f"/triton-{secrets.token_hex(8)}"
    values = np.arange(1000, dtype=np.int32)
    region = shm.create_shared_memory_region("grpc", key, 8000)
    try:
        shm.set_shared_memory_region(region, [values])
        client.register_system_shared_memory("grpc", key, 8000, headers=headers)
        status = client.get_system_shared_memory_status("grpc", headers=headers).regions["grpc"]
        assert (status.key, status.offset, status.byte_size) == (key, 0, 8000)
        given = triton.InferInput("x", [1000], "INT32")
        given.set_shared_memory("grpc", 4000)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("grpc", 4000, offset=4000)
        output = served.infer("doubling", [given], outputs=[wanted]).get_output("y")
        assert list(output.shape) == [1000]
        doubled = shm.get_contents_as_numpy(region, np.int32, [1000], offset=4000)
        np.testing.assert_array_equal(doubled, values * 2)
        del doubled
        client.unregister_system_shared_memory("grpc", headers=headers)
        with pytest.raises(TritonError, match="grpc"):
            served.infer("doubling", [given])
    finally:
        client.unregister_system_shared_memory(headers=headers)
        shm.destroy_shared_memory_region(region)


def test_an_output_comes_as_its_largest_values(served: Served) -> None:
    wanted = triton.InferRequestedOutput("x", class_count=2)
    result = served.infer("one", [_input("x", BYTES)], outputs=[wanted])
    assert result.as_numpy("x").tolist() == [[b"250:2", b"2:1"]]


@pytest.mark.parametrize(
    ("model", "name", "array", "datatype", "code", "text"),
    [
        ("one", "nothing", BYTES, "UINT8", "INVALID_ARGUMENT", "nothing"),
        ("one", "x", BYTES.astype(np.float32), "FP32", "INVALID_ARGUMENT", "FP32"),
        ("one", "x", BYTES[0], "UINT8", "INVALID_ARGUMENT", "shape"),
        ("failing", "x", BYTES, "UINT8", "INTERNAL", "out of luck"),
    ],
)
def test_errors_have_grpcs_codes_and_our_text(
    served: Served, model: str, name: str, array: Any, datatype: str, code: str, text: str
) -> None:
    with pytest.raises(TritonError, match=text) as caught:
        served.infer(model, [_input(name, array, datatype)])
    assert caught.value.status() == f"StatusCode.{code}"


def test_unknown_models_and_missing_tokens_are_refused(served: Served) -> None:
    with pytest.raises(TritonError, match="Request for unknown model") as caught:
        served.client.infer("nothing", [_input("x", BYTES)], headers=served.headers)
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    for headers in ({}, {"authorization": "Bearer no"}):
        with pytest.raises(TritonError, match="token") as caught:
            served.client.infer(served.names["one"], [_input("x", BYTES)], headers=headers)
        assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    with pytest.raises(TritonError, match="version 1 only"):
        served.client.infer(served.names["one"], [_input("x", BYTES)], "2", headers=served.headers)


def test_a_stream_answers_in_order_and_goes_on_after_an_error(served: Served) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with triton.InferenceServerClient(served.address) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=served.headers)
        sent = [np.full((1, 1 << number), number, np.uint8) for number in range(24)]
        for number, values in enumerate(sent):
            name = "x" if number != 7 else "nothing"
            client.async_stream_infer(
                served.names["one"],
                [_input(name, values)],
                request_id=str(number),
                enable_empty_final_response=number == 3,
            )
        found = [answers.get(timeout=60) for _ in sent]
        client.stop_stream()
    for number, (result, error) in enumerate(found):
        if number == 7:
            assert "unexpected input 'nothing'" in str(error)
            continue
        assert error is None
        assert result.get_response().id == str(number)
        np.testing.assert_array_equal(result.as_numpy("x"), sent[number])
        assert ("triton_final_response" in result.get_response().parameters) is (number == 3)


def test_a_stream_that_is_cancelled_leaves_the_accelerator_working(served: Served) -> None:
    with triton.InferenceServerClient(served.address) as client:
        client.start_stream(lambda result, error: (result, error), headers=served.headers)
        for _ in range(20):
            client.async_stream_infer(served.names["slow"], [_input("x", BYTES)])
        client.stop_stream(cancel_requests=True)
    assert served.infer("one", [_input("x", BYTES)]).as_numpy("x").tolist() == BYTES.tolist()


def _num_successes(served: Served, model: str) -> int:
    name = served.names[model]
    row = served.client.get_inference_statistics(name, headers=served.headers).model_stats[0]
    return int(row.inference_stats.success.count)


def test_a_call_that_is_cancelled_while_it_waits_does_not_run(served: Served) -> None:
    before = _num_successes(served, "slow")
    done: queue.Queue[Any] = queue.Queue()
    calls = [
        served.client.async_infer(
            served.names["slow"],
            [_input("x", BYTES)],
            lambda result, error: done.put((result, error)),
            headers=served.headers,
        )
        for _ in range(3)
    ]
    for call in calls[1:]:
        call.cancel()
    errors = [done.get(timeout=60)[1] for _ in calls]
    assert sum(error is not None for error in errors) == 2
    served.infer("slow", [_input("x", BYTES)])  # its turn comes after theirs would have
    assert _num_successes(served, "slow") - before in (2, 3)  # one may have begun before it was cancelled


def test_a_deadline_is_kept_at_both_ends(served: Served) -> None:
    with pytest.raises(TritonError, match="Deadline") as caught:
        served.infer("slow", [_input("x", BYTES)], client_timeout=0.05)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    occupied = threading.Thread(target=lambda: served.infer("slow", [_input("x", BYTES)]))
    occupied.start()
    with pytest.raises(TritonError) as caught:
        served.infer("slow", [_input("x", BYTES)], timeout=1000)  # microseconds, for the accelerator alone
    occupied.join(60)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"


def test_a_model_is_unloaded_and_loaded_again(served: Served) -> None:
    client, headers, name = served.client, served.headers, served.names["half"]
    client.unload_model(name, headers=headers)
    assert not client.is_model_ready(name, headers=headers)
    client.load_model(name, headers=headers)
    assert client.is_model_ready(name, headers=headers)
    with pytest.raises(TritonError, match="failed to load"):
        client.load_model("nothing", headers=headers)
    with pytest.raises(TritonError, match="a configuration alone"):
        client.load_model("nothing", headers=headers, config="{}")


def test_settings_are_told_and_changed_as_far_as_they_can_be(served: Served) -> None:
    client, headers = served.client, served.headers
    logs = client.update_log_settings({"log_verbose_level": 1}, headers=headers)
    assert logs.settings["log_verbose_level"].uint32_param == 1
    logs = client.update_log_settings({"log_verbose_level": 0}, headers=headers)
    assert logs.settings["log_verbose_level"].uint32_param == 0
    with pytest.raises(TritonError, match="log_file is '' here"):
        client.update_log_settings({"log_file": "/tmp/x"}, headers=headers)
    assert client.get_trace_settings(headers=headers).settings["trace_level"].value == ["OFF"]
    with pytest.raises(TritonError, match="trace_rate is '1' here"):
        client.update_trace_settings(settings={"trace_rate": "5"}, headers=headers)


def test_cuda_shared_memory_has_no_regions_and_takes_none(served: Served) -> None:
    client, headers = served.client, served.headers
    assert len(client.get_cuda_shared_memory_status(headers=headers).regions) == 0
    client.unregister_cuda_shared_memory(headers=headers)
    with pytest.raises(TritonError, match="not offered"):
        client.register_cuda_shared_memory("a", b"aGFuZGxl", 0, 64, headers=headers)


def test_grpcs_own_health_check_answers(served: Served) -> None:
    request = messages.message_class("grpc.health.v1.HealthCheckRequest")
    answer = "grpc.health.v1.HealthCheckResponse"
    for service in ("", "inference.GRPCInferenceService"):
        assert served.call("/grpc.health.v1.Health/Check", request(service=service), answer).status == 1
    with pytest.raises(grpc.RpcError) as caught:
        served.call("/grpc.health.v1.Health/Check", request(service="nothing"), answer)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with grpc.insecure_channel(served.address) as channel:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.message_class(answer).FromString,
        )(request(), metadata=list(served.headers.items()), timeout=60)
        assert next(watch).status == 1
        watch.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_tells_the_services_and_their_messages(served: Served, version: str) -> None:
    package = f"grpc.reflection.{version}"
    request = messages.message_class(f"{package}.ServerReflectionRequest")
    asked = [
        request(list_services=""),
        request(file_containing_symbol="inference.GRPCInferenceService"),
        request(file_by_filename="nothing.proto"),
    ]
    with grpc.insecure_channel(served.address) as channel:
        answers = channel.stream_stream(
            f"/{package}.ServerReflection/ServerReflectionInfo",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.message_class(f"{package}.ServerReflectionResponse").FromString,
        )(iter(asked), metadata=list(served.headers.items()), timeout=60)
        services, file, missing = answers
    names = {service.name for service in services.list_services_response.service}
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names
    (proto,) = file.file_descriptor_response.file_descriptor_proto
    assert b"ModelInferRequest" in proto
    assert missing.error_response.error_code == 5


def test_methods_that_there_are_not_are_unimplemented(served: Served) -> None:
    empty = messages.message_class("inference.ServerLiveRequest")()
    with pytest.raises(grpc.RpcError) as caught:
        served.call("/inference.GRPCInferenceService/Nothing", empty, "inference.ServerLiveResponse")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_asyncio_client_infers_and_streams(served: Served) -> None:
    async def run() -> None:
        async with aio.InferenceServerClient(served.address) as client:
            assert await client.is_server_live()
            result = await client.infer(served.names["one"], [_input("x", BYTES)], headers=served.headers)
            assert result.as_numpy("x").tolist() == BYTES.tolist()

            async def requests() -> Any:
                for _ in range(5):
                    yield {"model_name": served.names["one"], "inputs": [_input("x", BYTES)]}

            answers = client.stream_infer(requests(), headers=served.headers)
            found = [result.as_numpy("x").tolist() async for result, error in answers if error is None]
            assert found == [BYTES.tolist()] * 5

    asyncio.run(run())


def test_a_unix_socket_and_http_beside_grpc_on_one_endpoint(tmp_path: Path) -> None:
    with start_accelerator(("unix:{folder}/socket", "tcp:127.0.0.1:0")) as accelerator:
        path = accelerator.endpoints[0].removeprefix("unix:")
        with triton.InferenceServerClient(f"unix:{path}") as client:
            assert client.is_server_live()
            wait_until(client.is_server_ready, "the accelerator is ready")
        model = write_model(tmp_path / "one.testing")
        place = {"address": accelerator.endpoints[0], "token": accelerator.token}
        with EIPredictor(str(model), **place) as predictor:
            assert predictor({"inputs": np.zeros((1, 2, 2, 3), np.uint8)})["outputs"].shape == (1,)


def test_tls_with_large_messages_both_ways_at_once(tmp_path: Path) -> None:
    write_certificate(tmp_path)
    cert = str(tmp_path / "cert.pem")
    frames = {"x": ("uint8", (None, None))}
    model = write_model(tmp_path / "one.testing", frames, frames)
    with start_accelerator(tls_cert=cert, tls_key=str(tmp_path / "key.pem")) as accelerator:
        port = accelerator.address.rsplit(":", 1)[1]
        place = {"address": f"tls:localhost:{port}", "token": accelerator.token, "tls_ca": cert}
        headers = {"authorization": f"Bearer {accelerator.token}"}
        with (
            EIPredictor(str(model), **place),
            triton.InferenceServerClient(f"localhost:{port}", ssl=True, root_certificates=cert) as client,
        ):
            (entry,) = client.get_model_repository_index(headers=headers).models
            answers: queue.Queue[Any] = queue.Queue()
            sent = [np.full((1, 3_000_000), number, np.uint8) for number in range(12)]
            for values in sent:
                client.async_infer(
                    entry.name,
                    [_input("x", values)],
                    lambda result, error: answers.put((result, error)),
                    headers=headers,
                )
            found = [answers.get(timeout=60) for _ in sent]
        assert [error for _, error in found if error is not None] == []
        assert sorted(int(r.as_numpy("x")[0, -1]) for r, _ in found) == list(range(12))


def test_an_accelerator_without_the_door_refuses() -> None:
    with start_accelerator(doors=("http",)) as accelerator:
        address = accelerator.address.removeprefix("tcp:")
        with triton.InferenceServerClient(address) as client, pytest.raises(TritonError):
            client.is_server_live(client_timeout=10)
