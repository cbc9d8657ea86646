"""The control API over real HTTP: who may do what, and how refusals read."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import (
    AcceleratorNotFound,
    CapacityExceeded,
    ElasticInferenceError,
    InvalidInput,
    PermissionDenied,
)
from elastic_inference.protocol.requests import IDEMPOTENCY_KEY
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.support import wait_until

UNKNOWN = "eia-" + "0" * 32


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        types = state_dir.parent / "types.toml"
        types.write_text(
            '["small"]\nmemory = "256MiB"\ndevice_share = 0.1\nusd_per_hour = "0.13"\n'
            '["bursty"]\nmemory = "256MiB"\ndevice_share = 0.1\nmay_burst = true\n'
        )
        yield start("--types", str(types))


@pytest.fixture
def operator(host: HostProcess) -> Iterator[HostSession]:
    session = host.session()
    yield session
    for accelerator in session.request("GET", "/v1/accelerators"):
        session.detach(accelerator["accelerator_id"], drain_seconds=0)


def raw(host: HostProcess, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """One request as given: status, headers, JSON."""
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=30)
    try:
        sent = {"Authorization": f"Bearer {host.operator_token}", **headers}
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        text = response.read()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, response.headers, json.loads(text) if is_json else text.decode()
    finally:
        connection.close()


def test_attach_show_heartbeat_detach(operator: HostSession) -> None:
    attached = operator.attach("small", name="mine", lease_seconds=600)
    assert attached.token
    tenant = HostSession(operator.url, attached.token)
    shown = tenant.describe(attached.accelerator_id)
    assert (shown.name, shown.accelerator_type, shown.token) == ("mine", "small", "")
    assert shown.endpoints == attached.endpoints == shown.usable_endpoints()
    assert tenant.heartbeat(attached.accelerator_id) == 600
    tenant.detach(attached.accelerator_id)
    with pytest.raises(AcceleratorNotFound):
        operator.describe(attached.accelerator_id)
    with pytest.raises(PermissionDenied):
        tenant.describe(attached.accelerator_id)


def test_the_same_key_is_the_same_attach(operator: HostSession) -> None:
    key = secrets.token_hex(32)

    def attach(kind: str, key: str = key) -> Any:
        body = {"type": kind, "name": "once"}
        return operator.request("POST", "/v1/accelerators", body, headers={IDEMPOTENCY_KEY: key})

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: attach("small"), range(3)))
    assert len({(each["accelerator_id"], each["token"]) for each in answers}) == 1
    assert len(operator.request("GET", "/v1/accelerators")) == 1
    accelerator_id, token = answers[0]["accelerator_id"], answers[0]["token"]
    assert HostSession(operator.url, token).describe(accelerator_id).name == "once"
    with pytest.raises(InvalidInput, match="key was used before"):
        attach("bursty")
    operator.request("POST", f"/v1/accelerators/{accelerator_id}/token", {})
    with pytest.raises(InvalidInput, match="key was used before"):  # its token opens nothing any more
        attach("small")
    with pytest.raises(InvalidInput, match=r"(?i)idempotency-key"):
        attach("small", "short")


def test_a_tenant_sees_neither_existence_nor_figures_of_another(operator: HostSession) -> None:
    mine, other = operator.attach("small"), operator.attach("bursty")
    tenant = HostSession(operator.url, mine.token)
    assert [a["accelerator_id"] for a in tenant.request("GET", "/v1/accelerators")] == [mine.accelerator_id]
    assert [u["accelerator_id"] for u in tenant.request("GET", "/v1/usage")] == [mine.accelerator_id]
    assert other.accelerator_id not in tenant.request("GET", "/metrics")
    assert mine.accelerator_id in tenant.request("GET", "/metrics")
    assert {t["num_available"] for t in tenant.request("GET", "/v1/types")} == {None}
    answers = {}
    for accelerator_id in (other.accelerator_id, UNKNOWN):
        for method, action, body in (
            ("GET", "", None),
            ("DELETE", "", None),
            ("PATCH", "", {"type": "small"}),
            ("POST", "/heartbeat", None),
            ("POST", "/token", None),
        ):
            with pytest.raises(AcceleratorNotFound) as caught:
                tenant.request(method, f"/v1/accelerators/{accelerator_id}{action}", body)
            text = str(caught.value).replace(accelerator_id, "ID")
            answers.setdefault((method, action), set()).add(text)
    assert all(len(texts) == 1 for texts in answers.values())
    assert operator.describe(other.accelerator_id).accelerator_type == "bursty"


def test_a_tenant_may_not_do_what_is_the_operators(operator: HostSession) -> None:
    mine = operator.attach("small")
    tenant = HostSession(operator.url, mine.token)
    for method, path, body in (
        ("POST", "/v1/accelerators", {"type": "small"}),
        ("PATCH", f"/v1/accelerators/{mine.accelerator_id}", {"type": "bursty"}),
        ("GET", "/v1/host", None),
        ("POST", "/v1/host/token", None),
        ("POST", "/v1/host/drain", {"is_draining": True}),
    ):
        with pytest.raises(PermissionDenied, match="only the operator"):
            tenant.request(method, path, body)


@pytest.mark.parametrize("token", ["", "wrong", "Bearer", "x" * 10000, "ü"])
def test_without_a_known_token_nothing_but_health_is_told(host: HostProcess, token: str) -> None:
    for method, path in (
        ("GET", "/v1/types"),
        ("GET", "/v1/devices"),
        ("GET", "/v1/accelerators"),
        ("GET", f"/v1/accelerators/{UNKNOWN}"),
        ("POST", "/v1/accelerators"),
        ("GET", "/v1/usage"),
        ("GET", "/v1/host"),
        ("GET", "/metrics"),
    ):
        authorization = f"Bearer {token}".encode().decode("latin-1")
        status, headers, body = raw(host, method, path, Authorization=authorization)
        assert (status, body["code"], headers["WWW-Authenticate"]) == (401, "PermissionDenied", "Bearer")
    assert raw(host, "GET", "/v1/health", Authorization="")[2] == {"status": "ok", "warnings": []}


def test_capacity_refusal_keeps_its_figures_over_the_wire(operator: HostSession) -> None:
    with pytest.raises(CapacityExceeded) as caught:
        operator.attach("eia1.xlarge")
    assert caught.value.requested == "4 FP32 TFLOPS and 4.0 GiB"
    assert "cpu:0 is 0.2 FP32 TFLOPS" in caught.value.available


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "type: Field required"),
        ({"type": 5}, "type: Input should be a valid string, not 5"),
        ({"type": ""}, "type: String should have at least 1 character"),
        ({"type": "none"}, "type 'none' is not one of"),
        ({"type": "\ud800"}, "unable to parse raw data as a unicode string, not '\\ud800'"),
        ({"type": "small", "name": "x" * 101}, "name: String should have at most 100 characters"),
        ({"type": "small", "name": "\x00"}, "is not 1 to 100 printable characters"),
        (
            {"type": "small", "lease_seconds": 0},
            "lease_seconds: Input should be greater than or equal to 1",
        ),
        ({"type": "small", "lease_seconds": float("nan")}, "lease_seconds"),
        ({"type": "small", "leese": 1}, "leese: Extra inputs are not permitted"),
        ([], "the body: Input should be"),
        (None, "the body: Input should be"),
    ],
)
def test_a_bad_attach_names_field_value_and_limit(host: HostProcess, body: Any, told: str) -> None:
    status, _, answer = raw(
        host, "POST", "/v1/accelerators", json.dumps(body), **{"Content-Type": "application/json"}
    )
    assert (status, answer["code"]) == (400, "InvalidInput")
    assert told in answer["error"]


@pytest.mark.parametrize("path", ["/v1/usage?since=-1", "/v1/usage?since=nan", "/v1/usage?since=1e300"])
def test_a_bad_query_is_refused(host: HostProcess, path: str) -> None:
    status, _, answer = raw(host, "GET", path)
    assert (status, answer["fields"]) == (400, {"fields": ["since"]})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("PUT", "/v1/accelerators", 405),
        ("GET", "/v1/accelerators/x", 404),
        ("GET", "/v1/accelerators/%00", 404),
        ("GET", "/v1/accelerators/..%2f..%2fetc%2fpasswd", 404),
        ("DELETE", f"/v1/accelerators/{UNKNOWN}", 404),
        ("POST", f"/v1/accelerators/{UNKNOWN}/heartbeat", 404),
        ("POST", f"/v1/accelerators/{UNKNOWN}/token", 404),
    ],
)
def test_what_is_not_there_is_answered_as_json(
    host: HostProcess, method: str, path: str, status: int
) -> None:
    got, _, answer = raw(host, method, path)
    assert got == status
    assert answer["error"]


def test_a_body_beyond_the_limit_is_refused_however_it_is_sent(host: HostProcess) -> None:
    big = b"x" * 70_000
    assert raw(host, "POST", "/v1/accelerators", big)[0] == 413
    assert raw(host, "POST", "/v1/accelerators", iter([big[:40_000], big[40_000:]]))[0] == 413


@pytest.mark.parametrize("given", ["my-id.1", 'bad"id'])
def test_request_ids_are_answered_and_logged(host: HostProcess, given: str) -> None:
    answered: set[str] = set()

    def is_logged() -> bool:
        """Ask once more, for of many lines in a second not all are written; a line is written after its answer."""
        answered.add(raw(host, "GET", "/v1/health", **{"X-Request-Id": given})[1]["X-Request-Id"])
        texts = [line for line in host.log_path.read_text().splitlines(True) if line.endswith("\n")]
        lines = [line for line in map(json.loads, texts) if line.get("request_id") in answered]
        assert {line["path"] for line in lines} <= {"/v1/health"}
        return bool(lines)

    wait_until(is_logged, "the line")
    assert answered == {given} if given == "my-id.1" else all(one.isalnum() for one in answered)


def test_metrics_are_prometheus_text(operator: HostSession) -> None:
    from prometheus_client import Metric
    from prometheus_client.parser import text_string_to_metric_families

    attached = operator.attach("small")
    families: dict[str, Metric] = {}

    def is_up() -> bool:
        """Whether it answered in time when it was read: where the machine is busy, not each time."""
        families.update(
            (f.name, f) for f in text_string_to_metric_families(operator.request("GET", "/metrics"))
        )
        return families["elastic_inference_host_accelerator_up"].samples[0].value == 1

    wait_until(is_up, "the accelerator to be up")
    for name in (
        "accelerator_up", "memory_used_bytes", "memory_limit_bytes", "device_seconds", "throttled_seconds",
        "oom_kills", "restarts",
    ):  # fmt: skip
        (sample,) = families[f"elastic_inference_host_{name}"].samples
        assert sample.labels == {"accelerator_id": attached.accelerator_id, "accelerator_type": "small"}
    assert families["elastic_inference_host_memory_limit_bytes"].samples[0].value == 256 * 1024**2


def test_status_says_what_is_in_force_and_by_what_means(operator: HostSession) -> None:
    status = operator.request("GET", "/v1/host")
    assert status["limits"]["means"] in ("cgroup v1", "cgroup v2", "rlimit and duty cycle")
    assert status["users"]
    assert status["devices"][0]["left_share"] == 1.0
    assert status["devices"][0]["sharing"] == "limits"
    assert status["num_unhealthy"] == 0


def test_draining_can_be_taken_back(operator: HostSession) -> None:
    operator.request("POST", "/v1/host/drain", {"is_draining": True})
    try:
        with pytest.raises(CapacityExceeded, match="drains"):
            operator.attach("small")
    finally:
        operator.request("POST", "/v1/host/drain", {"is_draining": False})
    operator.attach("small")


def test_a_bursting_type_says_so(operator: HostSession) -> None:
    attached = operator.attach("bursty")
    assert (
        "while neighbours want theirs" in attached.limits["compute"] or "burst" in attached.limits["compute"]
    )


def test_the_api_is_documented(host: HostProcess) -> None:
    document = raw(host, "GET", "/openapi.json")[2]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
    assert "422" not in json.dumps(document)


def test_schemathesis_finds_no_server_error(host: HostProcess) -> None:
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = os.environ.get("EI_SCHEMATHESIS") or shutil.which("schemathesis", path=beside)
    if program is None:
        pytest.skip("needs schemathesis: install the extra dev, or set EI_SCHEMATHESIS to its program")
    finished = subprocess.run(
        [
            *(program, "run", f"{host.url}/openapi.json", "--checks", "not_a_server_error"),
            *("--header", f"Authorization: Bearer {host.operator_token}", "--max-examples", "10"),
            # These would end the token of the run itself, and the host for the tests that follow.
            *("--exclude-path", "/v1/host/token", "--exclude-path", "/v1/host/drain"),
            *("--exclude-path", "/v1/host/stop", "--seed", "1"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=Path(host.state_dir).parent,
    )
    assert finished.returncode == 0, finished.stdout[-5000:]
    for accelerator in host.session().request("GET", "/v1/accelerators"):
        host.session().detach(accelerator["accelerator_id"], drain_seconds=0)


def test_errors_over_the_wire_are_the_same_classes(operator: HostSession) -> None:
    with pytest.raises(InvalidInput, match="type 'none'"):
        operator.attach("none")
    with pytest.raises(ElasticInferenceError, match="GET /none: Not Found"):
        operator.request("GET", "/none")
