"""Real processes that share one device, for the tests of the lease: made by the host's keeper, moved by requests."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.limits.lease.holder import LeaseConfig
from tests.waiting import read_line

DEVICE = "cpu:0"


def new_id() -> str:
    """An accelerator id."""
    return f"eia-{secrets.token_hex(16)}"


@contextlib.contextmanager
def keeper() -> Iterator[LeaseKeeper]:
    """A host's keeper of one device, without the rest of the host."""
    one = LeaseKeeper((DEVICE,))
    one.open()
    try:
        yield one
    finally:
        one.close()


@dataclass
class Process:
    """One tenant's process, which does as its standard input says (`PROGRAM`)."""

    accelerator_id: str
    popen: subprocess.Popen[str]

    def tell(self, *words: object) -> None:
        """Give it a command without waiting."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(words) + "\n")
        self.popen.stdin.flush()

    def hear(self) -> Any:
        """Its next answer."""
        line = read_line(self.popen)
        assert line, f"the process ended with status {self.popen.wait(30)}"
        return json.loads(line)

    def do(self, *words: object) -> Any:
        """Give it a command and wait for the answer."""
        self.tell(*words)
        return self.hear()

    def stop(self) -> None:
        """SIGSTOP."""
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.wait(30)


@contextlib.contextmanager
def processes(leases: Sequence[tuple[str, LeaseConfig]]) -> Iterator[list[Process]]:
    """A process for each accelerator id and lease; all have opened it."""
    running: list[Process] = []
    try:
        for accelerator_id, lease in leases:
            command = [sys.executable, "-c", PROGRAM, json.dumps(asdict(lease))]
            popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=lease.fds
            )
            running.append(Process(accelerator_id, popen))
        for one in running:
            assert one.hear() == "open"
        yield running
    finally:
        for one in running:
            one.go_on()
            one.popen.kill()
            one.popen.communicate(timeout=30)


PROGRAM = """
import json, sys, time
from elastic_inference.errors import DeadlineExceeded
from elastic_inference.limits.lease.holder import DeviceLease, LeaseConfig

def say(value):
    print(json.dumps(value), flush=True)

lease = DeviceLease(LeaseConfig(**json.loads(sys.argv[1])))
lease.open()
say("open")
for line in sys.stdin:
    command, *values = json.loads(line)
    if command == "acquire":
        try:
            lease.acquire(None if not values else time.monotonic() + values[0])
            say("held")
        except DeadlineExceeded:
            say("expired")
    elif command == "release":
        say(lease.release(values[0]))
    elif command == "withdraw":
        lease.withdraw()
        say("withdrawn")
    elif command == "must_yield":
        say(lease.must_yield())
    elif command == "checkpoint":
        lease.checkpoint()
        say("held")
    elif command == "statistics":
        say(vars(lease.statistics()))
    elif command == "turns":
        used = []
        for number in range(values[0]):
            lease.acquire(None)
            time.sleep(values[1])
            used.append(lease.release(number + 1 < values[0]))
        say(sum(used))
"""
