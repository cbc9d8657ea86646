"""The audit log: who did what, also where it was refused; bounded, and whole after a kill in the middle of a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host import audit
from elastic_inference.host.audit import AuditLog, Entry
from tests.host.conftest import HostProcess


def entry(number: int, path: str = "/v1/accelerators") -> Entry:
    return Entry(float(number), "operator", "127.0.0.1", "api", "POST", path, "", 201, "id")


def test_entries_come_back_in_order_and_the_last_of_them(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    assert log.last(5) == []
    for number in range(10):
        log.append(entry(number))
    assert log.last(3) == [entry(7), entry(8), entry(9)]
    assert AuditLog(tmp_path / "audit.log").last(100)[0] == entry(0)
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


def test_half_a_line_of_a_host_that_was_killed_is_left_out(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log")
    log.append(entry(1))
    with open(tmp_path / "audit.log", "a") as file:
        file.write('{"at": 2.0, "wh')
    assert log.last(5) == [entry(1)]


def test_it_is_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_BYTES", 2000)
    log = AuditLog(tmp_path / "audit.log")
    for number in range(100):
        log.append(entry(number, "/" + "x" * 5000))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2 * 2000 + 1000
    assert log.last(2)[-1].at == 99.0
    assert len(log.last(100)) < 20


def test_a_disk_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    AuditLog(tmp_path / "nowhere" / "audit.log").append(entry(1))


def test_a_real_hosts_log_names_who_did_what_and_what_was_refused(
    start_host: Callable[..., HostProcess],
) -> None:
    host = start_host()
    operator = host.session()
    mine = operator.attach("cpu.quarter", name="mine")
    tenant = HostSession(host.url, mine.token)
    tenant.heartbeat(mine.accelerator_id)
    tenant.request("GET", "/v1/types")
    for session in (tenant, HostSession(host.url, "wrong")):
        with pytest.raises(ElasticInferenceError):
            session.request("POST", "/v1/host/drain", {"is_draining": True})
    tenant.detach(mine.accelerator_id, drain_seconds=0)
    found = operator.request("GET", "/v1/audit")
    seen = [(each["who"], each["method"], each["path"], each["status"]) for each in found]
    assert seen == [
        ("operator", "POST", "/v1/accelerators", 201),
        (mine.accelerator_id, "POST", "/v1/host/drain", 403),
        ("unknown", "POST", "/v1/host/drain", 401),
        (mine.accelerator_id, "DELETE", f"/v1/accelerators/{mine.accelerator_id}", 204),
    ]
    assert {each["accelerator_id"] for each in found} == {mine.accelerator_id, ""}
    assert found[0]["accelerator_id"] == mine.accelerator_id
    assert {each["address"] for each in found} == {"127.0.0.1"}
    with pytest.raises(ElasticInferenceError, match="unknown"):
        tenant.request("GET", "/v1/audit")
    assert mine.token not in json.dumps(found)
