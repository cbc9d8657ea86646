"""Request heads that are not HTTP, lie about length or are too large: each gets a status or a close, never a hang."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.hostile_support import Target, error_text, start_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


NOT_HTTP = {
    "random bytes": b"\x00\xff\x13\x37" * 64 + b"\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c6010000c20303") + bytes(190) + b"\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /v2\r\n\r\n",
    "HTTP/9.9": b"GET /v2 HTTP/9.9\r\nHost: a\r\n\r\n",
    "a header without colon": b"GET /v2 HTTP/1.1\r\nHost\r\n\r\n",
    "a header with a space in its name": b"GET /v2 HTTP/1.1\r\nHo st: a\r\n\r\n",
    "NUL in a header": b"GET /v2 HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "an unknown method": b"FETCH /v2 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a space before the colon": b"POST /v2 HTTP/1.1\r\nContent-Length : 5\r\n\r\nhello",
    "nothing but blank lines": b"\r\n\r\n\r\n\r\n",
    "a folded header": b"GET /v2 HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", NOT_HTTP.values(), ids=NOT_HTTP)
def test_what_is_not_http_gets_an_error_or_a_close(target: Target, request_bytes: bytes) -> None:
    answer = target.ask(request_bytes, end_sending=True)
    if answer is not None:
        assert 400 <= answer.status < 600
        assert error_text(answer)
    target.assert_works()


@pytest.mark.parametrize(
    "length", ["-1", "+5", "0x10", "1e3", "5 5", "five", "", "9" * 19, "9" * 400, "5, 5", "5;q=1"]
)
def test_a_content_length_that_is_no_number_is_refused(target: Target, length: str) -> None:
    head = target.head("POST", target.infer_path, {"Content-Length": length})
    answer = target.ask(head + b"hello", end_sending=True)
    assert answer is not None
    assert answer.status in (400, 413), error_text(answer)
    target.assert_works()


@pytest.mark.parametrize("length", [1 << 36, 1 << 40, 999_999_999_999_999_999])
def test_a_body_larger_than_any_limit_is_refused_before_it_comes(target: Target, length: int) -> None:
    text = target.assert_refuses(target.infer(b"", "10", **{"Content-Length": length}), 400, 413)
    assert str(length) in text or "memory" in text


def test_two_content_lengths_that_differ_are_refused(target: Target) -> None:
    head = target.head("POST", target.infer_path, {"Content-Length": "5"})
    head = head.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 11")
    target.assert_refuses(head + b"hello world", 400)


@pytest.mark.parametrize(
    "encoding", ["chunked", "gzip, chunked", "identity", "chunked, identity", "xchunked"]
)
def test_chunked_bodies_are_refused_and_nothing_of_them_is_taken_for_a_request(
    target: Target, encoding: str
) -> None:
    smuggled = target.head("GET", "/v2/health/live")
    head = target.head("POST", target.infer_path, {"Transfer-Encoding": encoding})
    with target.connect() as connection:
        connection.send(head + b"5\r\nhello\r\n0\r\n\r\n" + smuggled)
        answer = connection.read()
        assert answer is not None
        assert answer.status in (400, 411, 501), error_text(answer)
        assert connection.is_closed()
    target.assert_works()


def test_a_body_with_both_length_and_chunks_is_refused(target: Target) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Length": "4"}
    target.assert_refuses(target.head("POST", target.infer_path, headers) + b"0\r\n\r\n", 400, 411)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\nHost: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(30_000)) + b"\r\n",
        b"GET /" + b"v" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"G" * 200_000,
    ],
    ids=["one long header", "many headers", "a long path", "a long method"],
)
def test_an_oversize_head_is_refused_or_cut_off(target: Target, head: bytes) -> None:
    answer = target.ask(head)
    if answer is not None:
        assert answer.status in (400, 413, 414, 431), error_text(answer)
    target.assert_works()


@pytest.mark.parametrize("cut", [1, 4, 20, 60, 100])
def test_a_head_that_ends_early_is_closed(target: Target, cut: int) -> None:
    answer = target.ask(target.valid()[:cut], end_sending=True)
    assert answer is None or answer.status == 400
    target.assert_works()


@pytest.mark.parametrize(
    "path",
    [
        "/", "//", "/v1/models", "/v2/nothing", "/v2/models", "/v2/models//infer",
        "/v2/models/../../etc/passwd", "/v2/models/%2e%2e%2fconfig", "/v2/models/%00/infer",
        "/v2/models/%ff%fe/infer", "/v2/models/a%0d%0aX: y", "/v2/models/" + "a" * 20_000,
        "/v2/models/x/versions/-1", "/v2/models/x/versions/99999999999999999999/infer",
        "/v2/blobs/../../../etc/passwd", "/v2/blobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v2/blobs/xyz",
        "/v2/systemsharedmemory/region/%2f/status", "*", "http://elsewhere/v2/nothing",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_unknown_paths_are_refused(target: Target, method: str, path: str) -> None:
    target.assert_refuses(target.head(method, path, {"Content-Length": 0}), 400, 404, 405, 414, 416)


@pytest.mark.parametrize("token", ["", "wrong", "\xe9\xe9", "a" * 10_000])
@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/accelerator/drain", "/v2/accelerator/token"])
def test_wrong_tokens_are_refused(target: Target, path: str, token: str) -> None:
    target.assert_refuses(target.head("POST", path, {"Content-Length": 0}, token=token), 401, 403, 404, 405)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic dXNlcjpwYXNz", "Bearer  "])
def test_requests_without_a_bearer_token_are_refused(target: Target, authorization: str | None) -> None:
    head = target.head("POST", target.infer_path, {"Authorization": authorization, "Content-Length": 0})
    target.assert_refuses(head, 401)


def test_an_upgrade_is_refused(target: Target) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Content-Length": 0}
    answer = target.ask(target.head("GET", "/v2/nothing", headers))
    assert answer is not None
    assert answer.status in (400, 404, 426, 501)
    target.assert_works()


def test_a_waiting_client_is_told_to_go_on(target: Target) -> None:
    head, _, body = target.valid().partition(b"\r\n\r\n")
    with target.connect() as connection:
        connection.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.read_interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        answer = connection.read()
    assert answer is not None
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
