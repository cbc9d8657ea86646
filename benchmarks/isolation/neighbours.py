"""A tenant at 40% of its share beside each kind of bad neighbour: its p99, over its p99 alone."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.common import Row
from benchmarks.isolation.hosts import RunningHost, memory_group, process_number, running_host
from benchmarks.isolation.tenants import SATURATING_THREADS, classifier, closing, large_model, load
from elastic_inference.client.host_session import Attachment
from elastic_inference.limits.affinity import keep_to_cores
from elastic_inference.percentiles import percentile
from elastic_inference.testing import start_accelerator

LOAD_SHARE = 0.4  # of what the tenant's own share could serve


def rows(mode: str, seconds: float, rounds: int) -> list[Row]:
    """A tenant with half the device at 40% of its share: its p99 beside each kind of neighbour, over its p99 alone."""
    done = []
    for name, kind in (
        ("saturates the other half", _saturating_half),
        ("loads the Faster R-CNN graph over and over", _loading),
        ("is OOM-killed over and over", _dying),
    ):
        with running_host([0.5], mode) as host:
            runs = _measure(host.attach(0.5), partial(kind, host), seconds, rounds)
        done.append(_row(f"{mode}: p99 at {runs.rate:.0f}/s, neighbour {name}", runs, 1.5, 1.15))
    return done


def limit(seconds: float, rounds: int) -> Row:
    """Two accelerators without host or limits, each bound to half of the cores: what nobody can keep apart.

    Caches, memory, the network and the neighbour's client are the same; so this is what a fraction could reach.
    """
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    with (
        start_accelerator(("unix:{folder}/a.sock",), num_threads=half) as quiet,
        start_accelerator(("unix:{folder}/a.sock",), num_threads=half) as busy,
    ):
        for running, own in ((quiet, cores[:half]), (busy, cores[half:])):
            keep_to_cores([running.pid], frozenset(own))
        tenant, other = (Attachment("", (r.address,), r.token, "none") for r in (quiet, busy))
        runs = _measure(tenant, partial(_saturating, other), seconds, rounds)
    return _row(f"two processes bound to half of the cores each, no host: p99 at {runs.rate:.0f}/s", runs)


@dataclass(frozen=True)
class _Runs:
    """What the tenant's client said, alone and beside the neighbour, by rounds; rate in requests a second."""

    rate: float
    alone: list[dict[str, Any]]
    beside: list[dict[str, Any]]


def _measure(
    tenant: Attachment,
    neighbour: Callable[[], AbstractContextManager[None]],
    seconds: float,
    rounds: int,
) -> _Runs:
    with closing(load(tenant, classifier(), threads=1)) as probe:
        service = statistics.median(probe.run(3)["latencies_seconds"])
    runs = _Runs(LOAD_SHARE / service, [], [])
    with closing(load(tenant, classifier(), threads=8, rate=runs.rate, is_remote=True)) as client:
        for _ in range(rounds):
            runs.alone.append(client.run(seconds))
            with neighbour():
                runs.beside.append(client.run(seconds))
    return runs


def _row(measure: str, runs: _Runs, must: float | None = None, aim: float | None = None) -> Row:
    failed = sum(run["num_failed"] + run["num_wrong"] for run in runs.beside)
    ratios = [_p([b], 99) / _p([a], 99) for a, b in zip(runs.alone, runs.beside, strict=True)]
    inside = "inside_seconds"
    return Row(
        measure,
        f"{_p(runs.beside, 99):.1f} ms (in the accelerator {_p(runs.beside, 99, inside):.1f}), {failed} failed",
        f"alone {_p(runs.alone, 99):.1f} ms ({_p(runs.alone, 99, inside):.1f})",
        _p(runs.beside, 99) / _p(runs.alone, 99) if not failed else float("inf"),
        must,
        aim,
        spread=(min(ratios), max(ratios)),
        detail={
            "p50_alone_ms": _p(runs.alone, 50),
            "p50_beside_ms": _p(runs.beside, 50),
            "p50_inside_alone_ms": _p(runs.alone, 50, inside),
            "p50_inside_beside_ms": _p(runs.beside, 50, inside),
            "num_requests": sum(len(run["latencies_seconds"]) for run in runs.beside),
        },
    )


def _p(runs: Sequence[dict[str, Any]], percent: float, what: str = "latencies_seconds") -> float:
    """A percentile over several runs, in milliseconds."""
    return percentile([sample * 1e3 for run in runs for sample in run[what]], percent / 100)


@contextmanager
def _saturating(other: Attachment) -> Iterator[None]:
    with closing(load(other, classifier(), threads=SATURATING_THREADS)) as client:
        client.begin(3600)
        time.sleep(1)
        yield
        client.kill()


@contextmanager
def _saturating_half(host: RunningHost) -> Iterator[None]:
    other = host.attach(0.5)
    with _saturating(other):
        yield
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
