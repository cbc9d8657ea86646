"""Calls that go on while accelerators and hosts are killed, and while a neighbour loads what it cannot hold."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from benchmarks.common import Row
from benchmarks.isolation.hosts import RunningHost, process_number, running_host
from benchmarks.isolation.load import LoadProcess
from benchmarks.isolation.tenants import classifier, closing, large_model, load
from elastic_inference import EIPredictor
from elastic_inference.client.host_session import Attachment
from elastic_inference.errors import MemoryQuotaExceeded

NUM_CLIENTS = 8


def accelerator_killed(mode: str, seconds: float) -> Row:
    """kill -9 of the accelerator every 3 s under load from 8 clients: failed or wrong answers."""

    def kill(_: RunningHost, tenant: Attachment) -> None:
        time.sleep(3)
        os.kill(process_number(tenant), signal.SIGKILL)

    return _killed(mode, "accelerator", seconds, kill)


def host_killed(mode: str, seconds: float) -> Row:
    """kill -9 of the host under load, then a new one in its place: failed or wrong answers of attached clients."""

    def kill(host: RunningHost, tenant: Attachment) -> None:
        time.sleep(2)
        host.kill()
        time.sleep(1)
        host.start()
        found = [view["accelerator_id"] for view in host.session.request("GET", "/v1/accelerators")]
        assert found == [tenant.accelerator_id], f"the host found {found} again"

    return _killed(mode, "host", seconds, kill)


def _killed(mode: str, what: str, seconds: float, kill: Callable[[RunningHost, Attachment], None]) -> Row:
    """Kill again and again while clients call; the last kill comes so early that its effect is still seen."""
    with running_host([1.0], mode) as host:
        tenant = host.attach(1.0)
        clients = [load(tenant, classifier()) for _ in range(NUM_CLIENTS)]
        for client in clients:
            client.begin(seconds)
        kills = 0
        end = time.monotonic() + seconds - 3
        while time.monotonic() < end:
            kill(host, tenant)
            kills += 1
        measure = f"{mode}: {what} killed {kills} times in {seconds:.0f} s, {NUM_CLIENTS} clients"
        return _survival_row(measure, clients)


def _survival_row(measure: str, clients: Sequence[LoadProcess]) -> Row:
    ends = [client.end() for client in clients]
    for client in clients:
        client.close()
    bad = sum(e["num_failed"] + e["num_wrong"] for e in ends)
    served = sum(len(e["latencies_seconds"]) for e in ends)
    slowest = max(s for e in ends for s in e["latencies_seconds"])
    errors = sorted({text for e in ends for text in e["errors"]})
    return Row(
        measure,
        f"{bad} failed or wrong",
        f"{served} served, slowest {slowest:.2f} s",
        float(bad),
        0,
        0,
        detail={"errors": errors},
    )


def too_large(mode: str, seconds: float) -> Row:
    """A model larger than the accelerator: its error, and the neighbour's errors meanwhile."""
    with running_host([0.5], mode) as host:
        tenant, small = host.attach(0.5), host.session.attach("small", lease_seconds=None)
        with closing(load(tenant, classifier())) as client:
            client.begin(seconds)
            said = _load_error(small)
            end = client.end()
    figures = f"needs {said.requested_bytes} bytes, limit {said.limit_bytes}" if said else "no such error"
    bad = end["num_failed"] + end["num_wrong"] + (said is None)
    return Row(
        f"{mode}: model larger than the accelerator: neighbour's errors",
        f"{bad} ({figures})",
        f"{len(end['latencies_seconds'])} served",
        float(bad),
        0,
        0,
        detail={"error": str(said)},
    )


def _load_error(attachment: Attachment) -> MemoryQuotaExceeded | None:
    names = {n: f"{n}:0" for n in ("detection_boxes", "detection_scores")}
    try:
        EIPredictor(
            large_model(),
            input_names={"inputs": "image_tensor:0"},
            output_names=names,
            address=attachment.usable_endpoints()[0],
            token=attachment.token,
        ).close()
    except MemoryQuotaExceeded as error:
        return error
    return None
