"""The device that an accelerator goes to, of those that it fits."""

from __future__ import annotations

from collections.abc import Iterable, Set
from enum import Enum

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.pool.model import HostView, Placement, Request
from elastic_inference.pool.placement.table import Floats, Mask, Table
from elastic_inference.units import format_bytes

# Each outweighs what stands below it; looseness lies between -5 and 1.2.
_TIER = 100.0
_FOREIGN = 10.0
_SCARCE_FEATURE = 0.25
# Of some twenty rules tried on 300 sequences this left the fewest devices in use; `make bench-pool` has others.
_UNEVEN = 0.2
_COMPANY = 0.1
_MOST_COMPANY = 50


class Policy(Enum):
    """What a pool prefers where an accelerator fits several devices."""

    PACK = (
        "pack"  # fill devices that are in use, so that others stay whole for large types or can be given back
    )
    SPREAD = "spread"  # take the emptiest host, so that one host's death meets few


def place(request: Request, hosts: Iterable[HostView], policy: Policy = Policy.PACK) -> Placement:
    """Choose a host and a device for an accelerator, the same for the same hosts in whatever order they are given.

    Raises:
        InvalidInput: No host has a type of this name.
        CapacityExceeded: It fits no device that is offered now; with what was asked for and what is left.
    """
    return choose(Table(hosts), request, policy)


def choose(
    table: Table, request: Request, policy: Policy = Policy.PACK, closed: Set[str] = frozenset()
) -> Placement:
    """Choose as `place` does, on a table that is kept; the table is not changed.

    Args:
        closed: Hosts that are not to be chosen.
    """
    row = find(table, request, policy, closed)
    if row is None:
        raise refusal(table, request)
    return table.placement(request.type_name, row)


def find(
    table: Table,
    request: Request,
    policy: Policy = Policy.PACK,
    closed: Set[str] = frozenset(),
    among: Mask | None = None,
) -> int | None:
    """Return the row of the best device, the first of equal ones; None where it fits none.

    Args:
        among: Which devices may be chosen; None: all.
    """
    fits = table.fits(request, closed)
    rows = np.flatnonzero(fits if among is None else fits & among)
    if not rows.size:
        return None
    cost = _cost_of_packing if policy is Policy.PACK else _cost_of_spreading
    return int(rows[np.argmin(cost(table, request, rows))])


def _cost_of_packing(table: Table, request: Request, rows: npt.NDArray[np.intp]) -> Floats:
    """Prefer devices in use, then hosts in use, then hosts that have the models, then the tightest fit."""
    hosts = table.host_of[rows]
    is_empty = (table.num_on_device[rows] == 0).astype(np.float64)
    is_empty += table.num_on_host[hosts] == 0
    cost: Floats = _TIER * is_empty + _common_cost(table, request, hosts) + _looseness(table, request, rows)
    return cost


def _cost_of_spreading(table: Table, request: Request, rows: npt.NDArray[np.intp]) -> Floats:
    hosts = table.host_of[rows]
    crowd = table.num_on_host[hosts].astype(np.float64)
    return _TIER * crowd + _common_cost(table, request, hosts) - _looseness(table, request, rows)


def _common_cost(table: Table, request: Request, hosts: npt.NDArray[np.intp]) -> Floats:
    """Prefer hosts that have the models, and leave rare features to those who ask for them."""
    scarce = _SCARCE_FEATURE * (table.num_features - len(request.features))[hosts]
    if not request.models:
        return scarce
    absent = 1.0 - table.num_local(request.models)[hosts] / len(request.models)
    return scarce + _FOREIGN * absent


def _looseness(table: Table, request: Request, rows: npt.NDArray[np.intp]) -> Floats:
    """Say how much compute would be left, a little more where memory and compute would be left unevenly.

    And less where more accelerators are: a device with many is the least likely to become free by itself.
    """
    share, num_bytes = table.needed(request.type_name)
    left_share = table.left_share[rows] - share[rows]
    left_bytes = (table.left_bytes[rows] - num_bytes[rows]) / table.whole_bytes[rows]
    company = np.minimum(table.num_on_device[rows], _MOST_COMPANY)
    return left_share + _UNEVEN * np.abs(left_share - left_bytes) - _COMPANY * company


def refusal(table: Table, request: Request) -> InvalidInput | CapacityExceeded:
    """Say why a request fits nowhere: no such type, no host of that kind, or nothing left on those."""
    name = request.type_name
    if not table.has_type(name):
        known = sorted({each for host_id in table.host_ids for each in table.host(host_id).catalogue})
        return InvalidInput(f"no host has a type {name!r}; known are {', '.join(known) or 'none'}")
    asked = f"type {name!r}" + (f" with {', '.join(sorted(request.features))}" if request.features else "")
    suits = np.flatnonzero(table.suits(request))
    if not suits.size:
        return CapacityExceeded(
            f"{asked} fits no device of any host, even an empty one",
            requested=asked,
            available="no such host",
        )
    best = suits[np.argmax(table.left_share[suits])]
    left = (
        f"{table.left_share[best] * 100:.3g}% and {format_bytes(float(table.left_bytes[best]))} of "
        f"{table.device_name(int(best))} on host {table.host_ids[table.host_of[best]]}"
    )
    share, num_bytes = table.needed(name)
    requested = f"{share[best] * 100:.3g}% of a device and {format_bytes(float(num_bytes[best]))}"
    apart = "" if request.anti_affinity is None else f", apart from others of {request.anti_affinity!r}"
    could = "1 device" if suits.size == 1 else f"{suits.size} devices"
    return CapacityExceeded(
        f"{asked} needs {requested}{apart}; {could} could hold it, the most that is left is {left}",
        requested=requested,
        available=left,
    )
