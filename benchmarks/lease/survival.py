"""What a hand-over takes, and what becomes of the others when a holder is killed or stopped."""

from __future__ import annotations

import itertools
import random
import signal
import statistics
import time

from benchmarks.common import Row, percentile
from benchmarks.isolation.tenants import closing
from benchmarks.lease.peers import peers
from benchmarks.lease.tenants import RunningTenant, Tenant, sharing


def handover(seconds: float) -> list[Row]:
    """From the call that gives the device back to having it in the process that waited."""
    rows = []
    for num_peers in (2, 32):
        with peers(*[1 / num_peers] * num_peers) as (_, running):
            for one in running:
                one.tell("turns", seconds, 0.002)
            turns = sorted((held, back, n) for n, one in enumerate(running) for held, back in one.hear())
        gaps = [
            (after[0] - before[1]) * 1e6
            for before, after in itertools.pairwise(turns)
            if before[2] != after[2] and 0 < after[0] - before[1] < 0.1
        ]
        p50, p99 = percentile(gaps, 0.5), percentile(gaps, 0.99)
        rows.append(
            Row(
                f"hand-over among {num_peers} processes, each always waiting, us (p50)",
                f"{p50:.0f} us, p99 {p99:.0f} us",
                f"{len(gaps)} hand-overs",
                p50,
                detail={"p10": percentile(gaps, 0.1), "p90": percentile(gaps, 0.9)},
            )
        )
    return rows


def free_again(times: int) -> list[Row]:
    """From the signal that ends or stops a holder to the device being another's."""
    return [
        _free_again("killed (-9)", signal.SIGKILL, times),
        _free_again("stopped (SIGSTOP)", signal.SIGSTOP, times),
    ]


def _free_again(what: str, number: signal.Signals, times: int) -> Row:
    took = []
    for _ in range(times):
        with peers(0.5, 0.5) as (keeper, (holder, other)):
            holder.tell("hold")
            holder.hear()
            other.tell("hold")
            while not keeper.is_waiting(other.accelerator_id):
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.1))
            sent_at = time.monotonic()
            holder.process.send_signal(number)
            took.append(other.hear() - sent_at)
            holder.process.send_signal(signal.SIGCONT)
    return Row(
        f"holder {what}: s until another has the device (slowest)",
        f"median {statistics.median(took):.3f} s, slowest {max(took):.3f} s",
        f"{times} times",
        max(took),
        1.0,
        0.1,
        spread=(min(took), max(took)),
    )


def others(times: int) -> list[Row]:
    """The answers of a tenant whose neighbour, saturating, is killed or stopped over and over."""
    return [
        _others("killed (-9)", signal.SIGKILL, times),
        _others("stopped (SIGSTOP) for a second", signal.SIGSTOP, times),
    ]


def _others(what: str, number: signal.Signals, times: int) -> Row:
    latencies: list[float] = []
    bad = 0
    for _ in range(times):
        bad += _disturb(number, latencies)
    return Row(
        f"neighbour {what}: wrong or lost answers of a tenant",
        f"{bad} of {len(latencies)}, slowest {max(latencies):.3f} s",
        f"{times} times",
        bad,
        0,
        0,
    )


def _disturb(number: signal.Signals, latencies: list[float]) -> int:
    """Run a tenant for 3 s beside one that gets the signal after 1 s; how many of its answers were wrong or lost."""
    # A stopped process leaves the fake device locked, as no process leaves hardware.
    is_exclusive = number == signal.SIGKILL
    tenant = Tenant(0.5, 0.025, 0.002)
    with sharing([tenant, tenant], is_exclusive) as (own, neighbour), closing(own.load()) as client:
        busy = neighbour.load()
        try:
            busy.begin(3600)
            client.begin(3)
            time.sleep(1)
            _signal(neighbour, number)
            result = client.end()
        finally:
            _signal(neighbour, signal.SIGCONT)
            busy.kill()
    latencies += result["latencies_seconds"]
    return int(result["num_failed"] + result["num_wrong"])


def _signal(tenant: RunningTenant, number: signal.Signals) -> None:
    tenant.accelerator.process.send_signal(number)
    if number == signal.SIGSTOP:
        time.sleep(1)
        tenant.accelerator.process.send_signal(signal.SIGCONT)
