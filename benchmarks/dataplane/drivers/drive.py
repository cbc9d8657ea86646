"""The contestant's side of taking turns: read a turn, make the exchanges, answer their times.

A driver runs in the environment of what it measures, so this uses the standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.dataplane.payloads import WARM_UP

Exchange = Callable[[], object]


def drive(
    exchanges: Mapping[str, Exchange],
    many: Mapping[str, Callable[[int], object]] | None = None,
    info: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Serve turns until standard input ends.

    Args:
        exchanges: case -> one exchange, which is timed alone.
        many: case -> makes so many exchanges, several in flight; timed as a whole.
        info: Facts about the contestant for the result file.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    answers.write(json.dumps({"ready": dict(info())}) + "\n")
    answers.flush()
    for line in sys.stdin:
        turn = json.loads(line)
        case, count = turn["case"], turn["count"]
        if many and case in many:
            answer = {"ns": [_time_whole(many[case], count)]}
        elif case in exchanges:
            answer = {"ns": _time_each(exchanges[case], count, WARM_UP.get(case, 3))}
        else:
            answer = {"info": dict(info())}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _time_each(exchange: Exchange, count: int, warm_up: int) -> list[int]:
    for _ in range(warm_up):
        exchange()
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        exchange()
        times.append(time.perf_counter_ns() - start)
    return times


def _time_whole(run: Callable[[int], object], count: int) -> float:
    """Nanoseconds per exchange of `count` exchanges."""
    run(8)
    start = time.perf_counter_ns()
    run(count)
    return (time.perf_counter_ns() - start) / count


def in_threads(exchanges: Sequence[Exchange], count: int) -> None:
    """Make `count` exchanges, one thread for each of `exchanges`; each has its own connection."""
    remaining = iter(range(count))

    def work(exchange: Exchange) -> None:
        while next(remaining, None) is not None:
            exchange()

    threads = [threading.Thread(target=work, args=(exchange,)) for exchange in exchanges]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(command: Sequence[str], is_ready: Callable[[], object], seconds: float = 60.0) -> Iterator[int]:
    """Run a server as a process of its own while the block lasts; gives its process id.

    Raises:
        RuntimeError: It ended, or `is_ready` still raised after so many seconds.
    """
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        deadline = time.monotonic() + seconds
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with status {process.returncode}")
            try:
                is_ready()
                break
            except Exception as error:  # whatever the peer's client raises while its server starts
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{command} was not ready in {seconds} s") from error
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
