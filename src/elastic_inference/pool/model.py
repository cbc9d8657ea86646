"""What a pool knows of its hosts and of what is asked of it: plain values, which placement and simulation share.

What fits on a host is decided by the host's own `Capacity`, so a pool never promises what a host would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from elastic_inference.host.accounts.capacity import Allocation, Capacity
from elastic_inference.host.accounts.catalogue import AcceleratorType


class HostState(Enum):
    """Where a host is in its life, as its pool sees it."""

    READY = "ready"  # it answers and takes accelerators
    DRAINING = "draining"  # it answers, takes none, and its accelerators are moved elsewhere
    LOST = "lost"  # its lease has ended: it has stopped its accelerators, and they are placed elsewhere


@dataclass(frozen=True)
class Request:
    """An accelerator that somebody wants.

    Attributes:
        type_name: Of the catalogue; each host knows what it is there, so `cpu.half` is half of whatever CPU.
        tenant: Who asks; "" for nobody in particular.
        priority: Of several that wait, the higher comes first; equal ones in the order in which they came.
        anti_affinity: Accelerators of the same tenant and the same text here never share a host; None: they may.
        features: What the host must have, such as `bf16` or `cuda:NVIDIA H100`.
        models: SHA-256 of stored models that it is to have; a host that holds them is preferred.
    """

    type_name: str
    tenant: str = ""
    priority: int = 0
    anti_affinity: str | None = None
    features: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()


@dataclass(frozen=True)
class HostView:
    """A host as its pool sees it.

    Attributes:
        node_id: The Ray node that it runs on.
        capacity: Its devices and what accelerators hold of them, by id (see `host.accounts.capacity`).
        catalogue: Its types by name.
        features: What it has, such as `bf16`.
        models: SHA-256 of the models in its artifact store.
        epoch: Counts how often it was (re)admitted; what carries an earlier one is of a host that was given up.
        placed: What was asked for, by the id of each accelerator that it holds.
        idle: Accelerators that have no call under way, and may be moved without anybody waiting.
    """

    host_id: str
    capacity: Capacity
    catalogue: Mapping[str, AcceleratorType]
    node_id: str = ""
    state: HostState = HostState.READY
    features: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    epoch: int = 0
    placed: Mapping[str, Request] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Placement:
    """Where an accelerator goes."""

    host_id: str
    allocation: Allocation
