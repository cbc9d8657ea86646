"""What Ray is told of a pool: which part of each node its accelerators hold, and what those that wait need. Pure.

In parts of a node, because Ray counts whatever it was started with: a host that is full is a node that is full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.pool.model import HostView, Request
from elastic_inference.pool.placement.table import Table


@dataclass(frozen=True)
class Part:
    """A part of a node.

    Attributes:
        key: Whose it is; what it is for, where it is only wanted.
        node_id: The Ray node; where it is only wanted, one that could have it.
        cpu_share: Of the node's CPUs.
        num_gpus: Share of one GPU.
    """

    key: str
    node_id: str
    cpu_share: float
    num_gpus: float


def held_parts(hosts: Iterable[HostView]) -> list[Part]:
    """Return what is held on all nodes, what is about to leave or may be left over included."""
    return [
        _part(key, host.node_id, allocation)
        for host in hosts
        if host.node_id
        for key, allocation in host.capacity.held.items()
    ]


def wanted_parts(hosts: Iterable[HostView], requests: Iterable[Request]) -> list[Part]:
    """Return what each request would hold of an empty node that suits it; one that suits none is left out."""
    table, found = Table(hosts), []
    for request in requests:
        if not table.has_type(request.type_name):
            continue
        rows = table.suits(request).nonzero()[0]
        if rows.size:
            placement = table.placement(request.type_name, int(rows[0]))
            node_id = table.host(placement.host_id).node_id
            found.append(_part(request.type_name, node_id, placement.allocation))
    return found


def _part(key: str, node_id: str, allocation: Allocation) -> Part:
    if allocation.cpu_share:  # beside a GPU
        return Part(key, node_id, allocation.cpu_share, allocation.share)
    return Part(key, node_id, allocation.share, 0.0)
