"""Measure one cell in a process of its own on this machine; where the process ends badly, say so."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.task import Outcome, Task

WORKER = (sys.executable, "-m", "elastic_inference.explorer.measuring.worker")
# Loading a large model may take minutes; beyond this something hangs.
HANG_SECONDS = 1800.0
_LAST_LINES = 3

RunTask = Callable[[Task], Outcome]


def run_in_process(
    task: Task, command: Sequence[str] = WORKER, hang_seconds: float = HANG_SECONDS
) -> Outcome:
    """Start the measuring process, wait for its outcome, and leave no process behind.

    A process that is killed (by the kernel for its memory, say) gives an outcome without measurement.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        answer, log = process.communicate(json.dumps(task.to_json()), timeout=hang_seconds)
    except subprocess.TimeoutExpired:
        return Outcome.failed(f"no outcome in {hang_seconds:g} s; the measuring process was ended")
    finally:
        # Also on Ctrl-C: the worker detaches its accelerator when it is asked to end.
        _end(process)
    if process.returncode or not answer:
        return Outcome.failed(_how_it_ended(process.returncode, log))
    try:
        return Outcome.from_json(json.loads(answer))
    except (ValueError, InvalidInput) as error:
        return Outcome.failed(f"the measuring process answered what is no outcome: {error}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _how_it_ended(returncode: int, log: str) -> str:
    last = " | ".join(line for line in log.splitlines()[-_LAST_LINES:] if line)
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (the kernel does that when memory ends)" if name == "SIGKILL" else ""
        return f"the measuring process was ended by {name}{hint}: {last}"
    return f"the measuring process ended with code {returncode}: {last}"
