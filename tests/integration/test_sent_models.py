"""Loads that bring their files, as Triton's clients send them, over HTTP and gRPC."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException as TritonError

from elastic_inference.testing import RunningAccelerator, start_accelerator
from tests.integration.serve_process import ask_at, serving, wait_for
from tests.integration.small_models import expected, write_saved_model

X = np.array([[1, 2, 3, 4]], np.float32)
KINDS = {"http": triton_http, "grpc": triton_grpc}


class Client:
    """Triton's client of one kind, with a token."""

    def __init__(self, kind: str, address: str, token: str = "") -> None:
        self._module = KINDS[kind]
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self.raw = self._module.InferenceServerClient(address)

    def load(self, name: str, files: dict[str, bytes] | None = None, **config: Any) -> None:
        text = json.dumps(config) if config or files else None
        named = None if files is None else {f"file:{path}": content for path, content in files.items()}
        self.raw.load_model(name, headers=self.headers, config=text, files=named)

    def versions(self, name: str) -> list[str]:
        found = self.raw.get_model_metadata(name, headers=self.headers)
        return list(found["versions"] if isinstance(found, dict) else found.versions)

    def answer(self, name: str, version: str = "") -> Any:
        x = self._module.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(X)
        found = self.raw.infer(name, [x], headers=self.headers, model_version=version)
        return found.as_numpy("outputs")


@contextmanager
def clients(kind: str, running: RunningAccelerator) -> Iterator[Client]:
    client = Client(kind, running.address.removeprefix("tcp:"), running.token)
    try:
        yield client
    finally:
        client.raw.close()


@pytest.fixture(scope="module")
def running() -> Iterator[RunningAccelerator]:
    with start_accelerator() as accelerator:
        yield accelerator


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Models by their seed."""
    folder = tmp_path_factory.mktemp("saved")
    return {
        seed: (write_saved_model(folder / str(seed), seed) / "saved_model.pb").read_bytes()
        for seed in range(1, 6)
    }


def check(client: Client, name: str, seed: int, version: str = "") -> None:
    wanted = expected(seed, "serving_default", X)["outputs"]
    np.testing.assert_allclose(client.answer(name, version), wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_comes_with_its_load_and_is_replaced_by_the_next(
    running: RunningAccelerator, saved: dict[int, bytes], kind: str
) -> None:
    name = f"sent-{kind}"
    with clients(kind, running) as client:
        client.load(name, {"1/model.savedmodel/saved_model.pb": saved[1]})
        check(client, name, 1)
        files = {"1/saved_model.pb": saved[2], "2/saved_model.pb": saved[3], "7/saved_model.pb": saved[4]}
        client.load(name, files, version_policy={"latest": {"num_versions": 2}})
        assert client.versions(name) == ["2", "7"]
        check(client, name, 4)
        check(client, name, 3, "2")
        client.load(name, max_batch_size=4)  # another configuration of what came before
        config = client.raw.get_model_config(name, headers=client.headers)
        assert (config["max_batch_size"] if kind == "http" else config.config.max_batch_size) == 4
        assert client.versions(name) == ["2", "7"]
        with pytest.raises(TritonError, match=r"the configuration names input 'z'; the model has x"):
            client.load(name, input=[{"name": "z", "data_type": "TYPE_FP32", "dims": [-1, 4]}])
        with pytest.raises(TritonError, match="saved_model"):
            client.load(name, {"9/saved_model.pb": b"no model"})
        check(client, name, 4)  # what was served goes on
        client.raw.unload_model(name, headers=client.headers)
        assert not client.raw.is_model_ready(name, headers=client.headers)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"file:../x.onnx": "AAAA"}, "must be a path within the model's folder"),
        ({"file:/x.onnx": "AAAA"}, "must be a path within the model's folder"),
        ({"file:": "AAAA"}, "must be a path within the model's folder"),
        ({"file:1/a/../x.onnx": "AAAA"}, "must be a path within the model's folder"),
        ({"file:1/x.onnx": "not base64"}, "is no base64"),
        ({"file:1/x.onnx": 3}, "must be bytes"),
        ({"file:1/x": "AAAA", "file:1/x/y": "AAAA"}, "cannot be laid out"),
        ({"file:1/readme.txt": "AAAA"}, "holds no model"),
        ({"file:1/cut.onnx": "AAAA"}, "wrong/1/cut.onnx is not an ONNX model"),
        ({"config": "{"}, "config is not JSON"),
        ({"config": "[]"}, "config must be a JSON object"),
        ({"config": '{"parameters": {"a": {"string_value": "b"}}}'}, "parameters is not offered"),
        ({"config": "{}"}, "there is none of that name"),
        ({"made_up": True}, "unknown parameter 'made_up'"),
        ({}, "no model of that name"),
    ],
)
def test_a_load_that_is_wrong_is_refused_by_name(
    running: RunningAccelerator, parameters: dict[str, Any], text: str
) -> None:
    status, answer = ask(running, "wrong", parameters)
    assert status in (400, 404)
    assert text in answer["error"]
    assert str(running.config.store_dir) not in answer["error"]


def test_it_is_there_again_after_a_restart(tmp_path: Path, saved: dict[int, bytes]) -> None:
    files = {
        f"file:{version}/saved_model.pb": base64.b64encode(saved[version]).decode() for version in (1, 2)
    }
    config = json.dumps({"version_policy": {"all": {}}})
    with start_accelerator(store_dir=str(tmp_path / "store")) as accelerator:
        assert ask(accelerator, "kept", {**files, "config": config})[0] == 200
    with (
        start_accelerator(store_dir=str(tmp_path / "store")) as accelerator,
        clients("http", accelerator) as client,
    ):
        check(client, "kept", 2)
        check(client, "kept", 1, "1")
        assert client.versions("kept") == ["1", "2"]


def test_files_that_were_sent_go_before_those_of_the_folder_until_a_load_without(
    tmp_path: Path, saved: dict[int, bytes]
) -> None:
    write_saved_model(tmp_path / "models" / "m" / "1", 1)
    with serving(tmp_path / "models", "--http", "0", "--poll", "50ms", scratch=tmp_path) as served:
        client = Client("http", served.endpoints["http"])
        client.load("m", {"1/saved_model.pb": saved[3]})
        write_saved_model(tmp_path / "models" / "m" / "2", 2)
        write_saved_model(tmp_path / "models" / "other", 5)
        wait_for(served, "other", "1")
        check(client, "m", 3)
        client.load("m")
        check(client, "m", 2)
        client.raw.close()


def ask(running: RunningAccelerator, name: str, parameters: dict[str, Any]) -> tuple[int, Any]:
    return ask_at(
        f"http://{running.address.removeprefix('tcp:')}/v2/repository/models/{name}/load",
        {"parameters": parameters},
        running.token,
    )
