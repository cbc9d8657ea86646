"""What somebody asks a host or a pool for, and the answer that it has to wait. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from elastic_inference.host.accounts.scope import OPERATOR


@dataclass(frozen=True)
class Wanted:
    """What somebody asks for.

    Attributes:
        name: For lists; None: the host makes one up.
        lease_seconds: See AcceleratorRecord.
        tenant: For whom.
        may_wait: Whether it stands in line where there is no room now.
        priority: In the line.
        ticket: What the line gave it when it asked before; None: it has not.
        doors: Protocols that it opens, of those of its type; None: all of these.
        key: Secret of the client's: the same one again is the same attach, see `host.attach_keys`; None: it is new.
    """

    type_name: str
    name: str | None = None
    lease_seconds: float | None = None
    tenant: str = OPERATOR
    may_wait: bool = False
    priority: int = 0
    ticket: str | None = None
    doors: tuple[str, ...] | None = None
    key: str | None = None


@dataclass(frozen=True)
class Waiting:
    """That somebody has to wait.

    Attributes:
        ticket: To ask again with.
        place: 1 for the next.
        num_waiting: All that wait.
        ask_again_seconds: When to ask again; whoever does not for the line's `PATIENCE_SECONDS` loses its place.
    """

    ticket: str
    place: int
    num_waiting: int
    ask_again_seconds: float
