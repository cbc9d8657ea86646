"""One storm from its beginning to the look at what is left, and the rows that say what it showed."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Row
from benchmarks.isolation.hosts import RunningHost
from benchmarks.storm.churn import Churn
from benchmarks.storm.client import ClientProcess, ClientSpec, Outcome, write_model
from benchmarks.storm.faults import KINDS, Faults, Supervisor
from benchmarks.storm.leftovers import left_of, wait_for_only
from benchmarks.storm.schedule import make_schedule
from benchmarks.storm.surroundings import database, small_disk
from elastic_inference.client.host_session import Attachment
from elastic_inference.limits.processes import list_processes, process_uid
from elastic_inference.percentiles import percentile

UIDS = range(63500, 63532)
CALM_SECONDS = 15.0
_TYPES = """
[tenant]
memory = "512MiB"
device_share = 0.3

[passing]
memory = "512MiB"
device_share = 0.2
"""
_SMALL, _LARGE = 1000, 250_000  # values of a request: one that fits a packet or two, one of up to 1 MB


@dataclass(frozen=True)
class Storm:
    """What storm is wanted.

    Attributes:
        timeout_seconds: Deadline of each call, and of each step of who attaches and detaches meanwhile.
        limits, cpu_sharing: See `ei host start`.
        has_database: Whether the host keeps its state in PostgreSQL, which can be lost, and not in SQLite.
        faults: Names of KINDS.
        log: Where the host's log is kept; None: it goes with its disk.
    """

    seconds: float = 120.0
    seed: int = 1
    timeout_seconds: float = 30.0
    limits: str = "best"
    cpu_sharing: str = "limits"
    has_database: bool = True
    faults: tuple[str, ...] = tuple(KINDS)
    log: Path | None = None

    def run(self, say: Callable[[str], None]) -> list[Row]:
        """Let it come; `say` gets a line for each fault and for each that is left out."""
        kinds = {name: KINDS[name] for name in self.faults}
        with ExitStack() as stack:
            disk, why_no_disk = stack.enter_context(small_disk())
            server, why_no_server = None, "the state is in SQLite"
            if self.has_database:
                server, why_no_server = stack.enter_context(database())
            for name, why in (("disk full", why_no_disk), ("database gone", why_no_server)):
                if why is not None and kinds.pop(name, None) is not None:
                    say(f"left out: {name}: {why}")
            model = str(write_model(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "double.pb"))
            arguments = ["--uids", f"{UIDS[0]}-{UIDS[-1]}", "--data-listen", "127.0.0.1"]
            arguments += ["--cpu-sharing", self.cpu_sharing]
            arguments += [] if server is None else ["--database", server.url]
            if self.log is not None:
                stack.callback(shutil.copy, disk / "host.log", self.log)
            host = stack.enter_context(_host(disk, self.limits, arguments))
            tenants = [host.session.attach("tenant", lease_seconds=None) for _ in range(2)]
            faults = Faults(host, tenants, disk, server)
            with Supervisor(host) as supervisor:
                clients = [ClientProcess(spec) for spec in self._specs(tenants, model)]
                for client in clients:
                    stack.callback(client.kill)
                events = make_schedule(kinds, self.seconds, CALM_SECONDS, self.seed)
                with Churn(host.session, "passing", model, self.timeout_seconds) as churn:
                    faults.run(events, say)
                    threading.Event().wait(CALM_SECONDS)
                outcomes = [client.end() for client in clients]
                strange = wait_for_only(host, {tenant.accelerator_id for tenant in tenants})
            host.close()
            left = left_of(disk / "state", UIDS, [client.pid for client in clients])
        return [
            _faults_row(self.seconds, faults.done, supervisor.num_starts),
            *_call_rows(outcomes, self.timeout_seconds),
            _churn_row(churn),
            _none("accelerators that are not as they should be when it is over", strange),
            *(_none(f"{kind} left of the host that has ended", found) for kind, found in left.items()),
        ]

    def _specs(self, tenants: Sequence[Attachment], model: str) -> Iterator[ClientSpec]:
        """By TCP and by Unix socket, small and large calls, with shared memory and without."""
        for number, (tenant, kind, max_values, is_shared) in enumerate(
            (
                (tenants[0], "unix", _SMALL, False),
                (tenants[0], "unix", _LARGE, True),
                (tenants[1], "tcp", _SMALL, False),
                (tenants[1], "tcp", _LARGE, False),
            )
        ):
            address = next(e for e in tenant.endpoints if e.startswith(f"{kind}:"))
            seed = 1000 * self.seed + number
            yield ClientSpec(address, tenant.token, model, self.timeout_seconds, is_shared, max_values, seed)


@contextmanager
def _host(folder: Path, limits: str, arguments: Sequence[str]) -> Iterator[RunningHost]:
    """A host for the block; where it has not been closed in order, it and its accelerators are killed."""
    host = RunningHost(folder, (), limits, False, _TYPES, arguments)
    try:
        yield host
    finally:
        if host.process.poll() is None:
            host.kill()
            for pid in list_processes():
                if process_uid(pid) in UIDS:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _faults_row(seconds: float, done: Counter[str], num_starts: int) -> Row:
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(done.items()))
    figures = f"{done.total()} in {seconds:.0f} s, the host started {num_starts} times"
    return Row(f"faults: {kinds}", figures, "", None, detail={"faults": dict(done), "starts": num_starts})


def _call_rows(outcomes: Sequence[Outcome], timeout_seconds: float) -> list[Row]:
    latencies = [s for outcome in outcomes for s in outcome.latencies_seconds]
    errors = sum((Counter(outcome.errors) for outcome in outcomes), Counter[str]())
    num_wrong, num_late = sum(o.num_wrong for o in outcomes), sum(o.num_late for o in outcomes)
    calls = f"{len(latencies)} right, {len(outcomes)} clients"
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    return [
        Row("wrong answers", str(num_wrong), calls, num_wrong, 0, 0),
        Row(
            f"calls that failed, with a deadline of {timeout_seconds:g} s",
            str(errors.total()),
            calls,
            errors.total(),
            0,
            0,
            detail={"errors": dict(errors)},
        ),
        Row("calls that returned after their deadline", str(num_late), calls, num_late, 0, 0),
        Row(
            "a call, s",
            f"p50 {p50:.4f}, p99 {p99:.3f}, slowest {max(latencies):.2f}",
            calls,
            None,
            detail={"p999": percentile(latencies, 0.999)},
        ),
    ]


def _churn_row(churn: Churn) -> Row:
    refusals = ", ".join(f"{name} {count}" for name, count in sorted(churn.refusals.items())) or "none"
    bad = [*churn.late, *["a wrong answer"] * churn.num_wrong]
    return Row(
        "attach, call, detach meanwhile: steps without an end in time, or wrong",
        f"{len(bad)}; refused: {refusals}",
        f"{churn.num_done} times through",
        len(bad),
        0,
        0,
        detail={"bad": bad, "refusals": sorted(churn.texts)},
    )


def _none(measure: str, found: Sequence[str]) -> Row:
    return Row(measure, str(len(found)), "", len(found), 0, 0, detail={"found": list(found)})
