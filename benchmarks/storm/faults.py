"""The faults of a storm: each begins, is in force for a while, and ends."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.isolation.hosts import RunningHost, process_number
from benchmarks.storm.schedule import Event
from benchmarks.storm.surroundings import Database, fill
from elastic_inference.client.host_session import Attachment
from elastic_inference.limits.processes import process_uid

KINDS = {
    "accelerator killed": (0.0, 0.0),
    "accelerator stopped": (0.5, 3.0),
    "host killed": (0.0, 0.0),
    "host stopped": (0.5, 3.0),
    "disk full": (2.0, 5.0),
    "database gone": (2.0, 5.0),
    "host at its descriptor limit": (1.0, 4.0),
    "accelerator at its descriptor limit": (1.0, 4.0),
}
"""By name: for how many seconds each is in force, at least and at most."""
_LOOK_SECONDS = 0.2


class Faults:
    """Does to a host and its accelerators what a schedule says.

    Args:
        tenants: Accelerators that serve all the time, one of which is hit.
        disk: A folder on the disk of the host's state.
        server: Its database; None where it is not to be lost.
    """

    def __init__(
        self, host: RunningHost, tenants: Sequence[Attachment], disk: Path, server: Database | None
    ) -> None:
        self._host = host
        self._tenants = tenants
        self._disk = disk
        self._server = server
        self.done: Counter[str] = Counter()

    def run(self, events: Sequence[Event], progress: Callable[[str], None]) -> None:
        """Let all events happen, each in its time; returns when the last has ended."""
        started_at = time.monotonic()
        with ThreadPoolExecutor(max(1, len(events))) as pool:
            ended = [pool.submit(self._one, event, started_at, progress) for event in events]
        for one in ended:
            one.result()

    def _one(self, event: Event, started_at: float, progress: Callable[[str], None]) -> None:
        time.sleep(max(0.0, started_at + event.at_seconds - time.monotonic()))
        progress(f"{event.at_seconds:5.1f} s: {event.fault}, {event.lasts_seconds:.1f} s")
        with self._in_force(event):
            time.sleep(event.lasts_seconds)
        self.done[event.fault] += 1

    @contextmanager
    def _in_force(self, event: Event) -> Iterator[None]:
        what, _, how = event.fault.partition(" ")
        with ExitStack() as stack:
            match what:
                case "disk":
                    filler = self._disk / f"filler-{event.luck}"
                    stack.callback(filler.unlink)
                    fill(filler)
                case "database":
                    assert self._server is not None
                    stack.callback(self._server.start)
                    self._server.stop()
                case _:
                    pid = self._host.process.pid if what == "host" else self._process(event.luck)
                    stack.enter_context(_upon(pid, how))
            yield

    def _process(self, luck: float) -> int:
        return process_number(self._tenants[int(luck * len(self._tenants))])


@contextmanager
def _upon(pid: int, how: str) -> Iterator[None]:
    """Kill, stop or starve a process of descriptors; one that has ended meanwhile is fine."""
    with contextlib.suppress(ProcessLookupError):
        match how:
            case "killed":
                os.kill(pid, signal.SIGKILL)
            case "stopped":
                os.kill(pid, signal.SIGSTOP)
            case _:
                _limit_descriptors(pid, _first_free(pid))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            if how == "stopped":
                os.kill(pid, signal.SIGCONT)
            elif how != "killed":
                _limit_descriptors(pid, None)


def _limit_descriptors(pid: int, soft: int | None) -> None:
    """Change the limit as the user of the process: root in a container may lack the right to another's."""
    uid = process_uid(pid)
    if uid is None:
        return
    hard = next(
        line.split()[4]
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines()
        if line.startswith("Max open files")
    )
    command = ["prlimit", "--pid", str(pid), f"--nofile={hard if soft is None else soft}:{hard}"]
    done = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode and process_uid(pid) is not None:
        raise RuntimeError(f"the descriptors of process {pid} cannot be limited: {done.stderr.strip()}")


def _first_free(pid: int) -> int:
    """The lowest number that is no open descriptor of the process: with it as limit it can open no more."""
    taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    return next(number for number in itertools.count() if number not in taken)


class Supervisor:
    """Starts the host again whenever it has ended, as a service manager does."""

    def __init__(self, host: RunningHost) -> None:
        self._host = host
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor")
        self.num_starts = 0

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            if self._host.process.poll() is not None:
                self._host.spawn()
                self.num_starts += 1
