"""Watches the lease segments of a host and puts them right when a holder dies, stops or does not end.

The hand-over itself goes from process to process and needs no host.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from elastic_inference.errors import LimitError
from elastic_inference.limits.lease.holder import take_back
from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.repair import LOOK_SECONDS, LeaseWatch, Seen, Verdict
from elastic_inference.limits.lease.segment import Segment
from elastic_inference.limits.processes import is_stopped, wait_readable

logger = logging.getLogger(__name__)

_REFRESH_SECONDS = 1.0  # between two looks at which processes there are
_PATIENCE_SECONDS = 0.1


@dataclass
class _Device:
    """One device's segment and what is known of it."""

    segment: Segment
    watch: LeaseWatch = field(default_factory=LeaseWatch)
    pidfds: dict[int, tuple[int, int]] = field(default_factory=dict)  # slot -> process, descriptor


class LeaseRepair:
    """A thread that looks after segments; `close` ends it and leaves them open."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._devices = [_Device(segment) for segment in segments]
        self._wake_read, self._wake_write = os.pipe()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Begin to watch; nothing runs where there is nothing to watch."""
        if self._devices:
            self._thread.start()

    def close(self) -> None:
        """Stop watching; twice is fine."""
        if self._is_closed:
            return
        self._is_closed = True
        os.write(self._wake_write, b"x")
        if self._thread.is_alive():
            self._thread.join()
        for device in self._devices:
            for _, fd in device.pidfds.values():
                os.close(fd)
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)

    def _run(self) -> None:
        refreshed_at = -_REFRESH_SECONDS
        while not self._is_closed:
            now = time.monotonic()
            is_due = now - refreshed_at >= _REFRESH_SECONDS
            for device in self._devices:
                try:
                    if is_due:
                        _refresh(device)
                    _look(device)
                except Exception:  # repair must go on: what failed now may work at the next look
                    logger.exception("looking after a lease segment failed")
            if is_due:
                refreshed_at = now
            self._sleep()

    def _sleep(self) -> None:
        """Until the next look, the end of a process or `close`."""
        ends = {fd: (d, slot) for d in self._devices for slot, (_, fd) in d.pidfds.items()}
        for fd in wait_readable((self._wake_read, *ends), LOOK_SECONDS):
            if fd in ends:
                device, slot = ends[fd]
                del device.pidfds[slot]
                os.close(fd)
                _end(device, slot)


def _refresh(device: _Device) -> None:
    """Know the processes of all slots, so that the end of one is seen at once."""
    for slot in device.segment.rules.in_use():
        pid = device.segment.process(slot)
        known = device.pidfds.get(slot)
        if pid is None or (known is not None and known[0] == pid):
            continue
        with contextlib.suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            if known is not None:
                os.close(known[1])
            device.pidfds[slot] = pid, fd


def _end(device: _Device, slot: int) -> None:
    """Free what a process that has ended waited for or held."""
    if device.segment.process(slot) is not None:
        return  # it has been started again already

    def action(turns: DeviceTurns, now: float) -> None:
        if slot in turns.tenants:
            turns.withdraw(slot, now)

    with contextlib.suppress(LimitError):
        device.segment.change(action, _PATIENCE_SECONDS)


def _look(device: _Device) -> None:
    seen = _see(device.segment)
    verdict = device.watch.judge(seen, time.monotonic())
    if verdict != Verdict():
        _act(device.segment, seen, verdict)


def _see(segment: Segment) -> Seen:
    lock_pid = segment.lock_owner()
    holder, epoch, *_ = segment.accounts.peek()
    if holder not in segment.rules.in_use():
        return Seen(
            None, epoch, lock_pid=lock_pid, is_lock_stopped=lock_pid is not None and is_stopped(lock_pid)
        )
    pid = segment.process(holder)
    turns = segment.accounts.load(segment.rules, time.monotonic())
    return Seen(
        holder,
        epoch,
        is_alive=pid is not None,
        is_stopped=pid is not None and is_stopped(pid),
        longest_seconds=max((tenant.longest_seconds for tenant in turns.tenants.values()), default=0.0),
        num_waiting=sum(tenant.is_waiting for tenant in turns.tenants.values()),
        lock_pid=lock_pid,
        is_lock_stopped=lock_pid is not None and is_stopped(lock_pid),
    )


def _act(segment: Segment, seen: Seen, verdict: Verdict) -> None:
    if verdict.kill_pid is not None and segment.lock_owner() == verdict.kill_pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(verdict.kill_pid, signal.SIGKILL)
        logger.error(
            "a process did not let go of a lease segment and was ended", extra={"pid": verdict.kill_pid}
        )
    if verdict.take_back is not None and seen.holder is not None:
        holder, epoch = seen.holder, seen.epoch
        with contextlib.suppress(LimitError):
            if segment.change(lambda turns, now: take_back(turns, holder, epoch, now), _PATIENCE_SECONDS):
                logger.warning("a lease was taken back", extra={"slot": holder, "why": verdict.take_back})
