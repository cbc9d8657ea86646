"""Every public method of one of NVIDIA's clients, each with what it must answer.

`python triton.py http|http.aio|grpc|grpc.aio ADDRESS TOKEN MODEL`; the model gives back its input `x`, uint8[-1, -1].
Prints, as JSON, the public methods that were not called.
"""

import asyncio
import importlib
import inspect
import json
import queue
import secrets
import sys

import numpy as np
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

KIND, ADDRESS, TOKEN, MODEL = sys.argv[1:]
triton = importlib.import_module(f"tritonclient.{KIND}")
IS_GRPC, IS_ASYNC = KIND.startswith("grpc"), KIND.endswith("aio")
HEADERS = {"authorization": f"Bearer {TOKEN}"}
VALUES = np.arange(200, dtype=np.uint8).reshape(2, 100)
called = set()
loop = asyncio.new_event_loop()


def finished(value):
    return loop.run_until_complete(value) if inspect.isawaitable(value) else value


def call(name, *arguments, **more):
    """Call a method with the token, and wait for it where it is a coroutine."""
    called.add(name)
    return finished(getattr(client, name)(*arguments, headers=dict(HEADERS), **more))


def plain(value):
    """A message of gRPC as the JSON that HTTP answers with."""
    if not IS_GRPC:
        return value
    from google.protobuf import json_format

    return json_format.MessageToDict(value, preserving_proto_field_name=True)


def refused(text, name, *arguments, **more):
    try:
        call(name, *arguments, **more)
    except InferenceServerException as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"{name} was not refused")


def given(values=VALUES, name="x"):
    tensor = triton.InferInput(name, list(values.shape), "UINT8")
    tensor.set_data_from_numpy(values)
    return [tensor]


def health_and_metadata():
    for name in ("is_server_live", "is_server_ready"):
        called.add(name)
        assert finished(getattr(client, name)()) is True
    assert call("is_model_ready", MODEL) is True
    assert call("is_model_ready", "nothing") is False
    assert plain(call("get_server_metadata"))["name"] == "elastic-inference"
    assert plain(call("get_model_metadata", MODEL))["inputs"][0]["name"] == "x"
    config = plain(call("get_model_config", MODEL))
    assert (config.get("config") or config)["input"][0]["data_type"] == "TYPE_UINT8"
    refused("Request for unknown model", "get_model_metadata", "nothing")


def repository():
    def states():
        index = plain(call("get_model_repository_index"))
        return {row["name"]: row["state"] for row in (index["models"] if IS_GRPC else index)}

    assert states()[MODEL] == "READY"
    call("unload_model", MODEL)
    assert states()[MODEL] == "UNAVAILABLE"
    call("load_model", MODEL)
    assert states()[MODEL] == "READY"
    refused("failed to load", "load_model", "nothing")


def inference():
    result = call("infer", MODEL, given(), request_id="7")
    np.testing.assert_array_equal(result.as_numpy("x"), VALUES)
    wanted = [triton.InferRequestedOutput("x", class_count=1)]
    assert call("infer", MODEL, given(), outputs=wanted).as_numpy("x").tolist() == [[b"99:99"], [b"199:99"]]
    for coding in ("gzip", "deflate"):
        name = "compression_algorithm" if IS_GRPC else "request_compression_algorithm"
        np.testing.assert_array_equal(call("infer", MODEL, given(), **{name: coding}).as_numpy("x"), VALUES)
    refused("unexpected input 'z'", "infer", MODEL, given(name="z"))
    refused("Request for unknown model", "infer", "nothing", given())
    row = plain(call("get_inference_statistics", MODEL))["model_stats"][0]
    assert int(row["inference_stats"]["success"]["count"]) >= 4


def at_once():
    if IS_ASYNC:
        return
    called.add("async_infer")
    if IS_GRPC:
        answers = queue.Queue()
        for _ in range(20):
            client.async_infer(
                MODEL, given(), lambda result, error: answers.put((result, error)), headers=HEADERS
            )
        found = [answers.get(timeout=60) for _ in range(20)]
        assert [error for _, error in found if error] == []
        results = [result for result, _ in found]
    else:
        pending = [client.async_infer(MODEL, given(), headers=dict(HEADERS)) for _ in range(20)]
        results = [each.get_result() for each in pending]
    for result in results:
        np.testing.assert_array_equal(result.as_numpy("x"), VALUES)


def streams():
    if not IS_GRPC:
        return
    if IS_ASYNC:
        called.add("stream_infer")

        async def run():
            async def requests():
                for number in range(10):
                    name = "z" if number == 5 else "x"
                    yield {"model_name": MODEL, "inputs": given(name=name), "request_id": str(number)}

            return [pair async for pair in client.stream_infer(requests(), headers=HEADERS)]

        found = loop.run_until_complete(run())
    else:
        called.update(("start_stream", "async_stream_infer", "stop_stream"))
        answers = queue.Queue()
        client.start_stream(lambda result, error: answers.put((result, error)), headers=HEADERS)
        for number in range(10):
            client.async_stream_infer(MODEL, given(name="z" if number == 5 else "x"), request_id=str(number))
        found = [answers.get(timeout=60) for _ in range(10)]
        client.stop_stream()
    assert [place for place, (_, error) in enumerate(found) if error] == [5]
    assert [r.get_response().id for r, error in found if not error] == list("012346789")


def shared_memory():
    key = f"/clients-{secrets.token_hex(8)}"
    region = shm.create_shared_memory_region("both", key, 400)
    try:
        shm.set_shared_memory_region(region, [VALUES])
        call("register_system_shared_memory", "both", key, 400)
        status = plain(call("get_system_shared_memory_status"))
        rows = list(status["regions"].values()) if IS_GRPC else status
        assert [(row["name"], int(row["byte_size"])) for row in rows if row["name"] == "both"] == [
            ("both", 400)
        ]  # a predictor's own region may be beside it
        tensor = triton.InferInput("x", [2, 100], "UINT8")
        tensor.set_shared_memory("both", 200)
        output = triton.InferRequestedOutput("x")
        output.set_shared_memory("both", 200, offset=200)
        call("infer", MODEL, [tensor], outputs=[output])
        back = shm.get_contents_as_numpy(region, np.uint8, [2, 100], offset=200)
        np.testing.assert_array_equal(back, VALUES)
        del back
        call("unregister_system_shared_memory", "both")
    finally:
        call("unregister_system_shared_memory")
        shm.destroy_shared_memory_region(region)
    assert not plain(call("get_cuda_shared_memory_status"))
    call("unregister_cuda_shared_memory")
    refused("CUDA shared memory is not offered", "register_cuda_shared_memory", "a", b"aGFuZGxl", 0, 64)


def settings():
    call("update_log_settings", {"log_verbose_level": 1})
    call("update_log_settings", {"log_verbose_level": 0})
    assert "log_info" in json.dumps(plain(call("get_log_settings")))
    assert "OFF" in json.dumps(plain(call("get_trace_settings")))
    refused("trace_rate is '1' here", "update_trace_settings", settings={"trace_rate": "5"})


def plugins():
    class Token(importlib.import_module("tritonclient._plugin").InferenceServerClientPlugin):
        def __call__(self, request):
            request.headers["authorization"] = f"Bearer {TOKEN}"

    called.update(("register_plugin", "plugin", "unregister_plugin"))
    client.register_plugin(Token())
    assert client.plugin() is not None
    np.testing.assert_array_equal(finished(client.infer(MODEL, given())).as_numpy("x"), VALUES)
    client.unregister_plugin()


def bodies():
    if IS_GRPC:
        return
    called.update(("generate_request_body", "parse_response_body"))
    body, json_size = triton.InferenceServerClient.generate_request_body(given())
    import urllib.request

    headers = HEADERS | {"Inference-Header-Content-Length": str(json_size)}
    request = urllib.request.Request(f"http://{ADDRESS}/v2/models/{MODEL}/infer", bytes(body), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        length = answer.headers["Inference-Header-Content-Length"]
        result = triton.InferenceServerClient.parse_response_body(
            answer.read(), header_length=None if length is None else int(length)
        )
    np.testing.assert_array_equal(result.as_numpy("x"), VALUES)


async def connect():
    return triton.InferenceServerClient(ADDRESS)


asyncio.set_event_loop(loop)
client = loop.run_until_complete(connect())
for part in (
    health_and_metadata, repository, inference, at_once, streams, shared_memory, settings, plugins, bodies,
):  # fmt: skip
    part()
called.add("close")
finished(client.close())
public = {name for name in dir(triton.InferenceServerClient) if not name.startswith("_")}
print(json.dumps(sorted(public - called)))
