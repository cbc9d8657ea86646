"""What a hostile caller sends to the control API and to another's accelerator: nothing gets in, all serve on."""

from __future__ import annotations

import hashlib
import random
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.errors import ElasticInferenceError, PermissionDenied, TransportError
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from tests.host.conftest import HostProcess, _starter, new_state_dir


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


@pytest.fixture(scope="module")
def victim(host: HostProcess) -> Attachment:
    return host.session().attach("cpu.quarter", name="the victim", lease_seconds=None)


@pytest.fixture(scope="module")
def tenant(host: HostProcess) -> HostSession:
    """Another tenant, with a token that is valid for its own accelerator."""
    return host.session(host.session().attach("cpu.quarter", lease_seconds=None).token)


def forged_tokens(operator: str, token: str) -> list[str]:
    return [
        "", " ", "null", "None", "undefined", "*", "%", "' OR '1'='1", '" OR 1=1 --', "../operator.token",
        token[:-1], token + "x", token.swapcase(), token[::-1], operator[:-1], operator + "=", operator.lower(),
        hashlib.sha256(token.encode()).hexdigest(), hashlib.sha256(operator.encode()).hexdigest(),
        "0" * 43, "A" * 4000, token.replace(token[0], "\x00", 1), f"{token} {operator}x", f"x{token}",
    ]  # fmt: skip


def send(endpoint: Endpoint, data: bytes, leaves: bool = False) -> bytes:
    """What is answered to bytes as they are, b"" for nothing; the caller may leave without waiting for it."""
    with endpoint.connect(10.0) as sock:
        sock.settimeout(10.0)
        with suppress(OSError):
            sock.sendall(data)
            if leaves:
                sock.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(OSError):
            while block := sock.recv(4096):
                answer += block
        return answer


def test_forged_tokens_open_neither_host_nor_accelerator(host: HostProcess, victim: Attachment) -> None:
    let_in = []
    for forged in forged_tokens(host.operator_token, victim.token):
        for endpoint, path in (
            (Endpoint.parse(host.url), "/v1/accelerators"),
            (Endpoint.parse(host.url), f"/v1/accelerators/{victim.accelerator_id}"),
            *((Endpoint.parse(e), "/v2/accelerator") for e in victim.endpoints),
        ):
            line = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {forged}\r\n\r\n"
            answer = send(endpoint, line.encode("latin-1"))
            if not answer.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400")):
                let_in.append((forged, str(endpoint), answer[:80]))
    assert let_in == []


def test_a_tenants_token_does_nothing_to_another(tenant: HostSession, victim: Attachment) -> None:
    for endpoint in victim.endpoints:
        for method, path, body in (
            ("GET", "/v2/accelerator", None),
            ("GET", "/metrics", None),
            ("GET", "/v2", None),
            ("POST", "/v2/repository/index", {}),
            ("PUT", "/v2/accelerator/token", {"token_sha256": "0" * 64}),
            ("POST", "/v2/accelerator/drain", {}),
            ("POST", "/v2/systemsharedmemory/region/a/register", {"key": "/a", "byte_size": 1, "offset": 0}),
            ("GET", "/v2/blobs/" + "0" * 64, None),
        ):
            with pytest.raises(PermissionDenied):
                request_json(Endpoint.parse(endpoint), method, path, body, token=tenant.token)


def test_an_accelerators_own_token_does_not_do_what_is_the_hosts(victim: Attachment) -> None:
    for method, path, body in (
        ("PUT", "/v2/accelerator/token", {"token_sha256": "0" * 64}),
        ("POST", "/v2/accelerator/drain", {}),
    ):
        with pytest.raises(PermissionDenied):
            request_json(Endpoint.parse(victim.endpoints[0]), method, path, body, token=victim.token)
    request_json(Endpoint.parse(victim.endpoints[0]), "GET", "/v2/accelerator", token=victim.token)


@pytest.mark.parametrize(
    "accelerator_id",
    [
        "..", "%2e%2e", "../../operator.token", "..%2f..%2foperator.token", "*", "%25", "eia-*", "%00", "eia-%00",
        "' OR '1'='1", "eia-" + "0" * 31, "eia-" + "0" * 33, "EIA-" + "0" * 32, "0", "-1", "a" * 2000, "ü", "\ud83d",
    ],
)  # fmt: skip
def test_forged_ids_are_not_found(tenant: HostSession, accelerator_id: str) -> None:
    from urllib.parse import quote

    path = quote(accelerator_id, safe="%", errors="surrogatepass")
    for method, action, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("PATCH", "", {"type": "cpu.half"}),
        ("POST", "/heartbeat", None),
        ("POST", "/token", None),
    ):
        with pytest.raises(ElasticInferenceError) as caught:
            tenant.request(method, f"/v1/accelerators/{path}{action}", body)
        assert not isinstance(caught.value, TransportError) or "HTTP status 4" in str(caught.value)


def test_noise_and_half_requests_leave_the_host_as_it_was(host: HostProcess, victim: Attachment) -> None:
    endpoint = Endpoint.parse(host.url)
    noise = random.Random(4)
    heads = [
        b"", b"\x00" * 100, b"GET", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/accelerators HTTP/1.1\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/accelerators HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{",
        b"POST /v1/accelerators HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{",
        b"POST /v1/accelerators HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\nGET /",
        b"GET /v1/health HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        *(noise.randbytes(noise.randrange(1, 5000)) for _ in range(30)),
    ]  # fmt: skip
    for head in heads:
        assert not send(endpoint, head, leaves=True).startswith(b"HTTP/1.1 5"), head[:80]
    status = host.session().request("GET", "/v1/host")
    assert status["num_unhealthy"] == 0
    assert host.session().describe(victim.accelerator_id).endpoints == victim.endpoints
    assert "Traceback" not in host.log_path.read_text()
