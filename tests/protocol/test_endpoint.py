"""Addresses as text, and sockets made for them."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import ConnectError, InvalidInput
from elastic_inference.protocol.endpoint import UNIX_PATH_LIMIT, Endpoint, tune

READ = {
    "unix:/run/a.sock": Endpoint("unix", path="/run/a.sock"),
    "unix:///run/a.sock": Endpoint("unix", path="/run/a.sock"),
    "tcp:10.0.0.5:8501": Endpoint("tcp", host="10.0.0.5", port=8501),
    "tls:example.org:443": Endpoint("tls", host="example.org", port=443),
    "http://example.org:80/": Endpoint("tcp", host="example.org", port=80),
    "https://[::1]:8501": Endpoint("tls", host="::1", port=8501),
    "localhost:1": Endpoint("tcp", host="localhost", port=1),
}  # fmt: skip
REFUSED = [
    "", "unix:", "unix:a", "unix://a", "unix:////a", "unix:/a\0b", "unix:/" + "a" * UNIX_PATH_LIMIT, "unix:/\ud800",
    "tcp:", "tcp:host",
    "tcp::80", "tcp:h:", "tcp:h:-1", "tcp:h:65536", "tcp:h:\u00b2", "tcp:h:" + "9" * 5000, "http://h", "http://h:80/x",
    "ftp://h:1", "tcp:a b:1", "tcp:a\r\nb:1", "tcp:user@h:1", "tcp:[]:1",
]  # fmt: skip


@pytest.mark.parametrize(("text", "endpoint"), READ.items())
def test_addresses_are_read(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="address"):
        Endpoint.parse(text)


@given(st.sampled_from(["", "unix:", "unix:/", "tcp:", "tls:h:", "http://"]), st.text())
def test_any_text_is_an_address_that_comes_back_or_refused(start: str, rest: str) -> None:
    with contextlib.suppress(InvalidInput):
        endpoint = Endpoint.parse(start + rest)
        assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "is_local"),
    [("unix:/a", True), ("tcp:127.0.0.9:1", True), ("tcp:localhost:1", True), ("tcp:[::1]:1", True),
     ("tcp:10.0.0.1:1", False), ("tcp:example.org:1", False)],
)  # fmt: skip
def test_only_what_is_certainly_this_machine_is_local(text: str, is_local: bool) -> None:
    assert Endpoint.parse(text).is_local() is is_local


def test_a_port_that_is_taken_is_a_clear_error() -> None:
    with Endpoint.parse("tcp:127.0.0.1:0").listen() as listener:
        taken = Endpoint("tcp", host="127.0.0.1", port=listener.getsockname()[1])
        with pytest.raises(ConnectError, match=f"cannot listen on tcp:127.0.0.1:{taken.port}.*in use"):
            taken.listen()


def test_a_port_on_which_nobody_listens_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = Endpoint("tcp", host="127.0.0.1", port=listener.getsockname()[1])
    with pytest.raises(ConnectError, match="refused"):
        endpoint.connect(5.0)


def test_a_host_name_that_cannot_be_one_is_a_connect_error() -> None:
    with pytest.raises(ConnectError):
        Endpoint.parse(f"tcp:{'a' * 70}.test:1").connect(5.0)


def test_a_unix_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    endpoint = Endpoint("unix", path=str(tmp_path / "s"))
    with endpoint.listen():
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        endpoint.connect(5.0).close()
    endpoint.unlink()
    with pytest.raises(ConnectError):
        endpoint.connect(5.0)


def test_a_socket_file_that_nobody_serves_is_taken_over(tmp_path: Path) -> None:
    endpoint = Endpoint("unix", path=str(tmp_path / "s"))
    endpoint.listen().close()
    with endpoint.listen():
        endpoint.connect(5.0).close()


def test_a_socket_that_is_served_is_not_taken_over(tmp_path: Path) -> None:
    endpoint = Endpoint("unix", path=str(tmp_path / "s"))
    with endpoint.listen():
        with pytest.raises(ConnectError, match="in use"):
            endpoint.listen()
        endpoint.connect(5.0).close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(ConnectError, match="in use"):
        Endpoint("unix", path=str(tmp_path / "s")).listen()
    assert (tmp_path / "s").read_text() == "precious"


def test_the_longest_path_that_is_taken_can_be_served() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        path = f"{folder}/{'a' * (UNIX_PATH_LIMIT - len(folder) - 1)}"
        endpoint = Endpoint.parse(f"unix:{path}")
        with endpoint.listen():
            endpoint.connect(30.0).close()
        with pytest.raises(InvalidInput, match="at most 107 bytes"):
            Endpoint.parse(f"unix:{path}a")


def test_only_a_unix_socket_is_given_larger_buffers() -> None:
    def sent_bytes(family: socket.AddressFamily) -> tuple[int, int]:
        with socket.socket(family) as sock:
            before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            tune(sock)
            return before, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

    before, after = sent_bytes(socket.AF_UNIX)
    assert after > before
    before, after = sent_bytes(socket.AF_INET)
    assert after == before
