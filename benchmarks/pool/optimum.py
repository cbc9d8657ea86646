"""The fewest devices that hold given accelerators, by branch and cut with a proof (HiGHS, which scipy brings)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix

from elastic_inference.pool.model import HostView

_ROUNDING_SHARE = 1e-9
_MIB = 1024**2


def fewest_devices(
    hosts: Sequence[HostView], accelerators: Mapping[str, str], limit_seconds: float = 20.0
) -> int | None:
    """Pack accelerators anew, as if each could be moved at any time.

    Args:
        hosts: What they hold now does not count.
        accelerators: Type name by accelerator id.
        limit_seconds: After which an unproved result is given up.

    Returns:
        The fewest devices that they fit on; None where that is not proved in time or they fit nowhere.
    """
    counts = sorted(Counter(accelerators.values()).items())
    if not counts:
        return 0
    devices = [(host, device) for host in hosts for device in host.capacity.devices]
    num_types, num_devices = len(counts), len(devices)
    num_variables = (
        num_types * num_devices + num_devices
    )  # how many of a type on a device; whether it is used
    upper = np.ones(num_variables)
    rows: list[dict[int, float]] = []
    low: list[float] = []
    high: list[float] = []

    def add(row: dict[int, float], least: float, most: float) -> None:
        rows.append(row)
        low.append(least)
        high.append(most)

    beside: dict[str, tuple[dict[int, float], dict[int, float]]] = {h.host_id: ({}, {}) for h in hosts}
    for place, (host, device) in enumerate(devices):
        used = num_types * num_devices + place
        share, memory = {used: -(1.0 + _ROUNDING_SHARE)}, {used: -device.memory_bytes / _MIB}
        is_of_host = device == host.capacity.host_budget
        for kind, (name, count) in enumerate(counts):
            variable = kind * num_devices + place
            need = host.capacity.need_on(device, host.catalogue[name]) if name in host.catalogue else None
            upper[variable] = 0 if need is None else count
            if need is None:
                continue
            share[variable], memory[variable] = need.share, need.memory_bytes / _MIB
            of_share, of_bytes = beside[host.host_id]
            of_share[variable] = need.share if is_of_host else need.cpu_share
            of_bytes[variable] = (need.memory_bytes if is_of_host else need.host_memory_bytes) / _MIB
            add({variable: 1.0, used: -float(count)}, -np.inf, 0.0)
        add(share, -np.inf, 0.0)
        add(memory, -np.inf, 0.0)
    for host in hosts:
        budget = host.capacity.host_budget
        if budget is not None:
            add(beside[host.host_id][0], -np.inf, 1.0 + _ROUNDING_SHARE)
            add(beside[host.host_id][1], -np.inf, budget.memory_bytes / _MIB)
    for kind, (_, count) in enumerate(counts):
        add({kind * num_devices + place: 1.0 for place in range(num_devices)}, count, count)
    matrix = lil_matrix((len(rows), num_variables))
    for number, row in enumerate(rows):
        for variable, value in row.items():
            matrix[number, variable] = value
    cost = np.concatenate([np.zeros(num_types * num_devices), np.ones(num_devices)])
    found = milp(
        cost,
        integrality=np.ones(num_variables),
        bounds=Bounds(0, upper),
        constraints=LinearConstraint(matrix.tocsr(), low, high),
        options={"time_limit": limit_seconds},
    )
    return round(float(found.fun)) if found.status == 0 else None
