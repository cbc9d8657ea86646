"""Which way of limiting works on this machine: found by trying it on a group of its own, not by reading about
it."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import replace

from elastic_inference.errors import InvalidInput, LimitError
from elastic_inference.limits.base import MEBIBYTE, LimitRequest, Limits, held_command
from elastic_inference.limits.cgroup import PARENT_NAME
from elastic_inference.limits.cgroup1 import CgroupV1
from elastic_inference.limits.cgroup2 import CgroupV2
from elastic_inference.limits.machine import is_limited
from elastic_inference.limits.mounts import GroupMount, GroupMounts, read_mounts
from elastic_inference.limits.rlimit import RlimitAndDutyCycle

MODES = (CgroupV2.name, CgroupV1.name, RlimitAndDutyCycle.name)
"""Best first."""


def detect(
    preferred: str | None = None,
    *,
    parent_name: str = PARENT_NAME,
    mounts: GroupMounts | None = None,
) -> Limits:
    """Return the best way of limiting that works here.

    Args:
        preferred: One of `MODES`, which is then the only one tried; None: the best.
        parent_name: Group that holds those of the accelerators; a name of its own keeps two hosts of one
            machine apart.
        mounts: Where the control groups are; None: as /proc tells.

    Raises:
        InvalidInput: `preferred` is not one of `MODES`.
        LimitError: `preferred` does not work here.
    """
    if preferred is not None and preferred not in MODES:
        raise InvalidInput(f"limits {preferred!r} is not one of {', '.join(MODES)}")
    found = mounts or read_mounts()
    ways: list[tuple[str, Callable[[bool], Limits]]] = [
        (CgroupV2.name, lambda cpuset: CgroupV2(found, parent_name, use_cpuset=cpuset)),
        (CgroupV1.name, lambda cpuset: CgroupV1(found, parent_name, use_cpuset=cpuset)),
        (RlimitAndDutyCycle.name, lambda _: RlimitAndDutyCycle()),
    ]
    if found.v2 is not None and found.v2.own_group != found.v2.mount_point:
        ways.insert(
            1, (CgroupV2.name, lambda cpuset: CgroupV2(_at_top(found), parent_name, use_cpuset=cpuset))
        )
    refusals = []
    for name, make in ways:
        if preferred not in (None, name):
            continue
        try:
            limits = _find_working(make)
        except LimitError as error:
            refusals.append(f"no {name}: {error}")
        else:
            limits.reason = "; ".join(filter(None, (*dict.fromkeys(refusals), limits.reason)))
            return limits
    raise LimitError("; ".join(refusals))


def _at_top(mounts: GroupMounts) -> GroupMounts:
    """Return groups at the top of the v2 hierarchy, for a host in a group that it shares, such as a login session.

    Only where no group around this process has a limit, so that none is escaped.
    """
    assert mounts.v2 is not None
    if is_limited(mounts.v2):
        raise LimitError("a v2 group around this process has a limit, which the top would escape")
    top = mounts.v2.mount_point
    return replace(mounts, v2=GroupMount(top, top))


def _find_working(make: Callable[[bool], Limits]) -> Limits:
    """One way of limiting, with the controller cpuset or, where that is refused, without."""
    try:
        return _try(make(True))
    except LimitError as error:
        limits = _try(make(False))
        limits.reason = f"no cpuset: {error}"
        return limits


def _try(limits: Limits) -> Limits:
    """Hold a small process, read its use and let go of it; raises LimitError where that does not work."""
    accelerator_id = f"eia-{secrets.token_hex(16)}"
    request = LimitRequest(accelerator_id, compute_share=0.5, num_cores=1.0, memory_bytes=64 * MEBIBYTE)
    process = subprocess.Popen(
        held_command(["/bin/true"]), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=os.sep
    )
    try:
        limits.apply(request)
        limits.add_process(accelerator_id, process.pid)
        if process.pid not in limits.processes(accelerator_id):
            raise LimitError(f"the process put in a group of {limits.name} is not in it")
        core = min(os.sched_getaffinity(0))
        limits.keep_to_cores(accelerator_id, frozenset({core}))
        if os.sched_getaffinity(process.pid) != {core}:
            raise LimitError(f"the process put in a group of {limits.name} is not kept to core {core}")
        limits.usage(accelerator_id)
    finally:
        process.kill()
        process.communicate()
        limits.release(accelerator_id)
    return limits
