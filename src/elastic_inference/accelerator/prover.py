"""Comparing loaded models with their references while nobody calls.

The comparison runs in a process of its own (`engines.proving`). It begins when no request has had a turn for a while,
and is held whenever one comes, so that calls notice nothing. On an accelerator that is never idle it goes on after a
minute, with the processor time that calls leave.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt
import psutil

from elastic_inference import interpreter, settings
from elastic_inference.accelerator.proof_store import ProofStore
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.engines.candidate import write_sample
from elastic_inference.engines.proving import Job
from elastic_inference.proof.proof import Proof, Verdict

log = logging.getLogger(__name__)
IDLE_SECONDS = 2.0  # without a turn, before a comparison begins or goes on
PATIENCE_SECONDS = 60.0  # of waiting for that
LOOK_SECONDS = 0.1
MOST_SECONDS = 900.0  # for one comparison, the times in which it was held included
LEAST_BYTES = 300 << 20  # what a second engine takes at least


@dataclass(frozen=True)
class Task:
    """One model to compare: what it is, and whom to tell.

    Attributes:
        key: Under which its proof is kept.
        take_samples: Asked for the inputs of calls when the comparison begins.
        done: Called with the proof.
    """

    key: Mapping[str, Any]
    subject: str
    job: Job
    take_samples: Callable[[], Sequence[Mapping[str, npt.NDArray[Any]]]]
    done: Callable[[Proof], None]


class Prover:
    """Compares one model after the other.

    Args:
        queue: Whose turns a comparison stays out of.
        store: Where proofs are kept.
        memory_limit_bytes: Of the accelerator, which this process and the comparison share; None: no limit.
    """

    def __init__(self, queue: RequestQueue, store: ProofStore, memory_limit_bytes: int | None) -> None:
        self._queue = queue
        self._store = store
        self._memory_limit_bytes = memory_limit_bytes
        self._tasks: list[Task] = []
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._is_closed = False

    def find(self, key: Mapping[str, Any]) -> Proof | None:
        """Return the proof that was kept for this key."""
        return self._store.find(key)

    def add(self, task: Task) -> None:
        """Compare this one when those before it are done and nobody calls."""
        with self._wake:
            self._tasks.append(task)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="prover", daemon=True)
                self._thread.start()
            self._wake.notify()

    def prove(self, task: Task) -> Proof:
        """Compare at once, without regard to calls."""
        return self._proved(task, lambda: None)

    def close(self) -> None:
        """End a comparison that runs; closing twice is fine."""
        with self._wake:
            self._is_closed = True
            self._tasks.clear()
            self._wake.notify()
            process = self._process
        if process is not None:
            process.kill()  # stopped ones too; whoever waits for it reaps it

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._tasks or self._is_closed)
                if self._is_closed:
                    return
                task = self._tasks.pop(0)
            patience = _Patience(self._queue)
            while not patience.may_run():
                with self._wake:
                    if self._wake.wait_for(lambda: self._is_closed, LOOK_SECONDS):
                        return
            proof = self._proved(task, functools.partial(self._hold, patience))
            if not self._is_closed:
                task.done(proof)

    def _hold(self, patience: _Patience) -> None:
        """Stop the process while requests run, and let it go on afterwards."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT if patience.may_run() else signal.SIGSTOP)

    def _proved(self, task: Task, hold: Callable[[], None]) -> Proof:
        room = self._room()
        if room is not None and room < LEAST_BYTES:
            text = f"the accelerator has {room >> 20} MiB left, and a second engine takes {LEAST_BYTES >> 20} at least"
            return Proof(task.subject, Verdict.NOT_COMPARED, reason=text)
        with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
            proof = self._in_process(task, _described(task, room, Path(folder)), hold)
        if proof.verdict is not Verdict.NOT_COMPARED:
            self._store.keep(task.key, proof)
        return proof

    def _room(self) -> int | None:
        """Return what this process leaves of the limit that it shares with the comparison."""
        if self._memory_limit_bytes is None:
            return None
        return self._memory_limit_bytes - psutil.Process().memory_info().rss

    def _in_process(self, task: Task, job: str, hold: Callable[[], None]) -> Proof:
        with self._wake:
            if self._is_closed:
                return Proof(task.subject, Verdict.NOT_COMPARED, reason="the accelerator ended")
            self._process = process = subprocess.Popen(
                interpreter.sibling_command("elastic_inference.engines.proving"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env=settings.with_variables(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"),
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(job)
                process.stdin.flush()
            deadline = time.monotonic() + MOST_SECONDS
            while process.poll() is None:
                if time.monotonic() > deadline:
                    return Proof(
                        task.subject, Verdict.NOT_COMPARED, reason=f"it took more than {MOST_SECONDS:.0f} s"
                    )
                hold()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_SECONDS)
            line = process.stdout.read()
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()
            process.stdout.close()
            self._process = None
        return _read(task, line, process.returncode)


class _Patience:
    """Whether nobody has called for a while, or that was waited for long enough."""

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue
        self._since = time.monotonic()
        self._last_served = -1
        self._idle_since = self._since

    def may_run(self) -> bool:
        """Look at the queue: whether nobody calls."""
        now = time.monotonic()
        statistics = self._queue.statistics()
        if statistics.num_running or statistics.num_waiting or statistics.num_served != self._last_served:
            self._last_served = statistics.num_served
            self._idle_since = now
        return now - self._idle_since >= IDLE_SECONDS or now - self._since >= PATIENCE_SECONDS


def _described(task: Task, room: int | None, folder: Path) -> str:
    """Return the line that the process reads; the inputs of calls lie in the folder."""
    recorded = []
    for index, sample in enumerate(task.take_samples()):
        recorded.append(folder / f"recorded-{index}.npz")
        write_sample(recorded[-1], sample)
    job = replace(task.job, memory_limit_bytes=room, recorded=tuple(map(str, recorded)))
    return json.dumps(asdict(job)) + "\n"


def _read(task: Task, line: str, status: int) -> Proof:
    try:
        return Proof.loads(line)
    except (ValueError, TypeError, KeyError):
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return Proof(task.subject, Verdict.NOT_COMPARED, reason=f"the process that compares {how}")
