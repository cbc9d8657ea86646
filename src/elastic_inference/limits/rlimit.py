"""Limits without any right: memory by RLIMIT_DATA, compute by the accelerator's own duty cycle.

What this mode does not hold: RLIMIT_DATA counts each process by itself and no shared memory, and the kernel
gives an accelerator no weight against its neighbours. Its accounting lives in this object, so a restarted
host must add the processes of its predecessor again.
"""

from __future__ import annotations

import contextlib
import time

import psutil

from elastic_inference.errors import AcceleratorNotFound, LimitError
from elastic_inference.limits import affinity
from elastic_inference.limits.base import (
    AppliedLimits,
    LimitRequest,
    Limits,
    LimitUsage,
    fit_duty_cycle,
    fit_threads,
)
from elastic_inference.limits.files import set_data_limit
from elastic_inference.units import format_bytes

_END_SECONDS = 5.0


class RlimitAndDutyCycle(Limits):
    """Limits by RLIMIT_DATA and a duty cycle; they work for every user on Linux."""

    name = "rlimit and duty cycle"

    def __init__(self) -> None:
        self._requests: dict[str, LimitRequest] = {}
        self._members: dict[str, list[psutil.Process]] = {}

    def apply(self, request: LimitRequest) -> AppliedLimits:
        self._requests[request.accelerator_id] = request
        self._members.setdefault(request.accelerator_id, [])
        return self._applied(request)

    def add_process(self, accelerator_id: str, pid: int) -> None:
        request = self._require(accelerator_id)
        try:
            process = psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise LimitError(f"process {pid} has ended") from error
        set_data_limit([pid], request.memory_bytes)
        self._members[accelerator_id].append(process)

    def update(self, request: LimitRequest) -> AppliedLimits:
        self._require(request.accelerator_id)
        set_data_limit(self.processes(request.accelerator_id), request.memory_bytes)
        self._requests[request.accelerator_id] = request
        return self._applied(request)

    def keep_to_cores(self, accelerator_id: str, cores: frozenset[int]) -> str:
        affinity.keep_to_cores(self.processes(accelerator_id), cores)
        return affinity.MEANS

    def usage(self, accelerator_id: str) -> LimitUsage:
        request = self._require(accelerator_id)
        cpu_seconds, memory_bytes = 0.0, 0
        for process in self._alive(accelerator_id):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                cpu_seconds += times.user + times.system + times.children_user + times.children_system
                memory = process.memory_info()
                memory_bytes += memory.rss - memory.shared
        return LimitUsage(cpu_seconds, 0.0, memory_bytes, request.memory_bytes, 0)

    def processes(self, accelerator_id: str) -> tuple[int, ...]:
        return tuple(sorted(process.pid for process in self._alive(accelerator_id)))

    def release(self, accelerator_id: str) -> None:
        deadline = time.monotonic() + _END_SECONDS
        # Not psutil.wait_procs: it would reap the host's own children, and their exit status would be lost.
        while left := self._alive(accelerator_id):
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            if time.monotonic() > deadline:
                pids = [process.pid for process in left]
                raise LimitError(f"processes {pids} did not end {_END_SECONDS:g} s after SIGKILL")
            time.sleep(0.005)
        self._requests.pop(accelerator_id, None)
        self._members.pop(accelerator_id, None)

    def list_existing(self) -> tuple[str, ...]:
        return tuple(sorted(self._requests))

    def _alive(self, accelerator_id: str) -> list[psutil.Process]:
        """Return the members that still run, and what they have started."""
        members = [p for p in self._members.get(accelerator_id, []) if _runs(p)]
        found = {process.pid: process for process in members}
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update((child.pid, child) for child in process.children(recursive=True) if _runs(child))
        return list(found.values())

    def _applied(self, request: LimitRequest) -> AppliedLimits:
        share = None if request.may_burst else fit_duty_cycle(request)
        compute = f"{request.compute_share:.2f} of {request.num_cores:g} cores"
        return AppliedLimits(
            accelerator_id=request.accelerator_id,
            num_threads=fit_threads(request),
            rlimit_data_bytes=request.memory_bytes,
            duty_cycle_share=share,
            description={
                "compute": f"{compute}: not held, for it may burst and only control groups can hold it then"
                if share is None
                else f"{compute}: duty cycle of the accelerator, {share:.0%} of the time",
                "memory": f"{format_bytes(request.memory_bytes)} by RLIMIT_DATA of each process",
            },
        )

    def _require(self, accelerator_id: str) -> LimitRequest:
        try:
            return self._requests[accelerator_id]
        except KeyError:
            raise AcceleratorNotFound(f"accelerator {accelerator_id} has no limits here") from None


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
