"""What tenants get: their shares, spare compute, the time of an attach, the cost of limits."""

from __future__ import annotations

import statistics
import time

from benchmarks.common import Row
from benchmarks.isolation.hosts import cpu_seconds, running_host
from benchmarks.isolation.tenants import SATURATING_THREADS, classifier, closing, load
from elastic_inference.client.host_session import Attachment
from elastic_inference.testing import start_accelerator


def shares(mode: str, seconds: float) -> list[Row]:
    """Two tenants saturate the device: the share of the device seconds that the smaller one got."""
    rows = []
    for small in (0.1, 0.25, 0.5):
        with running_host([small, 1 - small], mode) as host:
            tenants = [host.attach(small), host.attach(1 - small)]
            loads = [load(t, classifier(), threads=SATURATING_THREADS) for t in tenants]
            for one in loads:
                one.begin(seconds + 4)
            time.sleep(2)  # both are under way before the first reading
            before = [cpu_seconds(t) for t in tenants]
            time.sleep(seconds)
            used = [cpu_seconds(t) - b for t, b in zip(tenants, before, strict=True)]
            ends = [one.end() for one in loads]
            for one in loads:
                one.close()
        got = used[0] / sum(used)
        rows.append(
            Row(
                f"{mode}: asked {small:.0%}:{1 - small:.0%}, saturated {seconds:.0f} s, points off",
                f"{got:.2%}:{1 - got:.2%}",
                f"{used[0]:.2f} s, {used[1]:.2f} s CPU",
                abs(got - small) * 100,
                2,
                0.5,
                detail={
                    "used_cpu_seconds": used,
                    "num_requests": [len(e["latencies_seconds"]) for e in ends],
                },
            )
        )
    return rows


def bursting(mode: str, seconds: float) -> Row:
    """Requests a second of a tenant with half the device beside an idle neighbour, with and without bursting."""
    rates = []
    for is_bursting in (False, True):
        with running_host([0.5], mode, is_bursting) as host:
            tenant, _ = host.attach(0.5), host.attach(0.5)
            with closing(load(tenant, classifier(), threads=2)) as client:
                client.run(1)
                rates.append(len(client.run(seconds)["latencies_seconds"]) / seconds)
    return Row(
        f"{mode}: idle neighbour, half the device: bursting over not bursting",
        f"{rates[1]:.1f}/s",
        f"{rates[0]:.1f}/s",
        rates[1] / rates[0],
    )


def attach_time(mode: str, count: int) -> Row:
    """From the call of attach to an accelerator that serves, on a warm host."""
    took = []
    with running_host([0.5], mode) as host:
        for _ in range(count + 1):
            time.sleep(1.5)  # the host makes ready for the next one
            start = time.monotonic()
            attachment = host.attach(0.5)
            took.append(time.monotonic() - start)
            host.detach(attachment)
    took = took[1:]
    return Row(
        f"{mode}: attach to ready on a warm host, s",
        f"median {statistics.median(took):.3f} s, slowest {max(took):.3f} s",
        f"{count} times",
        statistics.median(took),
        1.0,
        0.3,
    )


def limits_cost(mode: str, seconds: float, rounds: int) -> Row:
    """Throughput of one tenant with the whole device over that of an accelerator without any host."""
    held, free = [], []
    with running_host([1.0], mode) as host, start_accelerator(("unix:{folder}/a.sock",)) as plain:
        tenant = host.attach(1.0)
        without = Attachment("", (plain.address,), plain.token, "none")
        with (
            closing(load(tenant, classifier(), threads=2)) as a,
            closing(load(without, classifier(), threads=2)) as b,
        ):
            for _ in range(rounds):
                for client, counts in ((a, held), (b, free)):
                    counts.append(len(client.run(seconds)["latencies_seconds"]) / seconds)
    ratios = [h / f for h, f in zip(held, free, strict=True)]
    return Row(
        f"{mode}: throughput with 100% of the device over no host at all",
        f"{statistics.median(held):.1f}/s",
        f"{statistics.median(free):.1f}/s",
        statistics.median(held) / statistics.median(free),
        0.97,
        0.99,
        is_upper=False,
        spread=(min(ratios), max(ratios)),
    )
