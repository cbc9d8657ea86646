"""Two accelerators saturate the device: what each got of it, by their own statistics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.common import Row
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting, Type, attached, clients, gpu_host
from benchmarks.isolation.hosts import metric
from benchmarks.isolation.load import LoadProcess
from elastic_inference.client.host_session import Attachment

PAIRS = ((0.1, 0.9), (0.25, 0.75), (0.5, 0.5), (0.3, 0.7))
BATCHES, SMALL_BATCHES = (8, 64), (1, 4)
THREADS = 3
DEVICE_SECONDS = "elastic_inference_lease_device_seconds_total"


def rows(setting: Setting) -> Iterator[Row]:
    """Requests alike, and of a small and a large batch."""
    small, large = SMALL_BATCHES if setting.is_small else BATCHES
    light, heavy = models.classifier(setting, small), models.classifier(setting, large)
    pairs = PAIRS[1:2] if setting.is_small else PAIRS
    kinds = {share: Type(share) for pair in pairs for share in pair}
    more = {"threads": THREADS}
    with gpu_host(setting, *kinds.values()) as host:
        for pair in pairs:
            with (
                attached(host, *(kinds[share] for share in pair)) as (one, other),
                clients((one, light, more), (other, light, more), (other, heavy, more)) as (a, b, c),
            ):
                yield _row(setting, pair, (one, other), (a, b), (small, small))
                yield _row(setting, pair, (one, other), (a, c), (small, large))


def _row(
    setting: Setting,
    pair: tuple[float, float],
    attachments: tuple[Attachment, Attachment],
    loads: tuple[LoadProcess, LoadProcess],
    batches: tuple[int, int],
) -> Row:
    used, passed, results = saturate(setting.seconds, attachments, loads)
    share = used[0] / sum(used)
    failed = sum(one["num_failed"] + one["num_wrong"] for one in results)
    speeds = [
        batch * len(one["latencies_seconds"]) / (setting.seconds + 2)
        for batch, one in zip(batches, results, strict=True)
    ]
    asked = ":".join(f"{100 * one:.0f}" for one in pair)
    return Row(
        f"asked {asked}, batches of {batches[0]} and {batches[1]}: points off",
        f"{100 * share:.2f}:{100 - 100 * share:.2f}, {failed} failed",
        f"device leased {sum(used) / passed:.0%}; {speeds[0]:.0f} + {speeds[1]:.0f} images/s; {setting.seconds:g} s",
        float("inf") if failed else abs(100 * (share - pair[0])),
        1,
        0.5,
        detail={
            "device_seconds": used,
            "passed_seconds": passed,
            "errors": [one["errors"] for one in results],
        },
    )


def saturate(
    seconds: float, attachments: tuple[Attachment, ...], loads: tuple[LoadProcess, ...]
) -> tuple[list[float], float, list[dict[str, Any]]]:
    """Load all at once: device seconds of each within `seconds` in the middle, seconds passed, the clients' results."""
    for load in loads:
        load.begin(seconds + 2)
    time.sleep(1)
    before, started = [metric(one, DEVICE_SECONDS) for one in attachments], time.monotonic()
    time.sleep(seconds)
    after, passed = [metric(one, DEVICE_SECONDS) for one in attachments], time.monotonic() - started
    results = [load.end() for load in loads]
    return [b - a for a, b in zip(before, after, strict=True)], passed, results
