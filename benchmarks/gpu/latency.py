"""A tenant at 40% of its share beside one that saturates the device: by either kind of program, and without a lease."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks.common import Row, percentile
from benchmarks.gpu import models
from benchmarks.gpu.setting import Setting, Type, attached, clients, gpu_host
from benchmarks.gpu.shares import BATCHES, DEVICE_SECONDS, SMALL_BATCHES, THREADS
from benchmarks.isolation.hosts import metric
from benchmarks.isolation.load import LoadProcess
from elastic_inference.client.host_session import Attachment
from elastic_inference.testing import start_accelerator

SHARE = 0.5
LOAD_SHARE = 0.4  # of what the light tenant's share could serve
RATE_THREADS = 8
LIGHT, HEAVY = Type(SHARE), Type(SHARE, may_burst=True)


def rows(setting: Setting) -> Iterator[Row]:
    """Alone and beside each neighbour, at one rate."""
    small, large = SMALL_BATCHES if setting.is_small else BATCHES
    light = models.classifier(setting, small)
    program, script = models.classifier(setting, large), models.classifier(setting, large, is_script=True)
    with gpu_host(setting, LIGHT, HEAVY) as host, attached(host, LIGHT, HEAVY) as (one, other):
        held_seconds = _held_seconds(setting, one, light)
        rate = LOAD_SHARE * SHARE / held_seconds
        with clients((one, light, {"threads": RATE_THREADS, "rate": rate})) as (load,):
            load.run(1)
            alone = _measure(setting, load, one)
            yield _row("alone under its lease", rate, alone, None)
            for what, model in (("torch.export", program), ("TorchScript", script)):
                with _busy(other, model):
                    beside = _measure(setting, load, one)
                yield _row(f"neighbour saturates, batch {large}, {what}", rate, beside, alone)
    yield from _free_for_all(setting, light, program, rate)


def _free_for_all(
    setting: Setting, light: dict[str, Any], heavy: dict[str, Any], rate: float
) -> Iterator[Row]:
    """Two accelerators that know nothing of each other."""
    with contextlib.ExitStack() as stack:
        one, other = (
            _Free(
                stack.enter_context(
                    start_accelerator(("unix:{folder}/a.sock",), device=setting.torch_device, num_threads=4)
                )
            )
            for _ in range(2)
        )
        (load,) = stack.enter_context(clients((one, light, {"threads": RATE_THREADS, "rate": rate})))  # type: ignore[arg-type]
        load.run(1)
        alone = load.run(setting.seconds)
        yield _row("alone, no lease", rate, alone, None)
        with _busy(other, heavy):  # type: ignore[arg-type]
            beside = load.run(setting.seconds)
        yield _row("neighbour saturates, no lease (free for all)", rate, beside, alone)


class _Free:
    """An accelerator without a host, as `clients` wants one."""

    def __init__(self, running: Any) -> None:
        self.token = running.token
        self._endpoints = running.endpoints

    def usable_endpoints(self) -> tuple[str, ...]:
        """Where it serves."""
        return tuple(self._endpoints)


def _held_seconds(setting: Setting, one: Attachment, model: dict[str, Any]) -> float:
    """Device seconds of a request under the lease, one after another."""
    with clients((one, model, {"threads": 1})) as (load,):
        load.run(1)
        before = metric(one, DEVICE_SECONDS)
        result = load.run(min(setting.seconds, 3))
        return (metric(one, DEVICE_SECONDS) - before) / len(result["latencies_seconds"])


def _measure(setting: Setting, load: LoadProcess, one: Attachment) -> dict[str, Any]:
    before = metric(one, DEVICE_SECONDS)
    result = load.run(setting.seconds)
    result["held_seconds"] = (metric(one, DEVICE_SECONDS) - before) / max(1, len(result["latencies_seconds"]))
    return result


@contextlib.contextmanager
def _busy(other: Attachment, model: dict[str, Any]) -> Iterator[None]:
    with clients((other, model, {"threads": THREADS})) as (load,):
        load.run(0.5)
        load.begin(3600)
        yield


def _row(what: str, rate: float, result: dict[str, Any], alone: dict[str, Any] | None) -> Row:
    samples = [1e3 * one for one in result["latencies_seconds"]]
    failed = result["num_failed"] + result["num_wrong"]
    p50, p99 = percentile(samples, 0.5), percentile(samples, 0.99)
    held = result.get("held_seconds")
    load_text = "" if held is None else f", held {1e3 * held:.2f} ms, {held * rate / SHARE:.0%} of its share"
    other, ratio = "", None
    if alone is not None:
        p99_alone = percentile([1e3 * one for one in alone["latencies_seconds"]], 0.99)
        other, ratio = f"p99 alone {p99_alone:.2f} ms", float("inf") if failed else p99 / p99_alone
    is_judged = alone is not None and "no lease" not in what
    return Row(
        f"p99 of {rate:.1f} requests/s with {SHARE:.0%}, {what}",
        f"p50 {p50:.2f}, p99 {p99:.2f} ms, n {len(samples)}, {failed} failed{load_text}",
        other,
        ratio,
        1.5 if is_judged else None,
        1.15 if is_judged else None,
        detail={"errors": result["errors"], "latencies_ms": [round(one, 3) for one in samples]},
    )
