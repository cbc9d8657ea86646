"""Ten thousand random requests of the doors that translate REST: TensorFlow Serving's and SageMaker's."""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.hostile_support import Target, start_target

NUM_REQUESTS = 10_000
SEED = 20261129
PATHS = (
    "/v1/models/MODEL:predict", "/v1/models/MODEL:classify", "/v1/models/MODEL:regress", "/v1/models/MODEL",
    "/v1/models/MODEL/metadata", "/v1/models/MODEL/versions/1:predict", "/v1/models/MODEL/versions/9", "/v1/models",
    "/v1/models/MODEL/labels/stable:predict", "/v1/models//versions", "/v1", "/ping", "/invocations", "/invocations/x",
)  # fmt: skip
TYPES = (
    "application/json", "application/jsonlines", "text/csv", "application/x-npy", "text/plain", "",
    "application/json;x",
)  # fmt: skip
BODIES = (
    b'{"instances": [1, 2, 3]}', b'{"inputs": {"x": [1, 2, 3]}}',
    b'{"inputs": [1], "signature_name": "serving_default"}',
    b'{"examples": [{"x": 1.5, "y": {"b64": "AA=="}}], "context": {"z": [1, 2]}}', b"[1, 2, 3]", b"1,2,3\n4,5,6\n", b"",
    b"\x93NUMPY\x01\x00v\x00{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }" + b" " * 56 + b"\n" + bytes(12),
)  # fmt: skip
_ODD = (None, True, -1, 1e308, 10**30, "", "x", [], [[]], [1, [2]], {}, {"b64": "!"}, {"x": 1}, float("nan"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with start_target(tmp_path_factory.mktemp("hostile")) as started:
        yield started


def _changed(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(sorted(value))
        return {**value, key: _changed(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.6:
        place = rng.randrange(len(value))
        return [*value[:place], _changed(rng, value[place]), *value[place + rng.randrange(2) :]]
    return rng.choice(_ODD)


def _body(rng: random.Random) -> bytes:
    data = rng.choice(BODIES)
    if data[:1] in (b"{", b"[") and rng.random() < 0.6:
        return json.dumps(_changed(rng, json.loads(data))).encode()
    mutated = bytearray(data)
    for _ in range(rng.randrange(4)):
        place = rng.randrange(len(mutated) + 1)
        mutated[place : place + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    return bytes(mutated)


def test_ten_thousand_random_requests_get_a_status_of_the_clients_fault_or_an_answer(target: Target) -> None:
    rng = random.Random(SEED)
    host, port = target.address.removeprefix("tcp:").rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    statuses: Counter[int] = Counter()
    for number in range(NUM_REQUESTS):
        path = rng.choice(PATHS).replace("MODEL", rng.choice([target.model, target.model, "none", "%00"]))
        headers = {"Authorization": f"Bearer {target.token}"}
        kind, accepts = rng.choice(TYPES), rng.choice(TYPES)
        headers |= {"Content-Type": kind} if kind else {}
        headers |= {"Accept": accepts} if accepts and rng.random() < 0.3 else {}
        method, body = rng.choice(["POST", "POST", "POST", "GET", "PUT"]), _body(rng)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read()
        statuses[answer.status] += 1
        assert answer.status < 500, (number, method, path, headers, body, text)
        if answer.status >= 400:
            assert json.loads(text)["error"], (number, path, body)
    connection.close()
    target.assert_works()
    assert {200, 400, 404, 405, 406, 415} <= set(statuses), statuses


def test_bodies_that_lie_about_their_length_end_with_their_connection(target: Target) -> None:
    path = f"/v1/models/{target.model}:predict"
    for length, sent in ((100, b"{"), (1 << 60, b"{}")):
        with target.connect() as connection:
            connection.send(target.head("POST", path, {"Content-Length": length}) + sent)
            connection.end_sending()
            answer = connection.read("POST")
            assert answer is None or answer.status in (400, 413), answer
    target.assert_works()
