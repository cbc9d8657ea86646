"""The benchmark's side of a contestant: start its driver, give it turns, freeze it between them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class ContestantFailed(RuntimeError):
    """The driver or its server ended; the text is the end of its log."""


class Contestant:
    """One driver with its server, in a process group of its own.

    The group is stopped (SIGSTOP) between turns: some servers poll, and with two cores that would be seen in
    the times of the others.

    Args:
        driver: Module name in `benchmarks.dataplane.drivers`.
        python: Interpreter that has what the driver imports.
        prefix: Command before the interpreter, such as `ip netns exec NAME`.
        tree: The checkout whose driver and package it runs.
    """

    def __init__(
        self,
        driver: str,
        arguments: Sequence[str] = (),
        python: str | Path = sys.executable,
        prefix: Sequence[str] = (),
        freeze: bool = True,
        tree: Path = ROOT,
    ) -> None:
        self.driver = driver
        self.info: dict[str, Any] = {}
        self._freeze = freeze
        self._tree = tree
        self._command = [*prefix, str(python), "-m", f"benchmarks.dataplane.drivers.{driver}", *arguments]
        self._process: subprocess.Popen[str] | None = None
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed in close()

    def __enter__(self) -> Contestant:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=self._tree,
            env={
                **os.environ,
                "PYTHONPATH": str(self._tree / "src"),
            },  # before what the interpreter has installed
            start_new_session=True,
        )
        try:
            self.info = self._answer()["ready"]
        except BaseException:
            self.close()
            raise
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def turn(self, case: str, count: int) -> list[float]:
        """Let it make `count` exchanges of a case; gives nanoseconds."""
        return [float(sample) for sample in self.ask(case, count)["ns"]]

    def ask(self, case: str, count: int = 0) -> dict[str, Any]:
        """Send one line to the driver and give its answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"case": case, "count": count}) + "\n")
            self._process.stdin.flush()
            return self._answer()
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        """End the driver and everything it started."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        _kill_group(process.pid)
        process.wait()
        process.stdout.close()
        self._log.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._freeze and self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(30)
            self._log.seek(0)
            raise ContestantFailed(f"{self.driver} ended: {self._log.read()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it ended by itself
        os.killpg(group, signal.SIGKILL)
