"""The simulation beside a real pool of three Ray nodes under the same trace: utilisation, p99 and refused attaches.

Run: python -m benchmarks.pool.against_pool [--seconds 180] [--json benchmark-pool-real.json]; needs the extra `pool`.

Of the run itself the simulation knows nothing. It has the times from `ei explore`, measured on the idle pool just
before and read as `ei pool plan` reads them; and, beside that, from the run of another trace: all three hosts share
this machine's cores with their clients, so a call takes longer while others are under way, which a host of its own
machine would not know.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
from tests.pool.cluster import PoolCluster

from benchmarks.common import Bystanders, Row, describe_machine, table, write_json
from benchmarks.engines.onnx_models import dense
from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.report import CallTiming
from elastic_inference.errors import CapacityExceeded
from elastic_inference.explorer.measuring.arrivals import poisson_offsets, run_open_loop
from elastic_inference.explorer.prices import load_prices
from elastic_inference.percentiles import percentile
from elastic_inference.pool.planning.kinds import HostKind, kinds_of
from elastic_inference.pool.simulation.attachment import Attachment
from elastic_inference.pool.simulation.control import ControlRules
from elastic_inference.pool.simulation.demand_model import DemandModel, draw_demand
from elastic_inference.pool.simulation.latencies import Latencies
from elastic_inference.pool.simulation.profile import read_profile
from elastic_inference.pool.simulation.service_time import ServiceTime
from elastic_inference.pool.simulation.simulate import SimulationOptions, SimulationResult, simulate

TYPE = "cpu.half"
HELD_SHARE = 0.5
ROWS, WIDTH, LAYERS = 512, 256, 48  # some 15 ms on half of two cores, and weights that stay in a cache
CALLS_PER_SECOND = 5.0
NUM_SEEDS = 20  # of simulated calls, for what is expected rather than what chance brings once
NUM_NODES = 3
HOUR = 3600.0


@dataclass
class Lived:
    """What became of one attachment in the real pool.

    Attributes:
        attached_seconds: From when it served until it was detached.
        attach_seconds: Until it served.
        latencies: From the intended start; more than the call's own where this process, which all clients share, was
            late to begin it.
    """

    was_refused: bool = False
    attach_seconds: float = 0.0
    attached_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    timings: list[CallTiming] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def make_trace(seconds: float, seed: int) -> list[Attachment]:
    """Draw attachments of a minute or so, more than six of them at once now and then."""
    hours = seconds / HOUR
    model = DemandModel(
        hours=hours, num_tenants=8, mean_accelerators=5.0, stay_hours=hours / 4, calls_per_second=CALLS_PER_SECOND,
        peak_to_trough=1.0, size_spread=0.4, burst_share=0.0, types={TYPE: 1.0},
    )  # fmt: skip
    return draw_demand(model, seed)


class Driver:
    """Attaches and calls as a trace says, each attachment on a thread of its own."""

    def __init__(self, pool: PoolCluster, model: Path) -> None:
        self._pool, self._model = pool, model

    def run(self, demand: Sequence[Attachment]) -> dict[str, Lived]:
        """Live through a trace."""
        lived = {one.name: Lived() for one in demand}
        begun = time.monotonic()
        threads = [
            threading.Thread(target=self._live, args=(one, lived[one.name], begun), daemon=True)
            for one in demand
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return lived

    def _live(self, one: Attachment, lived: Lived, begun: float) -> None:
        time.sleep(max(0.0, begun + one.start - time.monotonic()))
        try:
            predictor = self._attach()
        except CapacityExceeded:
            lived.was_refused = True
            return
        with predictor:
            ready = time.monotonic()
            lived.attach_seconds = ready - begun - one.start
            left = begun + one.end - ready
            x = np.ones((ROWS, WIDTH), np.float32)

            def call() -> None:
                lived.timings.append(predictor.predict_timed({"x": x})[1])

            offsets = poisson_offsets(one.pieces[0].calls_per_second, zlib.crc32(one.name.encode()))
            limited = itertools.takewhile(lambda offset: offset < left, offsets)
            done = run_open_loop(call, limited, lambda _: False, max_in_flight=16)
            lived.latencies, lived.errors = done.latencies_seconds, done.errors
            time.sleep(max(0.0, begun + one.end - time.monotonic()))
            lived.attached_seconds = time.monotonic() - ready

    def _attach(self) -> EIPredictor:
        return EIPredictor(
            str(self._model),
            batching="off",
            proof="off",
            accelerator=Accelerator.attach(TYPE, host=self._pool.url, token=self._pool.token),
        )


def measure_profile(pool: PoolCluster, model: Path, folder: Path) -> ServiceTime | None:
    """Let `ei explore` measure the type on the pool; None where it calls the machine too busy for that."""
    command = [
        "explore", "--model", str(model), "--shape", f"float32:{ROWS},{WIDTH}", "--host", pool.url, "--token",
        pool.token, "--accelerators", TYPE, "--only-ei", "--no-curves", "--repeats", "1", "--percentile", "95",
        "--cell-time", "20s", "-o", str(folder),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "elastic_inference", *command], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        print(f"no profile: {done.stderr}", flush=True)
        return None
    return read_profile(folder / "measurements.json").of(TYPE)


def simulated(
    demand: Sequence[Attachment], service: ServiceTime, kind: HostKind
) -> tuple[SimulationResult, Latencies]:
    """Run the same trace through the simulation; its course, and the latencies of all seeds."""
    hosts = [kind.host(number) for number in range(NUM_NODES)]
    latencies = Latencies()
    for seed in range(NUM_SEEDS):
        found = simulate(hosts, demand, lambda *_: service, SimulationOptions(seed=seed))
        latencies.merge(found.latencies)
    return found, latencies


def service_of(lived: Mapping[str, Lived]) -> ServiceTime:
    """Return the times that a run had, of which another one is foretold: what is left to differ is not the machine."""
    first = [each.timings[0].service_seconds for each in lived.values() if each.timings]
    timings = [timing for each in lived.values() for timing in each.timings[1:]]
    attach = float(np.mean([each.attach_seconds for each in lived.values() if each.timings]))
    load_seconds = max(0.0, attach - ControlRules().start_seconds)
    parts = [(timing.service_seconds, timing.wire_seconds) for timing in timings]
    return ServiceTime.of_measured(parts, load_seconds, first)


def rows_of(
    what: str, demand: Sequence[Attachment], lived: Mapping[str, Lived], service: ServiceTime, kind: HostKind
) -> list[Row]:
    """Compare."""
    found, simulated_latencies = simulated(demand, service, kind)
    devices = NUM_NODES * max(one.end for one in demand) / HELD_SHARE
    attached = sum(each.attached_seconds for each in lived.values())
    served = sum(each.end - each.start for stay in found.course.stays.values() for each in stay.servings)
    busy = sum(timing.service_seconds for each in lived.values() for timing in each.timings)
    latencies = [timing.latency_seconds for each in lived.values() for timing in each.timings]
    refused = sum(each.was_refused for each in lived.values())
    figures = [
        ("devices held, share", served / devices, attached / devices),
        ("what is held that computes, share", found.calls.busy_seconds / served, busy / attached),
        ("p50 of a call, ms", simulated_latencies.percentile(0.5) * 1000, percentile(latencies, 0.5) * 1000),
        (
            "p99 of a call, ms",
            simulated_latencies.percentile(0.99) * 1000,
            percentile(latencies, 0.99) * 1000,
        ),
        (f"attaches refused, of {len(lived)}", float(found.course.num_refused), float(refused)),
    ]
    return [_row(f"simulated {what} : real, {name}", ours, real) for name, ours, real in figures]


def _row(name: str, ours: float, real: float) -> Row:
    """The larger : the smaller, whichever it is; equal ones are 1."""
    ratio = 1.0 if ours == real else max(ours, real) / max(1e-9, min(ours, real))
    return Row(name, f"{ours:.3g}", f"{real:.3g}", ratio, 1.15, 1.05)


def main() -> None:
    """Measure, live, simulate, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="Of the traces; two at least.")
    parser.add_argument("--json", default="benchmark-pool-real.json")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    demands = {seed: make_trace(given.seconds, seed) for seed in given.seeds}
    model = dense(folder / "dense.onnx", WIDTH, LAYERS)
    pool = PoolCluster(folder, NUM_NODES, host="", spares=1)
    try:
        print("the pool is up; measuring the profile", flush=True)
        profile = measure_profile(pool, model, folder / "report")
        lived = {}
        others = {}
        for seed, demand in demands.items():
            print(f"living through trace {seed}", flush=True)
            bystanders, ours = Bystanders(), _used_seconds(pool)
            lived[seed] = Driver(pool, model).run(demand)
            # The pool's processes are no children of this one that have ended, so they count as bystanders there.
            own_share = (_used_seconds(pool) - ours) / (given.seconds * (os.cpu_count() or 1))
            others[seed] = max(0.0, bystanders.share() - own_share)
        (kind,) = kinds_of(_kinds_file(folder), load_prices())
    finally:
        pool.close()
        shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for number, seed in enumerate(given.seeds):
        before = given.seeds[number - 1]
        times = {f"with times of trace {before}": service_of(lived[before])} if before != seed else {}
        times |= {} if profile is None else {"with ei explore's times": profile}
        latencies = [seconds for each in lived[seed].values() for seconds in each.latencies]
        errors = [text for each in lived[seed].values() for text in each.errors]
        print(f"trace {seed}: {len(latencies)} calls, failed: {errors}")
        print(f"p99 from their intended start {percentile(latencies, 0.99) * 1e3:.1f} ms")
        print(f"others used {others[seed]:.0%} of the machine")
        for what, each in times.items():
            print(f"{what}: {_describe(each)}")
            rows += rows_of(f"trace {seed} {what}", demands[seed], lived[seed], each, kind)
    print(table(rows))
    attached = {seed: {name: asdict(each) for name, each in of.items()} for seed, of in lived.items()}
    machine = describe_machine(["ray", "openvino"])
    write_json(given.json, rows, machine, bystanders_share=others, attached=attached)


def _used_seconds(pool: PoolCluster) -> float:
    """Of a core, by all processes of the pool and of Ray, with those that they waited for."""
    found = 0.0
    for process in set().union(*(node.tree() for node in pool.nodes)):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += sum(process.cpu_times()[:4])
    return found


def _describe(service: ServiceTime) -> str:
    return (
        f"{service.mean_seconds * 1e3:.1f} ms of computation (deviation {service.variation:.0%}), "
        f"{np.mean(service.first_seconds) * 1e3:.1f} ms the first, {service.wire_seconds * 1e3:.1f} ms beside it, "
        f"{service.load_seconds:.2f} s until a model serves"
    )


def _kinds_file(folder: Path) -> str:
    path = folder / "kinds.toml"
    path.write_text('[node]\ncores = 2\nmemory = "24GiB"\n')
    return str(path)


if __name__ == "__main__":
    main()
