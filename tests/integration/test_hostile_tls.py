"""An endpoint that speaks TLS, met by clients that do not, that stop in the handshake or that trust someone else."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from benchmarks.dataplane.certificate import write_certificate

from elastic_inference import EIPredictor
from elastic_inference.errors import ConnectError
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model


@dataclass(frozen=True)
class TlsTarget:
    """An accelerator whose one endpoint speaks TLS, and where its certificate and a model lie."""

    accelerator: RunningAccelerator
    folder: Path

    @property
    def port(self) -> int:
        return int(self.accelerator.address.rsplit(":", 1)[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def predictor(self, ca: Path) -> EIPredictor:
        address = f"tls:localhost:{self.port}"
        model = str(self.folder / "model.testing")
        return EIPredictor(model, address=address, token=self.accelerator.token, tls_ca=str(ca))

    def assert_works(self) -> None:
        assert psutil.pid_exists(self.accelerator.pid)
        with self.predictor(self.folder / "cert.pem") as predictor:
            answer = predictor({"inputs": np.zeros((1, 2, 2, 3), np.uint8)})
        assert answer["outputs"].tolist() == [0.0]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsTarget]:
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder)
    write_model(folder / "model.testing")
    files = {"tls_cert": str(folder / "cert.pem"), "tls_key": str(folder / "key.pem")}
    with start_accelerator(**files) as accelerator:
        yield TlsTarget(accelerator, folder)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
        bytes(5000),
        bytes.fromhex("16030100c6010000c20303") + bytes(300),
    ],
    ids=["plain HTTP", "zeros", "half a hello"],
)
def test_what_is_not_tls_is_closed_without_an_answer_in_clear(target: TlsTarget, sent: bytes) -> None:
    with target.connect() as client:
        client.sendall(sent)
        with contextlib.suppress(OSError):  # the server may have hung up already
            client.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(4096):
                received += part
    assert b"HTTP" not in received
    target.assert_works()


def test_handshakes_that_stop_hold_up_nobody(target: TlsTarget) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(target.connect()).sendall(b"\x16\x03\x01")
        target.assert_works()


def test_a_client_that_trusts_someone_else_sends_nothing(target: TlsTarget, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    with pytest.raises(ConnectError, match="certificate"):
        target.predictor(tmp_path / "cert.pem")
    target.assert_works()
