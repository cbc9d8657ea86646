"""Request heads that are not HTTP, lie about length or are too large: each gets a status or a close, never a hang."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from tests.integration.hostile_support import Target, doubled, error_text, start_target


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


NOT_HTTP = {
    "random bytes": b"\x00\xff\x13\x37" * 64 + b"\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c6010000c20303") + bytes(190) + b"\r\n\r\n",
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


@pytest.mark.parametrize("encoding", ["gzip, chunked", "identity", "chunked, identity", "xchunked"])
def test_other_transfer_encodings_are_refused_and_nothing_of_them_is_taken_for_a_request(
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


def test_an_offer_to_upgrade_is_left(target: Target) -> None:
    offers = {
        "Connection": "Upgrade, HTTP2-Settings",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQB",
    }
    with target.connect() as connection:
        for _ in range(2):  # the second follows the first rightly: the body was read as one
            head, mark, body = target.valid().partition(b"\r\n\r\n")
            lines = "".join(f"\r\n{name}: {value}" for name, value in offers.items()).encode()
            connection.send(head + lines + mark + body)
            assert doubled(connection.read()) == [2, 4, 6]


def _chunks(body: bytes, size: int, trailers: bytes = b"") -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return (
        b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"
    )


def _as_chunks(target: Target, size: int, **headers: object) -> bytes:
    head, _, body = target.valid().partition(b"\r\n\r\n")
    json_size = re.search(rb"Inference-Header-Content-Length: (\d+)", head)
    assert json_size is not None
    own = {
        "Transfer-Encoding": "chunked",
        "Inference-Header-Content-Length": json_size[1].decode(),
        **headers,
    }
    coding = headers.get("Content-Encoding")
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(str(coding), bytes)(body)
    return target.head("POST", target.infer_path, own) + _chunks(packed, size, b"X-Sum: 1\r\n")


@pytest.mark.parametrize("size", [1, 7, 4000])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_bodies_in_chunks_are_taken_and_the_next_request_follows(
    target: Target, size: int, coding: str | None
) -> None:
    with target.connect() as connection:
        for _ in range(2):
            connection.send(_as_chunks(target, size, **{"Content-Encoding": coding}))
            assert doubled(connection.read()) == [2, 4, 6]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"3\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffff\r\nhello",
        b"1" * 10_000,
        b"0\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    ],
    ids=["no number", "negative", "longer than it says", "huge", "endless size", "many trailers"],
)
def test_chunks_that_lie_are_refused(target: Target, body: bytes) -> None:
    head = target.head("POST", target.infer_path, {"Transfer-Encoding": "chunked"})
    target.assert_refuses(head + body, 400, 413, 431)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_codings_that_are_not_offered_are_named(target: Target, coding: str) -> None:
    assert "gzip" in target.assert_refuses(target.infer(b"x", **{"Content-Encoding": coding}), 415)


def test_a_body_that_grows_without_end_is_refused(target: Target) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(bomb.compress(bytes(1 << 24)) for _ in range(64)) + bomb.flush()  # 1 GiB in 1 MB
    target.assert_refuses(target.infer(packed, **{"Content-Encoding": "gzip"}), 400, 413)


def test_a_compressed_body_that_breaks_off_is_refused(target: Target) -> None:
    packed = gzip.compress(b'{"inputs": []}')
    for wrong in (packed[:-4], packed + b"more", b"not gzip"):
        target.assert_refuses(target.infer(wrong, **{"Content-Encoding": "gzip"}), 400)


def test_a_target_in_absolute_form_and_a_trailing_slash_mean_the_path(target: Target) -> None:
    for path in (
        f"http://proxy.example:80{target.infer_path}",
        f"{target.infer_path}/",
        "/v2/",
        "HTTP://a/v2",
    ):
        method = b"POST" if "infer" in path else b"GET"
        request = target.valid() if "infer" in path else target.head("GET", path)
        answer = target.ask(request.replace(target.infer_path.encode(), path.encode(), 1))
        assert answer is not None
        assert answer.status == 200, (method, path)


def test_a_method_that_a_path_does_not_take_is_told_which_it_takes(target: Target) -> None:
    with target.connect() as connection:
        connection.send(target.head("GET", target.infer_path))
        head = connection.read_head()
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: POST\r\n" in head


def test_health_needs_no_token_and_answers_in_json(target: Target) -> None:
    for path, body in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        answer = target.ask(target.head("GET", path, {"Authorization": None}))
        assert answer is not None
        assert (answer.status, answer.json()) == (200, body)


def test_a_raw_body_is_the_one_input(target: Target) -> None:
    data = np.array([5, -6], np.int32).tobytes()
    with target.connect() as connection:
        connection.send(target.infer(data, 0))
        answer = connection.read()
    assert answer is not None
    assert answer.status == 200
    assert np.frombuffer(answer.body[-8:], np.int32).tolist() == [10, -12]
    assert "cannot have 7 bytes" in target.assert_refuses(target.infer(data[:7], 0), 400)


def test_a_waiting_client_is_told_to_go_on(target: Target) -> None:
    head, _, body = target.valid().partition(b"\r\n\r\n")
    with target.connect() as connection:
        connection.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert connection.read_interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(body)
        answer = connection.read()
    assert answer is not None
    assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
