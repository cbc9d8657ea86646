"""The rows of the benchmark: each attaches its tenants, lets them work side by side and says what each got."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.common import Row, percentile, shared_asset
from benchmarks.isolation.hosts import (
    RunningHost,
    cpu_seconds,
    load,
    memory_group,
    process_number,
    running_host,
)
from elastic_inference import EIPredictor
from elastic_inference.client.host_session import Attachment
from elastic_inference.errors import MemoryQuotaExceeded

SATURATING_THREADS = 4
LOAD_SHARE = 0.4  # of what the tenant's own share could serve


def classifier() -> dict[str, Any]:
    """The model of the well-behaved tenants: 7 ms of one core."""
    path = shared_asset("assets/models/efficientnet_lite0_imagenet.pb")
    if path is None:
        raise SystemExit("needs the shared asset models/efficientnet_lite0_imagenet.pb (set EI_SHARED)")
    return {
        "model": str(path),
        "inputs": {"images": "images:0"},
        "outputs": {"probs": "probs:0"},
        "dtype": "float32",
        "shape": (1, 224, 224, 3),
    }


def large_model() -> str:
    """The article's Faster R-CNN graph: 60 s of one core to load."""
    path = shared_asset("assets/models/faster_rcnn_resnet50_random.pb")
    if path is None:
        raise SystemExit("needs the shared asset models/faster_rcnn_resnet50_random.pb (set EI_SHARED)")
    return str(path)


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


def neighbours(mode: str, seconds: float, rounds: int) -> list[Row]:
    """A tenant with half the device at 40% of its share: its p99 beside each kind of neighbour, over its p99 alone."""
    rows = []
    for name, neighbour in (
        ("saturates the other half", _saturating),
        ("loads the Faster R-CNN graph over and over", _loading),
        ("is OOM-killed over and over", _dying),
    ):
        with running_host([0.5], mode) as host:
            tenant = host.attach(0.5)
            with closing(load(tenant, classifier(), threads=1)) as probe:
                service = percentile(probe.run(3)["latencies_seconds"], 50)
            rate = LOAD_SHARE / service
            alone, beside = [], []
            with closing(load(tenant, classifier(), threads=8, rate=rate, is_remote=True)) as client:
                for _ in range(rounds):
                    alone.append(client.run(seconds))
                    with neighbour(host):
                        beside.append(client.run(seconds))
        rows.append(_neighbour_row(mode, name, rate, alone, beside))
    return rows


def _neighbour_row(
    mode: str, name: str, rate: float, alone: Sequence[dict[str, Any]], beside: Sequence[dict[str, Any]]
) -> Row:
    def p99(runs: Sequence[dict[str, Any]], what: str = "latencies_seconds") -> float:
        return percentile([s * 1e3 for run in runs for s in run[what]], 99)

    failed = sum(run["num_failed"] + run["num_wrong"] for run in beside)
    ratios = [p99([b]) / p99([a]) for a, b in zip(alone, beside, strict=True)]
    return Row(
        f"{mode}: p99 at {rate:.0f}/s, neighbour {name}",
        f"{p99(beside):.1f} ms (in the accelerator {p99(beside, 'inside_seconds'):.1f}), {failed} failed",
        f"alone {p99(alone):.1f} ms ({p99(alone, 'inside_seconds'):.1f})",
        p99(beside) / p99(alone) if not failed else float("inf"),
        1.5,
        1.15,
        spread=(min(ratios), max(ratios)),
        detail={
            "p99_inside_alone_ms": p99(alone, "inside_seconds"),
            "p99_inside_beside_ms": p99(beside, "inside_seconds"),
            "p50_alone_ms": percentile([s * 1e3 for r in alone for s in r["latencies_seconds"]], 50),
            "p50_beside_ms": percentile([s * 1e3 for r in beside for s in r["latencies_seconds"]], 50),
            "num_requests": sum(len(r["latencies_seconds"]) for r in beside),
        },
    )


@contextmanager
def closing(client: Any) -> Iterator[Any]:
    """End a load process with the block."""
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _saturating(host: RunningHost) -> Iterator[None]:
    other = host.attach(0.5)
    with closing(load(other, classifier(), threads=SATURATING_THREADS)) as client:
        client.begin(3600)
        time.sleep(1)
        yield
        client.kill()
    host.detach(other)


@contextmanager
def _repeating(action: Callable[[], None]) -> Iterator[None]:
    """Do something over and over on another thread for the length of the block."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                action()
            except BaseException as error:  # told at the end of the block
                failures.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        time.sleep(1)
        yield
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]


_LOADER = """
import sys
from elastic_inference import EIPredictor
from elastic_inference.errors import ElasticInferenceError
names = {n: n + ":0" for n in ("detection_boxes", "detection_scores")}
try:
    EIPredictor(sys.argv[1], input_names={"inputs": "image_tensor:0"}, output_names=names, address=sys.argv[2],
                token=sys.argv[3], warm_up=False).close()
except ElasticInferenceError as error:
    print(type(error).__name__, error)
"""


def _load_large(attachment: Attachment) -> None:
    """Load the large model from a process of its own; broken off after 10 s, when most of the work was seen."""
    address = attachment.usable_endpoints()[0]
    process = subprocess.Popen([sys.executable, "-c", _LOADER, large_model(), address, attachment.token])
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _loading(host: RunningHost) -> Iterator[None]:
    def again() -> None:
        fresh = host.attach(0.5)
        try:
            _load_large(fresh)  # into a fresh accelerator, which has nothing of the model yet
        finally:
            host.detach(fresh)

    with _repeating(again):
        yield


@contextmanager
def _dying(host: RunningHost) -> Iterator[None]:
    victim = host.session.attach("small", lease_seconds=None)
    try:
        with _repeating(lambda: _run_out_of_memory(victim)):
            yield
    finally:
        host.detach(victim)


_HOG = """
import sys
if sys.argv[1]:
    open(sys.argv[1], "w").write("0")  # join the victim's group
blocks = []
for _ in range(int(sys.argv[2])):
    blocks.append(b"x" * (1 << 20))
"""


def _run_out_of_memory(victim: Attachment) -> None:
    """Fill the victim's memory group until the kernel kills in it, then kill the accelerator itself."""
    pid = process_number(victim)
    group = memory_group(pid)
    hog = [sys.executable, "-c", _HOG, str(group / "cgroup.procs") if group else "", "600" if group else "0"]
    subprocess.run(hog, check=False)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)


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


def accelerator_killed(mode: str, seconds: float) -> Row:
    """kill -9 of the accelerator every 3 s under load from 8 clients: failed or wrong answers."""
    with running_host([1.0], mode) as host:
        tenant = host.attach(1.0)
        clients = [load(tenant, classifier()) for _ in range(8)]
        for client in clients:
            client.begin(seconds)
        kills = 0
        end = time.monotonic() + seconds - 3
        while time.monotonic() < end:
            time.sleep(3)
            os.kill(process_number(tenant), signal.SIGKILL)
            kills += 1
        return _survival_row(
            f"{mode}: accelerator killed {kills} times in {seconds:.0f} s, 8 clients", clients
        )


def host_killed(mode: str, seconds: float) -> Row:
    """kill -9 of the host under load, then a new one in its place: failed or wrong answers of attached clients."""
    with running_host([1.0], mode) as host:
        tenant = host.attach(1.0)
        clients = [load(tenant, classifier()) for _ in range(8)]
        for client in clients:
            client.begin(seconds)
        kills = 0
        end = time.monotonic() + seconds - 4
        while time.monotonic() < end:
            time.sleep(2)
            host.kill()
            time.sleep(1)
            host.start()
            kills += 1
        found = [v["accelerator_id"] for v in host.session.request("GET", "/v1/accelerators")]
        assert found == [tenant.accelerator_id], f"the host found {found} again"
        return _survival_row(f"{mode}: host killed {kills} times in {seconds:.0f} s, 8 clients", clients)


def _survival_row(measure: str, clients: Sequence[Any]) -> Row:
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
        f"median {percentile(took, 50):.3f} s, slowest {max(took):.3f} s",
        f"{count} times",
        percentile(took, 50),
        1.0,
        0.3,
    )


def limits_cost(mode: str, seconds: float, rounds: int) -> Row:
    """Throughput of one tenant with the whole device over that of an accelerator without any host."""
    from elastic_inference.testing import start_accelerator

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
        f"{percentile(held, 50):.1f}/s",
        f"{percentile(free, 50):.1f}/s",
        percentile(held, 50) / percentile(free, 50),
        0.97,
        0.99,
        is_upper=False,
        spread=(min(ratios), max(ratios)),
    )
