"""Attach, resize, detach and recovery with real accelerator processes."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.errors import (
    AcceleratorBusy,
    AcceleratorNotFound,
    CapacityExceeded,
    ElasticInferenceError,
    InvalidInput,
    MemoryQuotaExceeded,
    NameTaken,
    PermissionDenied,
)
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.host import Host
from elastic_inference.host.processes.isolation import Isolation
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.protocol.shared_memory import Region
from tests.host.conftest import free_ports
from tests.host.support import predictor, wait_until

MIB = 1024**2
SMALL = AcceleratorType("small", 512 * MIB, device_share=0.25, usd_per_hour=Decimal("0.13"))
BIGGER = AcceleratorType("bigger", 1024 * MIB, device_share=0.5, usd_per_hour=Decimal("0.26"))
TINY = AcceleratorType("tiny", 192 * MIB, device_share=0.05)
WIDE = AcceleratorType("wide", 512 * MIB, device_share=1.0)
KINDS = (SMALL, BIGGER, TINY, WIDE)
MODES = (None, "rlimit and duty cycle")

OpenHost = Callable[..., Host]


def ask(record: AcceleratorRecord, token: str) -> None:
    request_json(Endpoint.parse(record.endpoints[0]), "GET", "/v2/accelerator", token=token)


@pytest.mark.parametrize("mode", MODES)
def test_an_attached_accelerator_predicts_at_each_endpoint(
    open_host: OpenHost, model: Path, mode: str
) -> None:
    service = open_host(user_types=KINDS, limits_mode=mode).service
    record, token = service.attach("small", name="first")
    assert (record.state, record.name, len(record.endpoints)) == (State.READY, "first", 2)
    for number in range(2):
        with predictor(record.endpoints[number], token, model) as predict:
            assert predict({"x": np.arange(3, dtype=np.int32)})["y"].tolist() == [0, 2, 4]
            assert predict.report.accelerator_type == "small"
            limits = service.limits_of(record)
            assert set(limits) == {"compute", "memory", "cores"}
            means = "affinity of threads" if mode else "(cpuset|affinity of threads)"
            assert re.fullmatch(rf"\d+(, \d+)* by {means}", limits["cores"])
            assert predict.report.limits == {name: limits[name] for name in ("compute", "memory")}


def test_a_name_is_one_accelerators_until_that_is_detached(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    first, _ = service.attach("tiny", name="mine")
    before = service.capacity
    with pytest.raises(NameTaken, match=rf"{first.accelerator_id} of this host has the name 'mine'"):
        service.attach("tiny", name="mine")
    assert service.capacity == before
    assert [record.accelerator_id for record in service.list_all()] == [first.accelerator_id]
    service.detach(first.accelerator_id)
    assert service.attach("tiny", name="mine")[0].name == "mine"


def test_of_many_that_attach_one_name_at_once_one_gets_it(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service

    def attach(_: int) -> str:
        try:
            return service.attach("tiny", name="mine")[0].name
        except NameTaken:
            return "taken"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attach, range(4))) == ["mine", "taken", "taken", "taken"]
    (record,) = service.list_all()
    assert set(service.capacity.held) == {record.accelerator_id}


def test_attach_beyond_capacity_is_refused_with_what_is_left(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    service.attach("bigger")
    service.attach("small")
    with pytest.raises(CapacityExceeded, match=r"cpu:0 has 0.05 FP32 TFLOPS \(25% of the device\)"):
        service.attach("bigger")
    with pytest.raises(CapacityExceeded, match="no device here is that large"):
        service.attach("eia1.medium")
    available = {offer.kind.name: offer.num_available for offer in service.offers()}
    assert (available["small"], available["bigger"], available["eia1.medium"]) == (1, 0, 0)


def test_many_attach_at_once_and_none_beyond_capacity(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service

    def attach(_: int) -> str:
        try:
            return service.attach("small")[0].accelerator_id
        except CapacityExceeded:
            return "refused"

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(attach, range(6)))
    assert answers.count("refused") == 2
    assert len({r.port for r in service.list_all()}) == 4


def test_an_unknown_type_is_named_with_those_there_are(open_host: OpenHost) -> None:
    with pytest.raises(InvalidInput, match=r"type 'huge' is not one of bigger, cpu\.half"):
        open_host(user_types=KINDS).service.attach("huge")


@pytest.mark.parametrize(
    "name", ["", "x" * 101, "a\nb", "\ud800", " a", "a b/../x", "a\\b", "a,b", "12", "eia-3f"]
)
def test_a_name_beyond_its_limits_is_refused(open_host: OpenHost, name: str) -> None:
    with pytest.raises(
        InvalidInput, match=r"is not 1 to 100 printable characters|must hold no slash or comma"
    ):
        open_host(user_types=KINDS).service.attach("small", name=name)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others cannot give processes users of their own")
def test_accelerators_run_as_users_of_their_own_without_new_privileges(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS, uids=range(63000, 63010))
    records = [host.service.attach("small")[0] for _ in range(2)]
    assert [r.uid for r in records] == [63000, 63001]
    for record in records:
        assert record.process is not None
        status = Path(f"/proc/{record.process.pid}/status").read_text()
        assert f"Uid:\t{record.uid}\t{record.uid}\t{record.uid}" in status
        assert "NoNewPrivs:\t1" in status
        assert "Groups:\t \n" in status
        folder = host.folder.accelerator(record.accelerator_id)
        assert {p.stat().st_uid for p in (folder.path, folder.store, folder.artifacts)} == {record.uid}
        assert {p.stat().st_mode & 0o777 for p in (folder.store, folder.artifacts)} == {0o700}
    for private in (host.folder.secret, host.folder.operator_token, host.folder.database):
        assert private.stat().st_mode & 0o077 == 0


def test_the_process_is_told_nothing_of_the_hosts_environment(
    open_host: OpenHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EI_TOKEN", "AWS_SECRET_ACCESS_KEY", "OTEL_EXPORTER_OTLP_HEADERS", "TF_X", "OPENVINO_X"):
        monkeypatch.setenv(name, "the operator's")
    record, _ = open_host(user_types=KINDS).service.attach("small")
    assert record.process is not None
    environment = Path(f"/proc/{record.process.pid}/environ").read_text()
    assert "the operator's" not in environment
    assert record.accelerator_id not in Path(f"/proc/{record.process.pid}/cmdline").read_text()


def test_the_process_is_told_what_the_operator_passes_on(
    open_host: OpenHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_ONE", "OTEL_TWO", "OTHER", "OTHERS"):
        monkeypatch.setenv(name, "passed on")
    record, _ = open_host(user_types=KINDS, pass_on=("OTEL_*", "OTHER")).service.attach("small")
    assert record.process is not None
    pairs = Path(f"/proc/{record.process.pid}/environ").read_text().split("\0")
    assert {p.partition("=")[0] for p in pairs if "passed on" in p} == {"OTEL_ONE", "OTEL_TWO", "OTHER"}


def test_shared_memory_works_between_users_and_only_for_those_it_was_granted_to(
    open_host: OpenHost, model: Path
) -> None:
    service = open_host(user_types=KINDS).service
    (first, first_token), (second, second_token) = service.attach("small"), service.attach("small")
    with predictor(first.endpoints[0], first_token, model) as predict:
        assert predict.report.transport == "unix + shared memory"
        assert predict({"x": np.arange(100_000, dtype=np.int32)})["y"][-1] == 199_998
    assert first.uid is not None or os.geteuid() != 0, "as root, accelerators here have users of their own"
    region = Region.create(4096)
    try:
        if first.uid is not None:
            region.grant(first.uid)
        body = {"key": region.key, "offset": 0, "byte_size": 4096}
        path = "/v2/systemsharedmemory/region/mine/register"
        by_unix, by_tcp = (Endpoint.parse(e) for e in first.endpoints)
        request_json(by_unix, "POST", path, body, token=first_token)
        if first.uid is not None:
            other = Endpoint.parse(second.endpoints[0])
            with pytest.raises(InvalidInput, match="Permission denied"):
                request_json(other, "POST", path, body, token=second_token)
            with pytest.raises(
                InvalidInput, match="not owned by this user"
            ):  # by TCP nobody vouches for a user
                request_json(by_tcp, "POST", path.replace("mine", "again"), body, token=first_token)
    finally:
        region.unlink()
        region.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_neighbours_that_have_whole_cores_do_not_share_one(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    first, second = (service.attach("bigger")[0] for _ in range(2))
    assert first.process is not None
    assert second.process is not None
    cores = [os.sched_getaffinity(r.process.pid) for r in (first, second) if r.process is not None]
    assert [len(c) for c in cores] == [1, 1]
    assert cores[0] != cores[1]
    service.detach(second.accelerator_id)
    service.resize(first.accelerator_id, "wide")
    process = service.get(first.accelerator_id).process
    assert process is not None
    assert len(os.sched_getaffinity(process.pid)) == 2


def test_detach_leaves_nothing(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS)
    record, token = host.service.attach("small")
    host.service.detach(record.accelerator_id)
    assert record.process is not None
    assert not record.process.is_alive()
    assert host.limits.processes(record.accelerator_id) == ()
    assert record.accelerator_id not in host.limits.list_existing()
    assert not host.folder.accelerator(record.accelerator_id).path.exists()
    assert list((host.folder.path / "homes").iterdir()) == []
    assert list((host.folder.path / "logs").iterdir()) == []
    assert host.service.capacity.held == {}
    with pytest.raises(AcceleratorNotFound):
        host.service.detach(record.accelerator_id)
    with pytest.raises(ElasticInferenceError):
        ask(record, token)


def test_who_changes_an_accelerator_at_the_same_time_is_told_so_and_not_held(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    record, _ = service.attach("small")

    def detach(_: int) -> str:
        try:
            service.detach(record.accelerator_id)
        except (AcceleratorBusy, AcceleratorNotFound) as error:
            return type(error).__name__
        return "detached"

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(detach, range(8)))
    assert answers.count("detached") == 1
    assert set(answers) <= {"detached", "AcceleratorBusy", "AcceleratorNotFound"}
    assert service.list_all() == ()


def test_a_start_that_fails_leaves_nothing(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS)
    host.launcher.isolation = Isolation("/bin/false", "", None, "a program that does not serve")
    with pytest.raises(ElasticInferenceError, match=r"did not become ready|exited with status 1 at once"):
        host.service.attach("small")
    assert host.service.list_all() == ()
    assert host.service.capacity.held == {}
    assert host.limits.list_existing() == ()
    assert list(host.folder.accelerators.iterdir()) == []
    assert host.service.usage() == ()


def test_a_port_that_another_program_holds_is_passed_over(open_host: OpenHost) -> None:
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports[0])):
        service = open_host(user_types=KINDS, ports=ports[:2]).service
        record, _ = service.attach("small")
        assert record.port == ports[1]
        with pytest.raises(CapacityExceeded, match="all TCP ports"):
            service.attach("small")
    assert service.attach("small")[0].port == ports[0]


def test_without_tcp_there_is_a_unix_socket_alone(open_host: OpenHost) -> None:
    record, _ = open_host(user_types=KINDS, data_host=None).service.attach("small")
    assert [e.split(":")[0] for e in record.endpoints] == ["unix"]


def test_a_resize_keeps_endpoints_token_and_models(open_host: OpenHost, model: Path) -> None:
    service = open_host(user_types=KINDS).service
    record, token = service.attach("small")
    with predictor(record.endpoints[0], token, model) as predict:
        for kind in ("wide", "small", "bigger"):
            changed, _ = service.resize(record.accelerator_id, kind)
            assert (changed.kind.name, changed.endpoints) == (kind, record.endpoints)
            assert predict({"x": np.array([4], np.int32)})["y"].tolist() == [8]
            (usage,) = service.usage()
            assert usage.accelerator_types[-1] == kind
    assert service.get(record.accelerator_id).num_restarts == 0
    assert service.capacity.held[record.accelerator_id].share == 0.5


def test_a_resize_to_less_of_the_same_threads_does_not_touch_the_process(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS)
    if host.limits.name == "rlimit and duty cycle":
        pytest.skip("needs control groups: a duty cycle is the process's own")
    record, _ = host.service.attach("small")
    cheaper = AcceleratorType("cheaper", SMALL.memory_bytes, device_share=0.1)
    host.service.catalogue["cheaper"] = cheaper
    changed, was_restarted = host.service.resize(record.accelerator_id, "cheaper")
    assert not was_restarted
    assert changed.process == record.process
    offered = host.service.context.num_cores["cpu:0"]
    assert f"0.10 of {offered:g} cores" in host.service.limits_of(changed)["compute"]


def test_a_resize_that_does_not_fit_changes_nothing(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    record, _ = service.attach("small")
    service.attach("bigger")
    with pytest.raises(CapacityExceeded):
        service.resize(record.accelerator_id, "wide")
    with pytest.raises(InvalidInput):
        service.resize(record.accelerator_id, "huge")
    assert replace(service.get(record.accelerator_id), sample=record.sample) == record
    assert service.capacity.held[record.accelerator_id].share == 0.25


def test_a_resize_below_what_is_in_use_is_refused_with_both_figures(open_host: OpenHost, model: Path) -> None:
    service = open_host(user_types=KINDS).service
    record, token = service.attach("small")
    with predictor(record.endpoints[1], token, model) as predict:
        predict({"x": np.zeros(15 * MIB, np.int32)})  # the connection keeps a buffer of that size
        with pytest.raises(MemoryQuotaExceeded) as caught:
            service.resize(record.accelerator_id, "tiny")
    assert caught.value.requested_bytes > caught.value.limit_bytes == 192 * MIB
    assert service.get(record.accelerator_id).kind == SMALL


def test_a_new_token_is_taken_and_the_old_one_refused_at_once(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    record, old = service.attach("small")
    ask(record, old)
    new = service.rotate_token(record.accelerator_id)
    ask(record, new)
    with pytest.raises(PermissionDenied):
        ask(record, old)


def test_a_token_opens_its_own_accelerator_only(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    (first, first_token), (second, second_token) = service.attach("small"), service.attach("small")
    for record, token in ((first, second_token), (second, first_token), (first, ""), (first, "x")):
        with pytest.raises(PermissionDenied):
            ask(record, token)


def test_usage_counts_inferences_time_and_cost(open_host: OpenHost, model: Path) -> None:
    host = open_host(user_types=KINDS)
    record, token = host.service.attach("small")
    with predictor(record.endpoints[0], token, model) as predict:
        before = host.service.usage()[0].inferences
        for _ in range(10):
            predict({"x": np.array([1], np.int32)})
    host.service.detach(record.accelerator_id)
    (row,) = host.service.usage()
    assert row.inferences - before == 10
    assert row.device_seconds > 0
    assert row.cost_usd is not None
    assert abs(row.cost_usd - Decimal("0.13") * Decimal(row.attached_seconds) / 3600) < Decimal("1e-9")
    assert row.usd_per_100k == row.cost_usd * 100_000 / row.inferences
    assert not row.is_attached


def test_a_draining_host_takes_nothing_new_and_serves_on(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    record, token = service.attach("small")
    service.drain(True)
    with pytest.raises(CapacityExceeded, match="drains"):
        service.attach("small")
    ask(record, token)


def test_a_spare_process_is_taken_and_replaced(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS, num_spares=1)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the first spare process")
    service = host.service
    record, token = service.attach("small")
    ask(record, token)
    wait_until(lambda: host.launcher.num_spares_ready == 1, "the next spare process")
    service.detach(record.accelerator_id)


def test_the_client_of_an_expired_lease_loses_its_accelerator(open_host: OpenHost) -> None:
    service = open_host(user_types=KINDS).service
    vanished, _ = service.attach("small", lease_seconds=1.0)
    stays, _ = service.attach("small")
    wait_until(
        lambda: [r.accelerator_id for r in service.list_all()] == [stays.accelerator_id],
        "the lease's end",
    )
    assert vanished.process is not None
    assert not vanished.process.is_alive()
