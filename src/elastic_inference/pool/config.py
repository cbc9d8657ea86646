"""What a pool is started with, as JSON: `ei pool start` writes it, the pool's processes and Ray actors read it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.host.processes.folders import TlsFiles
from elastic_inference.pool.failover import FailoverRules
from elastic_inference.pool.placement.choosing import Policy
from elastic_inference.protocol.tls import Tls


@dataclass(frozen=True)
class PoolTls:
    """One authority's files. All parts of a pool show its certificates and ask for them.

    Attributes:
        ca: By which every part knows the others.
        cert, key: Of this part; hosts of other machines have their own at the same paths.
    """

    ca: str
    cert: str
    key: str

    def files(self) -> TlsFiles:
        """Return them as a host takes them; clients need none of their own."""
        return TlsFiles(Path(self.cert), Path(self.key))


@dataclass(frozen=True)
class PoolConfig:
    """How a pool is to run.

    Attributes:
        listen: Of its control API, `HOST:PORT`.
        url: By which its hosts reach it.
        state_dir: Of the pool service, on the machine where it runs.
        host_state_dir: Below it each host keeps its own, on its machine, under the name of its Ray node.
        database_url: SQLAlchemy URL; None: SQLite in `state_dir`.
        placement: `pack`, which leaves room for large types, or `spread`, by which a death hits few of one kind.
        drain_seconds: For calls in flight where an accelerator moves.
        drain_pause_seconds: Between two moves of a drain: each takes cores from the calls of all others on both hosts.
        host_options: Of `ei host start`, as its TOML file has them.
        tls: None: nothing is encrypted.
    """

    listen: str
    url: str
    state_dir: str
    host_state_dir: str
    database_url: str | None = field(default=None, repr=False)  # it may hold a password
    report_seconds: float = 0.5
    lease_seconds: float = 3.0
    margin_seconds: float = 0.5
    placement: str = "pack"
    drain_seconds: float = 10.0
    drain_pause_seconds: float = 2.0
    host_options: Mapping[str, Any] = field(default_factory=dict)
    tls: PoolTls | None = None
    log_level: str = "info"

    def __post_init__(self) -> None:
        self.rules()
        self.policy()
        if not 0 <= self.drain_seconds <= 600:
            raise InvalidInput(f"drain_seconds {self.drain_seconds} is not between 0 and 600")
        if not 0 <= self.drain_pause_seconds <= 600:
            raise InvalidInput(f"drain_pause_seconds {self.drain_pause_seconds} is not between 0 and 600")

    def rules(self) -> FailoverRules:
        """Return the times that decide about hosts; InvalidInput where they contradict each other."""
        return FailoverRules(self.report_seconds, self.lease_seconds, self.margin_seconds)

    def policy(self) -> Policy:
        """Return how hosts are chosen; InvalidInput where there is no such way."""
        try:
            return Policy(self.placement)
        except ValueError as error:
            known = ", ".join(policy.value for policy in Policy)
            raise InvalidInput(f"placement {self.placement!r:.40} is not one of {known}") from error

    def differences(self, other: PoolConfig) -> list[str]:
        """Name what is unlike, with both values: ours, and the other's."""
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        secret = {each.name for each in fields(self) if not each.repr}
        return [
            f"{name} differs"
            if name in secret
            else f"{name} {mine[name]!r:.200}, there {theirs[name]!r:.200}"
            for name in mine
            if mine[name] != theirs[name]
        ]

    def client_context(self) -> ssl.SSLContext | None:
        """Return with what parts of the pool speak to each other; None: nothing is encrypted."""
        return None if self.tls is None else Tls(self.tls.ca).client_context()

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> PoolConfig:
        """Read what `to_json` wrote."""
        value = json.loads(text)
        tls = value.pop("tls")
        return cls(**value, tls=None if tls is None else PoolTls(**tls))
