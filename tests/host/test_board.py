"""What a host sees of its accelerators: events found between two looks, rates, an hour of history, rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.host.accounts.capacity import Allocation, Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.host.events import KEPT_SECONDS, MAX_EVENTS, EventLog, Kind, Seen, compare
from elastic_inference.host.history import NUM_POINTS, STEP_SECONDS, History
from elastic_inference.host.host import Host
from elastic_inference.host.meter import Reading
from elastic_inference.host.rates import Rates
from elastic_inference.host.rows import accelerator_row, device_rows
from tests.host.support import predictor, wait_until

MIB = 1 << 20
TYPE = AcceleratorType("small", 512 * MIB, device_share=0.25, usd_per_hour=Decimal("0.13"))
RECORD = AcceleratorRecord("eia-1", "mine", TYPE, "cpu:0", 0.25, "", 1000.0, state=State.READY)


def statistics(num_refused: int = 0, num_memory: int = 0) -> dict[str, Any]:
    outcomes = {"success": 4, "MemoryQuotaExceeded": num_memory}
    model = {
        "name": "m", "state": "READY", "reason": "", "engine": "openvino", "precision": "fp32", "device": "CPU",
        "proof": "agrees", "num_by_outcome": outcomes, "service_seconds": 0.5,
    }  # fmt: skip
    parts = {"total_seconds": 0.4, "queue_seconds": 0.1, "service_seconds": 0.25, "wire_seconds": 0.05}
    return {
        "queue": {"num_waiting": 3, "num_running": 1, "num_refused": num_refused},
        "latency": {"num_requests": 4, "p50": parts, "p99": parts},
        "lease": {"wait_seconds": 1.25},
        "models": [model],
    }


def reading(**changes: Any) -> Reading:
    values: dict[str, Any] = {
        "is_healthy": True, "sample": Sample(4, 1.0, 0.0), "memory_bytes": 100 * MIB,
        "memory_limit_bytes": 512 * MIB, "utilisation_share": 0.501, "num_oom_kills": 0, "read_at": 2000.0,
        "statistics": statistics(),
    }  # fmt: skip
    return Reading(**{**values, **changes})


def found(before: Seen | None, after: Seen | None) -> list[tuple[Kind, str]]:
    both = [{} if seen is None else {"eia-1": seen} for seen in (before, after)]
    return [(each.kind, each.text) for each in compare(*both)]


USUAL = Seen(RECORD, reading())


def test_nothing_happened() -> None:
    assert found(USUAL, USUAL) == []


def test_an_accelerator_is_attached_when_it_serves_and_one_that_never_did_never_was() -> None:
    starting = Seen(replace(RECORD, state=State.STARTING), reading(is_healthy=False))
    assert found(None, starting) == []
    assert found(starting, USUAL) == found(None, USUAL) == [(Kind.ATTACHED, "small on cpu:0")]
    assert found(starting, None) == []
    assert found(USUAL, None) == [(Kind.DETACHED, "small on cpu:0")]


def test_a_kill_and_what_follows() -> None:
    why = "killed by SIGKILL"
    record = replace(RECORD, state=State.RESTARTING, num_restarts=1, last_exit=why)
    dead = Seen(record, reading(is_healthy=False))
    assert found(USUAL, dead) == [(Kind.DIED, "killed by SIGKILL; restart 1")]
    again = Seen(replace(record, state=State.READY), reading())
    assert found(dead, again) == [(Kind.SERVES_AGAIN, "its models are loaded again")]
    # Between two looks it died and came back.
    assert [kind for kind, _ in found(USUAL, again)] == [Kind.DIED, Kind.SERVES_AGAIN]
    # It did so before anybody looked.
    assert [kind for kind, _ in found(None, again)] == [Kind.ATTACHED, Kind.DIED, Kind.SERVES_AGAIN]


def test_what_the_kernel_and_the_accelerator_refuse() -> None:
    killed = Seen(RECORD, reading(num_oom_kills=2))
    assert found(USUAL, killed) == [(Kind.OUT_OF_MEMORY, "the kernel killed 2 processes")]
    refused = Seen(RECORD, reading(statistics=statistics(num_refused=1, num_memory=2)))
    assert found(USUAL, refused) == [
        (Kind.REFUSED, "1 request: its queue was full"),
        (Kind.OUT_OF_MEMORY, "2 requests refused: more memory than it has"),
    ]
    # A process that began anew counts from 0.
    assert found(Seen(RECORD, reading(statistics=statistics(num_refused=9))), refused) == [
        (Kind.REFUSED, "1 request: its queue was full"),
        (Kind.OUT_OF_MEMORY, "2 requests refused: more memory than it has"),
    ]


def test_one_that_hangs_is_told_once() -> None:
    silent = Seen(RECORD, reading(is_healthy=False))
    assert found(USUAL, silent) == [(Kind.SILENT, "its process does not answer the host")]
    assert found(silent, silent) == []
    assert found(silent, USUAL) == [(Kind.ANSWERS_AGAIN, "its process answers the host")]


def test_a_resize() -> None:
    larger = replace(TYPE, name="large", device_share=0.5)
    assert found(USUAL, Seen(replace(RECORD, kind=larger), reading())) == [(Kind.RESIZED, "small to large")]


def test_events_are_bounded_in_number_and_in_time() -> None:
    log = EventLog()
    for number in range(MAX_EVENTS + 3):
        log.add(float(number), Kind.HOST, "something")
    assert [event.number for event in log.after(0)] == list(range(4, MAX_EVENTS + 4))
    log.add(MAX_EVENTS + 3 + KEPT_SECONDS, Kind.HOST, "something")
    assert log.after(0)[0].at >= MAX_EVENTS + 2
    assert [event.number for event in log.after(log.last_number - 1)] == [log.last_number]


def test_history_keeps_an_hour_of_those_that_are_attached() -> None:
    history = History()
    assert history.is_due(0.0)
    for number in range(NUM_POINTS + 2):
        history.note(number * STEP_SECONDS, {"eia-1": (float(number), None, 0.5, 100.0, 0.0)})
    kept = history.of("eia-1")
    assert kept["at"] == [number * STEP_SECONDS for number in range(2, NUM_POINTS + 2)]
    assert kept["requests_per_second"][-1] == NUM_POINTS + 1
    assert set(kept["p99_seconds"]) == {None}
    assert not history.is_due(kept["at"][-1] + STEP_SECONDS - 1)  # type: ignore[operator]
    assert history.is_due(0.0)  # the clock was set back
    history.note(1e6, {"eia-2": (0.0,) * 5})
    assert history.of("eia-1")["at"] == []


def test_rates_are_differences_over_seconds_and_survive_a_new_process() -> None:
    rates = Rates()
    for second in range(20):
        (rate,) = rates.of({"eia-1": (float(second), Sample(10 * second, 0.0, second / 2))}).values()
    assert rate == (10.0, 0.5)
    assert rates.of({"eia-1": (20.0, Sample(1, 0.0, 0.0))})["eia-1"] == (0.0, 0.0)
    assert rates.of({"eia-1": (21.0, Sample(3, 0.0, 0.0))})["eia-1"] == (2.0, 0.0)
    assert rates.of({"eia-2": (22.0, Sample(3, 0.0, 0.0))}) == {"eia-2": (0.0, 0.0)}


def test_a_row_says_what_computes_and_where_the_time_goes() -> None:
    row = accelerator_row(RECORD, reading(), (12.3456, 0.25), 47.0, None)
    assert row["p99"] == {"total_ms": 400.0, "queue_ms": 100.0, "service_ms": 250.0, "wire_ms": 50.0}
    (model,) = row["models"]
    assert (model["engine"], model["precision"], model["proof"]) == ("openvino", "fp32", "agrees")
    assert (model["num_ok"], model["mean_service_ms"]) == (4, 125.0)
    assert (row["requests_per_second"], row["utilisation_share"], row["cost_usd"]) == (12.3, 0.5, None)


def test_a_row_of_one_from_before_the_hosts_last_upgrade() -> None:
    """It serves on under the new host, whose page and usage show what it does say."""
    told = statistics()
    told["models"] = [
        {
            name: value
            for name, value in model.items()
            if name not in ("engine", "precision", "device", "proof")
        }
        for model in told["models"]
    ]
    (model,) = accelerator_row(RECORD, reading(statistics=told), (0.0, 0.0), None, None)["models"]
    assert (model["engine"], model["precision"], model["device"], model["proof"]) == (None, None, None, "")
    assert model["num_ok"] == 4


def test_a_row_of_one_that_never_answered() -> None:
    silent = reading(is_healthy=False, statistics={}, utilisation_share=None)
    row = accelerator_row(RECORD, silent, (0.0, 0.0), None, None)
    assert (row["p99"], row["models"], row["num_waiting"], row["lease_wait_seconds"]) == (None, [], 0, None)


def test_a_device_shows_what_is_granted_beside_what_is_used() -> None:
    device = DeviceCapacity("cpu:0", 1.0, 1024 * MIB)
    capacity = Capacity((device,), {"eia-1": Allocation("cpu:0", 0.25, 512 * MIB)})
    row = accelerator_row(RECORD, reading(), (0.0, 0.0), None, None)
    (shown,) = device_rows(capacity, {"cpu:0": "lease"}, [row])
    assert (shown["granted_share"], shown["used_share"]) == (0.25, 0.12)
    assert (shown["granted_memory_bytes"], shown["used_memory_bytes"]) == (512 * MIB, 100 * MIB)
    assert (shown["sharing"], shown["lease_wait_seconds"]) == ("lease", 1.2)


@pytest.mark.timeout(240)
def test_a_snapshot_of_a_real_host(open_host: Callable[..., Host], model: Path) -> None:
    types = (replace(TYPE, memory_bytes=256 * MIB),)
    host = open_host(user_types=types)
    seen: list[float] = []
    host.service.board.listen(lambda snapshot: seen.append(snapshot.at))
    record, token = host.service.attach("small", "mine")
    with predictor(record.endpoints[0], token, model) as predict:
        predict({"x": [1.0]})
        snapshot = host.service.board.fresh()
        (row,) = snapshot.rows
        assert row["models"][0]["engine"] == predict.report.engine
        assert row["p50"]["total_ms"] > 0
        wait_until(lambda: Decimal(host.service.board.fresh().rows[0]["cost_usd"] or 0) >= 0, "a cost")
    wait_until(lambda: len(seen) > 1, "snapshots of the host's own")
    host.service.detach(record.accelerator_id, 0.0)
    host.service.board.fresh()
    kinds = [event.kind for event in host.service.board.events.after(0)]
    assert kinds[0] is Kind.ATTACHED
    assert kinds[-1] is Kind.DETACHED
