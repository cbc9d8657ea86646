"""Processes that have a lease and nothing else: what a hand-over takes, and when the device is free again."""

from __future__ import annotations

import contextlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.limits.lease.holder import DeviceLease, LeaseConfig

DEVICE = "cpu:0"


class Peer:
    """One process."""

    def __init__(self, accelerator_id: str, lease: LeaseConfig) -> None:
        self.accelerator_id = accelerator_id
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lease.peers", json.dumps(asdict(lease))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=lease.fds,
        )
        self.hear()

    def tell(self, *words: Any) -> None:
        """Give it a command."""
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Its next answer."""
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def peers(*shares: float) -> Iterator[tuple[LeaseKeeper, list[Peer]]]:
    """Processes that share one device for the block; all may burst, so that only the lease itself is measured."""
    with contextlib.ExitStack() as stack:
        keeper = LeaseKeeper((DEVICE,))
        keeper.open()
        stack.callback(keeper.close)
        running = []
        for share in shares:
            name = f"eia-{secrets.token_hex(16)}"
            peer = Peer(name, keeper.admit(name, DEVICE, share, True))
            stack.callback(_end, peer)
            running.append(peer)
        yield keeper, running


def _end(peer: Peer) -> None:
    peer.process.kill()
    peer.process.communicate()


def main() -> None:
    """Serve one Peer."""
    lease = DeviceLease(LeaseConfig(**json.loads(sys.argv[1])))
    lease.open()
    _say("open")
    for line in sys.stdin:
        command, *values = json.loads(line)
        if command == "hold":
            lease.acquire(None)
            _say(time.monotonic())
        elif command == "turns":
            _say(_turns(lease, *values))


def _turns(lease: DeviceLease, seconds: float, hold_seconds: float) -> list[tuple[float, float]]:
    """Take turns for so long, each with more waiting; when each began and when it was given back."""
    end = time.monotonic() + seconds
    turns = []
    while time.monotonic() < end:
        lease.acquire(None)
        held_at = time.monotonic()
        time.sleep(hold_seconds)
        turns.append((held_at, time.monotonic()))
        lease.release(True)
    lease.withdraw()
    return turns


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
