"""`ei serve`: versions, broken models, looks at the folder, commands, doors, readiness, leaving. Real clients ask."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException as TritonError

from elastic_inference import EIPredictor
from elastic_inference.testing import write_model
from tests.integration.serve_process import Serving, serving, start, wait_for
from tests.integration.small_models import expected, write_saved_model
from tests.waiting import read_line, wait_until

X = np.array([[1, 2, 3, 4]], np.float32)
TENSOR = {"x": ("uint8", (None, None))}


def answer(served: Serving, name: str, version: str = "") -> Any:
    """What Triton's HTTP client gets for X."""
    with triton_http.InferenceServerClient(served.endpoints["http"]) as client:
        x = triton_http.InferInput("x", [1, 4], "FP32")
        x.set_data_from_numpy(X)
        return client.infer(name, [x], model_version=version).as_numpy("outputs")


def want(seed: int) -> Any:
    return expected(seed, "serving_default", X)["outputs"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Three versions of one model, of the seeds 1 to 3."""
    for version in (1, 2, 3):
        write_saved_model(tmp_path / "models" / "linear" / str(version), version)
    return tmp_path / "models"


def test_the_newest_version_answers_and_others_where_settings_say_so(models: Path, tmp_path: Path) -> None:
    (models / "linear" / "model.toml").write_text("versions = 2\nproof = 'off'\n")
    write_saved_model(models / "plain", 9)
    with serving(models, "--http", "0", "--grpc", "0", scratch=tmp_path) as served:
        assert {(m["name"], m["version"], m["state"]) for m in served.models} == {
            ("linear", "3", "READY"),
            ("linear", "2", "READY"),
            ("plain", "1", "READY"),
        }
        assert {m["engine"] for m in served.models} == {"openvino"}
        np.testing.assert_allclose(answer(served, "linear"), want(3), rtol=1e-5)
        np.testing.assert_allclose(answer(served, "linear", "2"), want(2), rtol=1e-5)
        np.testing.assert_allclose(answer(served, "plain"), want(9), rtol=1e-5)
        with pytest.raises(TritonError, match="has version 2, 3 only"):
            answer(served, "linear", "1")
        with triton_grpc.InferenceServerClient(served.endpoints["grpc"]) as client:
            assert list(client.get_model_metadata("linear").versions) == ["2", "3"]
            assert client.is_model_ready("linear", "2")
            assert not client.is_model_ready("linear", "1")
            x = triton_grpc.InferInput("x", [1, 4], "FP32")
            x.set_data_from_numpy(X)
            result = client.infer("linear", [x], model_version="2")
            assert result.get_response().model_version == "2"
            np.testing.assert_allclose(result.as_numpy("outputs"), want(2), rtol=1e-5)
            assert client.infer("linear", [x]).get_response().model_version == "3"


def test_an_alias_is_the_newest_version_and_never_another_models_name(models: Path, tmp_path: Path) -> None:
    (models / "linear" / "model.toml").write_text("versions = 'all'\nproof = 'off'\n")
    write_saved_model(models / "plain", 9)
    with serving(models, "--http", "0", scratch=tmp_path) as served:
        for name in ("plain", "linear"):
            status, body = served.ask(f"/v2/repository/models/{name}/alias", {"of": "linear"})
            assert (status, body["error"]) == (
                400,
                f"{name!r} is a model's own name; unload that model first",
            )
        assert served.ask("/v2/repository/models/current/alias", {"of": "linear"})[0] == 200
        assert served.index()[("current", "3")] == {
            "name": "current", "version": "3", "state": "READY", "reason": "alias of linear"
        }  # fmt: skip
        np.testing.assert_allclose(answer(served, "current"), want(3), rtol=1e-5)
        np.testing.assert_allclose(answer(served, "plain"), want(9), rtol=1e-5)


def test_a_broken_model_stops_no_other_and_says_why(models: Path, tmp_path: Path) -> None:
    (models / "cut").mkdir()
    (models / "cut" / "model.onnx").write_bytes(b"no model")
    (models / "wrong").mkdir()
    (models / "wrong" / "model.toml").write_text("engin = 'openvino'\n")
    (models / "empty").mkdir()
    with serving(models, "--http", "0", "--poll", "50ms", scratch=tmp_path) as served:
        index = served.index()
        assert index[("linear", "3")]["state"] == "READY"
        assert "is not an ONNX model" in index[("cut", "1")]["reason"]
        assert "unknown field 'engin'" in index[("wrong", "")]["reason"]
        assert "holds no model" in index[("empty", "1")]["reason"]
        assert {m["reason"] for m in served.models} == {row["reason"] for row in index.values()}
        assert served.ask("/v2/health/ready")[0] == 200
        status, body = served.ask("/v2/models/cut")
        assert (status, "is not an ONNX model" in body["error"]) == (503, True)
        assert served.ask("/v2/models/nothing")[0] == 404
        for name in ("later", "last"):  # the folder is looked at again and again meanwhile
            write_saved_model(models / name, 6)
            wait_for(served, name, "1")
        lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
        told = [line["model"] for line in lines if line["message"] == "a model cannot be served"]
        assert sorted(told) == ["cut", "empty", "wrong"]  # once, not at each look


def test_looks_at_the_folder_find_what_is_new_changed_and_gone(models: Path, tmp_path: Path) -> None:
    with serving(models, "--http", "0", "--poll", "50ms", scratch=tmp_path) as served:
        write_saved_model(tmp_path / "aside", 4)
        (tmp_path / "aside").rename(models / "linear" / "4")
        wait_for(served, "linear", "4")
        wait_until(lambda: ("linear", "3") not in served.index(), "version 3 to go")
        np.testing.assert_allclose(answer(served, "linear"), want(4), rtol=1e-5)

        (models / "linear" / "5").mkdir()
        (models / "linear" / "5" / "saved_model.pb").write_bytes(b"no model")
        wait_for(served, "linear", "5", "UNAVAILABLE")
        np.testing.assert_allclose(answer(served, "linear"), want(4), rtol=1e-5)
        shutil.rmtree(models / "linear" / "5")
        wait_until(lambda: ("linear", "5") not in served.index(), "version 5 to be forgotten")

        write_saved_model(tmp_path / "aside", 8)
        shutil.copyfile(tmp_path / "aside" / "saved_model.pb", models / "linear" / "4" / "saved_model.pb")
        wait_until(
            lambda: np.allclose(answer(served, "linear"), want(8), rtol=1e-5), "the changed files to answer"
        )

        write_saved_model(models / "second", 6)
        wait_for(served, "second", "1")
        shutil.rmtree(models / "second")
        wait_until(lambda: ("second", "1") not in served.index(), "the second model to go")
        assert served.ask("/v2/models/second")[0] == 404


def test_models_are_loaded_and_unloaded_by_command(models: Path, tmp_path: Path) -> None:
    with (
        serving(models, "--http", "0", "--poll", "50ms", scratch=tmp_path) as served,
        triton_http.InferenceServerClient(served.endpoints["http"]) as client,
    ):
        client.unload_model("linear")
        assert not client.is_model_ready("linear")
        write_saved_model(models / "linear" / "4", 4)
        write_saved_model(models / "other", 5)
        wait_for(served, "other", "1")  # two looks later the unloaded one is still unloaded
        assert {row["name"]: row["state"] for row in client.get_model_repository_index()} == {
            "linear": "UNAVAILABLE",
            "other": "READY",
        }
        client.load_model("linear")
        np.testing.assert_allclose(answer(served, "linear"), want(4), rtol=1e-5)
        client.load_model("linear", config=json.dumps({"version_policy": {"specific": {"versions": [1, 2]}}}))
        assert client.get_model_metadata("linear")["versions"] == ["1", "2"]
        with pytest.raises(TritonError, match="sequence_batching is not offered"):
            client.load_model("linear", config='{"sequence_batching": {}}')
        with pytest.raises(TritonError, match="no model of that name"):
            client.load_model("nothing")


def test_no_request_fails_while_its_model_is_replaced(models: Path, tmp_path: Path) -> None:
    with serving(models, scratch=tmp_path) as served:
        failures: list[BaseException] = []
        answers: list[bytes] = []
        stopping = threading.Event()

        def ask() -> None:
            while not stopping.is_set():
                try:
                    answers.append(answer(served, "linear").tobytes())
                except Exception as error:
                    failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for version in range(4, 10):
            write_saved_model(models / "linear" / str(version), version)
            assert served.ask("/v2/repository/models/linear/load", {})[0] == 200
        stopping.set()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert len({*answers}) > 1


def test_a_folder_that_is_one_model_says_so_and_settings_at_its_root_take_no_others_away(
    models: Path, tmp_path: Path
) -> None:
    with serving(models / "linear", "--http", "0", scratch=tmp_path) as served:
        why = "is this one model: it holds numbered versions alone"
        assert [why in m["reason"] for m in served.models] == [True]
        with triton_http.InferenceServerClient(served.endpoints["http"]) as client:
            assert [why in row["reason"] for row in client.get_model_repository_index()] == [True]
    with serving(models, "--http", "0", "--poll", "100ms", scratch=tmp_path) as served:
        assert {m["reason"] for m in served.models} == {""}
        write_saved_model(models / "plain", 9)
        (models / "model.toml").write_text("")
        with triton_http.InferenceServerClient(served.endpoints["http"]) as client:
            with pytest.raises(TritonError, match="other models lie in it: linear, plain; move"):
                client.load_model("plain")
            np.testing.assert_allclose(answer(served, "linear"), want(3), rtol=1e-5)
            (models / "model.toml").unlink()
            wait_until(lambda: client.is_model_ready("plain"), "the folder is looked at again")


def test_doors_that_are_closed_are_not_there(models: Path, tmp_path: Path) -> None:
    with serving(models, "--sagemaker", "0", "--tf-serving", "0,0", scratch=tmp_path) as served:
        assert served.ask("/ping", door="sagemaker") == (200, "")
        assert served.ask("/invocations", [[1, 2, 3, 4]], door="sagemaker")[0] == 200
        for path in ("/v2/models/linear", "/v2/health/live", "/v1/models/linear", "/metrics"):
            assert served.ask(path, door="sagemaker")[0] == 404
        assert served.ask("/ping", door="tensorflow-serving")[0] == 404
        assert served.ask("/v1/models/linear", door="tensorflow-serving")[0] == 200
        with (
            triton_grpc.InferenceServerClient(served.endpoints["tensorflow-serving"]) as client,
            pytest.raises(TritonError, match="no such method"),
        ):
            client.get_model_metadata("linear", client_timeout=30)


def test_clients_show_the_token(models: Path, tmp_path: Path) -> None:
    with serving(models, "--http", "0", "--token", "secret", scratch=tmp_path) as served:
        assert served.ask("/v2/models/linear")[0] == 401
        assert served.ask("/v2/models/linear", token="wrong")[0] == 401
        assert served.ask("/v2/models/linear", token="secret")[0] == 200


def test_eipredictor_brings_a_model_of_its_own(models: Path, tmp_path: Path) -> None:
    own = write_saved_model(tmp_path / "own", 7)
    with (
        serving(models, scratch=tmp_path) as served,
        EIPredictor(own, address=f"tcp:{served.endpoints['http']}", name="mine") as predictor,
    ):
        np.testing.assert_allclose(predictor({"x": X})["outputs"], want(7), rtol=1e-5)
        np.testing.assert_allclose(answer(served, "mine"), want(7), rtol=1e-5)


def test_it_is_ready_when_all_is_loaded_and_not_before(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "models").mkdir()
    write_model(tmp_path / "models" / "a.testing", TENSOR, TENSOR)
    write_model(tmp_path / "models" / "slow.testing", TENSOR, TENSOR, until_gone=str(gate))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
    process = start(tmp_path / "models", "--http", port, log=tmp_path / "log", cache=tmp_path / "cache")
    served = Serving(process, tmp_path / "log", {"http": f"127.0.0.1:{port}"}, [])
    try:
        wait_until(lambda: _is_listening(port), "the port to be open")
        wait_for(served, "a", "1")
        assert served.ask("/v2/health/live")[0] == 200
        assert served.ask("/v2/health/ready")[0] == 503
        gate.unlink()
        assert json.loads(read_line(process))["models"]
        assert served.ask("/v2/health/ready")[0] == 200
    finally:
        gate.unlink(missing_ok=True)
        assert served.end() == 0
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_what_it_has_begun_before_it_leaves(tmp_path: Path, number: int) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "models" / "slow").mkdir(parents=True)
    write_model(tmp_path / "models" / "slow" / "m.testing", TENSOR, TENSOR, until_gone=str(gate))
    request = {"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]}]}
    with serving(tmp_path / "models", scratch=tmp_path) as served:
        gate.touch()
        found: list[int] = []
        thread = threading.Thread(
            target=lambda: found.append(served.ask("/v2/models/slow/infer", request)[0])
        )
        thread.start()
        wait_until(
            lambda: served.ask("/v2/accelerator")[1]["queue"]["num_running"] == 1, "the request to run"
        )
        served.process.send_signal(number)
        wait_until(lambda: served.ask("/v2/health/ready")[0] == 503, "it to say that it leaves")
        assert found == []
        gate.unlink()
        thread.join(60)
        assert found == [200]
        assert served.process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--http", "many"], "--http 'many' is not a port"),
        (["--tf-serving", "8500"], "--tf-serving '8500' is not two ports"),
        (["--poll", "often"], "duration 'often'"),
        (["--token", ""], "--token must not be empty"),
        (["--tls-cert", "absent.pem"], "tls_key must be given exactly where tls_cert is"),
    ],
)
def test_wrong_options_are_named(models: Path, tmp_path: Path, arguments: list[str], text: str) -> None:
    process = start(models, *arguments, log=tmp_path / "log", cache=tmp_path / "cache")
    assert process.wait(60) == 2
    assert process.stdout is not None
    process.stdout.close()
    assert text in json.loads((tmp_path / "log").read_text())["error"]


def test_a_folder_that_is_none_and_a_port_that_is_taken_are_told(models: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for folder, port, code in ((tmp_path / "none", 0, 2), (models, listener.getsockname()[1], 5)):
            process = start(folder, "--http", str(port), log=tmp_path / "log", cache=tmp_path / "cache")
            assert process.wait(60) == code, (tmp_path / "log").read_text()
            assert process.stdout is not None
            process.stdout.close()


def _is_listening(port: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=10).close()
    except OSError:
        return False
    return True
