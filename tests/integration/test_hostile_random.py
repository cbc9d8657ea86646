"""Ten thousand seeded random and mutated requests against one accelerator."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tests.integration.hostile_support import Answer, Connection, Target, error_text, start_target, wait_until

NUM_REQUESTS = 10_000
SEED = 20261123
_ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 12, 1 << 31, 1 << 63, 10**30, 0.5, 1e308, "", "x", "INT32", "BYTES", "FP16", "y",
    "\0", [], [3], [-1], [1, 3], [[1]], {}, {"binary_data_size": 12}, {"shared_memory_region": "a"},
)  # fmt: skip
_ODD_BYTES = (
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"\xff",
    b" ",
    b":",
    b"{",
    b"}",
    b"[",
    b'"',
    b",",
    b"9" * 20,
    b"-",
    b"%00",
)
_WORDS = (
    "v2", "models", "infer", "repository", "index", "load", "unload", "versions", "1", "config", "region", "..",
    "systemsharedmemory", "register", "status", "accelerator", "blobs", "health", "%2e", "",
)  # fmt: skip
_METHODS = ("GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "TRACE", "CONNECT")


def _mutate_json(rng: random.Random, value: Any) -> Any:
    """Replace something somewhere in a JSON value, or take it away."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        changed = dict(value)
        if rng.random() < 0.1:
            del changed[key]
        else:
            changed[key] = _mutate_json(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        index = rng.randrange(len(value))
        return [*value[:index], _mutate_json(rng, value[index]), *value[index + rng.randrange(2) :]]
    return rng.choice(_ODD_VALUES)


def _mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, insert, repeat or cut bytes in one to eight places."""
    mutated = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(mutated) + 1)
        match rng.randrange(4):
            case 0:
                mutated[at : at + 1] = rng.randbytes(1)
            case 1:
                mutated[at:at] = rng.choice(_ODD_BYTES)
            case 2:
                mutated[at:at] = mutated[at : at + rng.randint(1, 40)]
            case _:
                del mutated[at : at + rng.randint(1, 40)]
    return bytes(mutated)


def _with_odd_json(rng: random.Random, target: Target) -> bytes:
    value: Any = {
        "id": "a",
        "inputs": [{"name": "x", "datatype": "INT32", "shape": [3], "parameters": {"binary_data_size": 12}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        "parameters": {"timeout": 5_000_000},
    }
    for _ in range(rng.randint(1, 3)):
        value = _mutate_json(rng, value)
    text = json.dumps(value).encode()
    return target.infer(text + bytes(12), len(text))


def _to_odd_path(rng: random.Random, target: Target) -> bytes:
    path = "/" + "/".join(rng.choice([*_WORDS, target.model]) for _ in range(rng.randint(1, 6)))
    # Not what would honestly take the model under test away.
    path = path.replace("unload", "ready") if target.model in path else path
    body = rng.randbytes(rng.randint(0, 200)) if rng.random() < 0.5 else b'{"parameters": {}}'
    return target.head(rng.choice(_METHODS), path, {"Content-Length": len(body)}) + body


def _request(rng: random.Random, target: Target) -> bytes:
    match rng.randrange(4):
        case 0:
            return rng.randbytes(rng.randint(1, 600)) + b"\r\n\r\n"
        case 1:
            return _mutate_bytes(rng, target.valid())
        case 2:
            return _with_odd_json(rng, target)
        case _:
            return _to_odd_path(rng, target)


def _answer_to(connection: Connection, request: bytes) -> Answer | None:
    """The first final answer; what else the server may read into the bytes ends with the connection."""
    connection.send(request)
    connection.end_sending()
    return connection.read("HEAD" if request.startswith(b"HEAD ") else "POST")


def test_ten_thousand_random_requests_get_a_status_or_a_close(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    with start_target(tmp_path) as target:
        process = psutil.Process(target.pid)
        for index in range(NUM_REQUESTS):
            request = _request(rng, target)
            with target.connect() as connection:
                answer = _answer_to(connection, request)
            if answer is None:
                outcomes["closed"] += 1
                continue
            outcomes[str(answer.status)] += 1
            assert answer.status != 500, (index, request, answer)
            if answer.status >= 400 and not request.startswith(b"HEAD "):
                assert error_text(answer), (index, request)
            if index % 500 == 0:
                target.assert_works()
        target.assert_works()
        assert process.is_running()
        wait_until(lambda: process.num_threads() < 60, "connections left their threads behind")
    assert sum(outcomes.values()) == NUM_REQUESTS
    assert len(outcomes) >= 4, outcomes  # the requests were really of several kinds
