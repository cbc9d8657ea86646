"""The table between errors and HTTP statuses: complete, and the same error on both sides."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference import errors
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.protocol.status import (
    REASONS,
    STATUS_OF_ERROR,
    GrpcCode,
    decode_error,
    encode_error,
    error_text,
)

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, ElasticInferenceError)]


def test_every_error_has_a_status_with_a_reason() -> None:
    assert set(STATUS_OF_ERROR) == set(CLASSES)
    assert {status.http for status in STATUS_OF_ERROR.values()} <= set(REASONS)


def test_every_error_is_an_error_in_grpc_too() -> None:
    assert GrpcCode.OK not in {status.grpc for status in STATUS_OF_ERROR.values()}


@given(st.sampled_from(CLASSES), st.text())
def test_an_error_comes_back_as_the_same_class_and_text(cls: type[ElasticInferenceError], text: str) -> None:
    status, body = encode_error(cls(text))
    decoded = decode_error(status, json.dumps(body).encode())
    assert type(decoded) is cls
    assert decoded.args[0] == text


def test_figures_come_back() -> None:
    sent = errors.MemoryQuotaExceeded("too large", requested_bytes=7 << 30, limit_bytes=1 << 30)
    status, body = encode_error(sent)
    got = decode_error(status, json.dumps(body).encode())
    assert status == 413
    assert vars(got) == vars(sent)


def test_a_subclass_of_an_engine_travels_as_the_class_that_the_table_knows() -> None:
    class Worse(errors.ModelError):
        pass

    status, body = encode_error(Worse("no"))
    assert (status, body["code"]) == (500, "ModelError")


@given(st.integers(100, 599), st.binary())
def test_any_answer_becomes_an_error(status: int, body: bytes) -> None:
    assert isinstance(decode_error(status, body), ElasticInferenceError)


VALUES = st.sampled_from(
    [None, True, -1, 1.5, "x", [], {}, [1], {"requested_bytes": "many"}, {"self": 1}, {"message": 2}]
)


@given(st.sampled_from([c.__name__ for c in CLASSES]) | VALUES, VALUES)
def test_any_fields_become_an_error(code: object, fields: object) -> None:
    body = json.dumps({"error": "text", "code": code, "fields": fields}).encode()
    assert isinstance(decode_error(400, body), ElasticInferenceError)


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (401, errors.PermissionDenied),
        (403, errors.Forbidden),
        (404, errors.ModelNotFound),
        (413, errors.MemoryQuotaExceeded),
        (429, errors.ComputeQuotaExceeded),
        (418, errors.ProtocolError),
        (500, errors.ModelError),
        (502, errors.ConnectionLost),
        (503, errors.ModelNotReady),
        (504, errors.DeadlineExceeded),
    ],
)
def test_servers_of_another_make_are_understood_by_their_status(
    status: int, cls: type[ElasticInferenceError]
) -> None:
    error = decode_error(status, b"<html>sorry</html>")
    assert type(error) is cls
    assert "sorry" in str(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("no such input"), "no such input"),
        (KeyError(), ""),
        (OSError(2, "gone"), "[Errno 2] gone"),
        (ValueError("a", "b"), "('a', 'b')"),
    ],
)
def test_the_text_of_an_error_is_not_quoted(error: Exception, text: str) -> None:
    assert error_text(error) == text
