"""The process as a whole: its start, its end, its tokens, its log and how it behaves when resources run out."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import json
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from elastic_inference import EIPredictor
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.client.connection import Address, Connection
from elastic_inference.errors import (
    ConnectError,
    ConnectionLost,
    ElasticInferenceError,
    InvalidInput,
    MemoryQuotaExceeded,
    ModelError,
    PermissionDenied,
)
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from elastic_inference.testing.accelerator import launch, read_ready_line
from tests.waiting import wait_until

VECTOR = {"x": ("uint8", (None,))}


@pytest.fixture(scope="module")
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator(("tcp:127.0.0.1:0", "unix:{folder}/a.sock")) as running:
        yield running


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers what it gets."""
    return write_model(tmp_path_factory.mktemp("models") / "echo.testing", inputs=VECTOR, outputs=VECTOR)


def connect(running: RunningAccelerator, token: str | None = None) -> Connection:
    return Connection(Address(Endpoint.parse(running.address), token or running.token), 30.0)


def predictor(running: RunningAccelerator, model: Path, **more: Any) -> EIPredictor:
    return EIPredictor(model, address=running.address, token=running.token, **more)


@pytest.mark.parametrize("transport", [0, 1], ids=["tcp", "unix"])
def test_arrays_of_any_size_come_back(accelerator: RunningAccelerator, echo: Path, transport: int) -> None:
    for shared in (False, True):
        with EIPredictor(
            echo, address=accelerator.endpoints[transport], token=accelerator.token, use_shared_memory=shared
        ) as predict:
            for size in (0, 1, 1000, 65_536, 5_000_000, 100):
                value = np.random.default_rng(size).integers(0, 256, size, np.uint8)
                np.testing.assert_array_equal(predict({"x": value})["x"], value)


def test_more_tensors_than_one_system_call_takes_come_back(
    accelerator: RunningAccelerator, tmp_path: Path
) -> None:
    many = {f"x{i}": ("uint8", (1,)) for i in range(1500)}
    model = write_model(tmp_path / "many.testing", inputs=many, outputs=many)
    with predictor(accelerator, model) as predict:
        outputs = predict({name: [i % 256] for i, name in enumerate(many)})
    assert [int(outputs[name][0]) for name in many] == [i % 256 for i in range(1500)]


def test_threads_share_a_predictor(accelerator: RunningAccelerator, echo: Path) -> None:
    with predictor(accelerator, echo) as predict, ThreadPoolExecutor(8) as threads:
        values = [np.full(n * 100, n, np.uint8) for n in range(1, 200)]
        for value, outputs in zip(values, threads.map(lambda v: predict({"x": v}), values), strict=True):
            np.testing.assert_array_equal(outputs["x"], value)


def test_predictors_that_send_the_same_model_at_once_all_load(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.testing", padding="x" * 9_000_000)
    with start_accelerator() as running, ThreadPoolExecutor(4) as threads:
        for started in list(threads.map(lambda _: predictor(running, model), range(4))):
            started.close()


def test_a_body_beyond_the_memory_is_refused_with_both_figures(echo: Path) -> None:
    with (
        start_accelerator(memory_limit_bytes=600 << 20) as running,
        predictor(running, echo, use_shared_memory=False) as predict,
    ):
        with pytest.raises(MemoryQuotaExceeded) as refused:
            predict({"x": np.zeros(320 << 20, np.uint8)})
        assert refused.value.limit_bytes == 300 << 20
        assert refused.value.requested_bytes > 320 << 20
        assert predict({"x": [1, 2]})["x"].tolist() == [1, 2]


def test_many_connections_do_not_use_up_a_small_memory(echo: Path) -> None:
    """A thread's usual stack of 8 MB counts against the limit as soon as it starts."""
    with (
        start_accelerator(memory_limit_bytes=700 << 20) as running,
        predictor(running, echo) as predict,
        contextlib.ExitStack() as stack,
    ):
        held = [stack.enter_context(contextlib.closing(connect(running))) for _ in range(100)]
        for connection in held:
            assert connection.call("GET", "/v2")["name"] == "elastic-inference"
        assert predict({"x": [5]})["x"].tolist() == [5]


def test_it_accepts_again_when_file_descriptors_come_free(echo: Path) -> None:
    with start_accelerator() as running, predictor(running, echo) as predict:
        process = psutil.Process(running.pid)
        resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (process.num_fds() + 4, 4096))
        address = Endpoint.parse(running.address)
        with contextlib.ExitStack() as stack:
            for _ in range(20):  # the kernel takes them; most find no descriptor in the process
                stack.enter_context(socket.create_connection((address.host, address.port), timeout=30))
            assert predict({"x": [1]})["x"].tolist() == [1]
            wait_until(lambda: process.num_fds() >= process.rlimit(psutil.RLIMIT_NOFILE)[0])
        with contextlib.closing(connect(running)) as connection:
            assert connection.call("GET", "/v2")["name"] == "elastic-inference"


def test_the_tenant_may_not_do_what_is_the_hosts(accelerator: RunningAccelerator) -> None:
    for method, path in (("PUT", "/v2/accelerator/token"), ("POST", "/v2/accelerator/drain")):
        with (
            contextlib.closing(connect(accelerator)) as connection,
            pytest.raises(PermissionDenied, match="host"),
        ):
            connection.call(method, path, b"{}")


def test_a_new_token_takes_the_old_ones_place_on_open_connections_too(echo: Path) -> None:
    digest = hashlib.sha256(b"fresh").hexdigest()
    with start_accelerator() as running, predictor(running, echo) as predict:
        predict({"x": [1]})
        with contextlib.closing(connect(running, running.admin_token)) as admin:
            admin.call("PUT", "/v2/accelerator/token", json.dumps({"token_sha256": digest}).encode())
        with pytest.raises(PermissionDenied, match="one of its own: that of `ei attach`"):
            predict({"x": [1]})
        with contextlib.closing(connect(running, "fresh")) as connection:
            assert (
                connection.call("GET", "/v2/accelerator")["accelerator_id"] == running.config.accelerator_id
            )


def test_drain_refuses_new_requests_and_is_told_as_not_ready(echo: Path) -> None:
    with (
        start_accelerator() as running,
        predictor(running, echo, timeout_seconds=0.2) as predict,
        contextlib.closing(connect(running, running.admin_token)) as admin,
    ):
        assert admin.call("POST", "/v2/accelerator/drain", b"{}") == {"is_drained": True}
        with pytest.raises(ElasticInferenceError):
            predict({"x": [1]})
        with pytest.raises(ElasticInferenceError):
            admin.call("GET", "/v2/health/ready")
        assert admin.call("GET", "/v2/health/live") == {"live": True}


def test_sigterm_lets_the_request_that_runs_finish(tmp_path: Path) -> None:
    model = write_model(tmp_path / "slow.testing", wait_seconds=0.3)
    frame = np.zeros((1, 4, 4, 3), np.uint8)
    with (
        start_accelerator() as running,
        predictor(running, model, warm_up=False) as predict,
        contextlib.closing(connect(running)) as watching,
    ):
        answer = predict.submit({"inputs": frame})
        wait_until(lambda: watching.call("GET", "/v2/accelerator")["queue"]["num_running"] == 1)
        running.process.send_signal(signal.SIGTERM)
        assert answer.result(30)["outputs"].shape == (1,)
        assert running.process.wait(30) == 0


@contextlib.contextmanager
def restarted(first: RunningAccelerator, **changes: Any) -> Iterator[None]:
    """Kill an accelerator and start it again with (nearly) the same configuration."""
    first.process.kill()
    first.process.wait(30)
    again = launch(replace(first.config, **changes))
    assert again.stdout is not None
    with again.stdout:
        try:
            read_ready_line(again)
            yield
        finally:
            again.terminate()
            assert again.wait(30) == 0


@pytest.mark.parametrize("store", ["store", "lost"])
def test_a_predictor_goes_on_when_its_accelerator_was_restarted(
    tmp_path: Path, echo: Path, store: str
) -> None:
    """Where the store was lost, the predictor sends the model again."""
    with (
        start_accelerator((f"unix:{tmp_path}/a.sock",), store_dir=str(tmp_path / "store")) as first,
        predictor(first, echo) as predict,
        restarted(first, store_dir=str(tmp_path / store)),
    ):
        assert predict({"x": [3]})["x"].tolist() == [3]


def test_a_port_that_is_taken_ends_the_start_with_a_clear_error(accelerator: RunningAccelerator) -> None:
    with pytest.raises(ConnectError, match="in use"), start_accelerator((accelerator.address,)):
        pass


MISSING = object()


def configuration(**changes: object) -> str:
    fields = {"accelerator_id": f"eia-{'0' * 32}", "listen": ["unix:/a"], "store_dir": "/b", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not MISSING})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "not JSON"),
        ("[1]", "JSON object"),
        ('{"accelerator_id": "a", "listen": [], "colour": 1}', "unknown field 'colour'"),
        (configuration(listen=MISSING), "field 'listen' is missing; it must be a list"),
        (
            configuration(accelerator_id="../x"),
            "accelerator_id must be 'eia-' and 32 hexadecimal digits, not '../x'",
        ),
        (configuration(listen="unix:/a"), "listen must be a list, not 'unix:/a'"),
        (configuration(listen=["unix:/a", 3]), "listen[1] must be a string, not 3"),
        (configuration(num_threads="2"), "num_threads must be an integer or null, not '2'"),
        (configuration(num_threads=True), "num_threads must be an integer or null, not True"),
        (configuration(num_threads=0), "num_threads must be 1 to 1024, not 0"),
        (configuration(compute_share=float("nan")), "compute_share must be a number or null, not nan"),
        (configuration(compute_share=1.5), "compute_share must be above 0 and up to 1, not 1.5"),
        (configuration(limits={"cores": 2}), "limits['cores'] must be a string, not 2"),
        (configuration(queue_limit=0), "queue_limit must be 1 or more, not 0"),
        (configuration(token_sha256="secret"), "token_sha256 must be a SHA-256 in 64 hexadecimal digits"),
        (configuration(tls_cert="/a.pem"), "tls_key must be given exactly where tls_cert is"),
    ],
)
def test_a_configuration_that_is_none_ends_the_start_with_a_clear_error(line: str, text: str) -> None:
    command = [sys.executable, "-m", "elastic_inference.accelerator"]
    ended = subprocess.run(
        command, input=line + "\n", capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 1
    assert text in json.loads(ended.stdout)["error"]
    assert ended.stderr == ""


def test_a_store_that_cannot_be_made_ends_the_start_with_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ElasticInferenceError, match="cannot start"),
        start_accelerator(store_dir=str(tmp_path / "file" / "store")),
    ):
        pass


def test_tls_files_that_are_none_end_the_start_with_a_clear_error(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidInput, match="TLS files"),
        start_accelerator(tls_cert=str(tmp_path / "no.pem"), tls_key=str(tmp_path / "no.key")),
    ):
        pass


def test_failed_requests_are_logged_with_the_clients_id(tmp_path: Path) -> None:
    model = write_model(tmp_path / "failing.testing", fail="the sum is wrong", inputs=VECTOR)
    config = AcceleratorConfig(f"eia-{'0' * 32}", ("tcp:127.0.0.1:0",), str(tmp_path / "store"))
    process = subprocess.Popen(
        [sys.executable, "-m", "elastic_inference.testing"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(config.to_json() + "\n")
    process.stdin.flush()
    try:
        ready = read_ready_line(process)
        address = ready["endpoints"][0]
        with EIPredictor(model, address=address) as predict, pytest.raises(ModelError, match="sum is wrong"):
            predict({"x": [1]})
        connection = Connection(Address(Endpoint.parse(address)), 30.0)
        with contextlib.closing(connection), pytest.raises(ElasticInferenceError):
            connection.call("GET", "/v2/models/none", headers={"X-Request-Id": "mine-7"})
    finally:
        process.terminate()
        _, log = process.communicate(timeout=30)
    records = [json.loads(line) for line in log.splitlines()]
    refused = [record for record in records if record["message"] == "request refused"]
    assert [(r["level"], r["status"], r["request_id"]) for r in refused] == [
        ("ERROR", 500, None),
        ("INFO", 404, "mine-7"),
    ]
    assert refused[0]["error"] == "the sum is wrong"


def test_tls_carries_large_and_small_arrays(tmp_path: Path, echo: Path) -> None:
    cert, key = write_certificate(tmp_path)
    with start_accelerator(tls_cert=str(cert), tls_key=str(key)) as running:
        assert running.address.startswith("tls:127.0.0.1:")
        with EIPredictor(echo, address=running.address, token=running.token, tls_ca=str(cert)) as predict:
            for size in (0, 10, 70_000, 3_000_000):
                value = np.random.default_rng(size).integers(0, 256, size, np.uint8)
                np.testing.assert_array_equal(predict({"x": value})["x"], value)
        with pytest.raises(ConnectError, match="certificate"):
            EIPredictor(echo, address=running.address, token=running.token)
        address = Endpoint.parse(running.address)
        with socket.create_connection((address.host, address.port), timeout=30) as plain:
            plain.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(100).startswith(b"HTTP")


def test_a_client_without_the_certificate_that_is_asked_for_is_refused(tmp_path: Path, echo: Path) -> None:
    cert, key = write_certificate(tmp_path)
    with start_accelerator(tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(cert)) as running:
        options = {"address": running.address, "token": running.token, "tls_ca": str(cert)}
        with EIPredictor(echo, tls_cert=str(cert), tls_key=str(key), **options) as predict:
            assert predict({"x": [9]})["x"].tolist() == [9]
        with pytest.raises((ConnectError, ConnectionLost)):
            EIPredictor(echo, **options)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key.write_bytes(private.private_bytes(*form))
    return cert, key


def test_it_says_what_computes_a_model_and_where_the_time_of_its_requests_went(echo: Path) -> None:
    with start_accelerator() as running, predictor(running, echo) as predict:
        for value in range(5):
            predict({"x": [value]})
        with contextlib.closing(connect(running)) as connection:
            said = connection.call("GET", "/v2/accelerator")
        (model,) = said["models"]
        assert (model["engine"], model["precision"]) == (predict.report.engine, predict.report.precision)
        assert said["latency"]["num_requests"] == model["num_by_outcome"]["success"] == 5
        slowest = said["latency"]["p99"]
        parts = slowest["queue_seconds"] + slowest["service_seconds"] + slowest["wire_seconds"]
        assert parts == pytest.approx(slowest["total_seconds"])
        assert slowest["wire_seconds"] > 0
        assert said["lease"] is None
