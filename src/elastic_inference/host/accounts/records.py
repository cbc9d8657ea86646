"""What a host remembers of an accelerator: plain values, as they stand in its database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.usage import Sample
from elastic_inference.limits.processes import ProcessIdentity
from elastic_inference.protocol.doors import DOORS


class State(Enum):
    """Where an accelerator is in its life."""

    STARTING = "starting"  # attached, its process does not serve yet
    READY = "ready"  # its process serves
    RESTARTING = "restarting"  # its process died, and the next one is being started
    DRAINING = "draining"  # it finishes what is in flight and takes nothing new
    STOPPED = "stopped"  # the host was stopped in order; its next start starts the process again


@dataclass(frozen=True)
class AcceleratorRecord:
    """One attached accelerator.

    Attributes:
        kind: The type as it was when attached, with the doors that it opens; a changed catalogue does not change it.
        share: Part of the device that it holds, above 0 and up to 1.
        token_sha256: Hash of its bearer token; the token itself is nowhere kept.
        process: The process that serves or served it last; None before the first.
        endpoints: Where it serves; the same over restarts.
        port: Its TCP port; None where it serves no TCP.
        num_restarts: How often its process was started again because it had died.
        last_exit: How its process ended last, a sentence; "" where none has.
        lease_seconds: It is detached when no heartbeat came for so long; None: never.
        created_at: Seconds since 1970, UTC.
        tenant: Whose it is; "" where it is the operator's own.
        sample: Counters as last read, so that a host that starts again counts nothing twice.
    """

    accelerator_id: str
    name: str
    kind: AcceleratorType
    device: str
    share: float
    token_sha256: str
    created_at: float
    state: State = State.STARTING
    uid: int | None = None
    process: ProcessIdentity | None = None
    endpoints: tuple[str, ...] = ()
    port: int | None = None
    num_restarts: int = 0
    last_exit: str = ""
    lease_seconds: float | None = None
    sample: Sample = field(default_factory=Sample)
    tenant: str = ""

    @property
    def doors(self) -> tuple[str, ...]:
        """Protocols that it opens; of one from before there was a choice, all."""
        return self.kind.doors or DOORS

    @property
    def cpu_share(self) -> float:
        """Part of the host's cores, above 0 and up to 1: of a CPU device the share itself."""
        return self.share if self.kind.cpu_share is None else self.kind.cpu_share


def type_to_json(kind: AcceleratorType) -> dict[str, Any]:
    """Return a JSON object that `type_from_json` reads back; the price is text, because JSON has no decimals."""
    usd = kind.usd_per_hour
    return {**asdict(kind), "usd_per_hour": None if usd is None else str(usd)}


def type_from_json(value: Mapping[str, Any]) -> AcceleratorType:
    """Read what `type_to_json` wrote."""
    usd = value["usd_per_hour"]
    return AcceleratorType(**{**value, "usd_per_hour": None if usd is None else Decimal(usd)})
