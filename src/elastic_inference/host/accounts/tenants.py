"""Tenants: who they are, what they may have, and the tokens by which the host knows them. Plain values."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

from elastic_inference.errors import InvalidInput, TenantQuotaExceeded
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.units import format_bytes, parse_usd

MAX_PRIORITY = 9
MAX_TENANTS = 10_000
MAX_TOKENS = 100
"""Of one tenant."""
MAX_TOKEN_SECONDS = 10 * 366 * 86400.0
MIN_REQUESTS_PER_SECOND = 1e-3
MAX_GRACE_SECONDS = 31 * 86400.0

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ROUNDING_SHARE = 1e-9  # ten times 0.1 is not 1.0 in floats


def check_tenant_name(name: str) -> str:
    """Return it, or raise InvalidInput: it stands in paths, labels of metrics and lists."""
    if not _NAME.fullmatch(name) or name == "operator":
        raise InvalidInput(
            f"tenant {name!r:.80} is not 1 to 63 characters of a-z, 0-9, '.', '_', '-' that begin with a letter or "
            "digit; 'operator' is taken"
        )
    return name


@dataclass(frozen=True)
class Quota:
    """What a tenant may have at the same time; None: as much as there is.

    Attributes:
        max_accelerators: Those that wait for capacity included.
        max_share: Of devices, all its accelerators together; 1.5 is one and a half devices.
        max_memory_bytes: Of the host and of GPUs, all its accelerators together.
        types: Names of types, or patterns such as `cpu.*`; () allows all.
        requests_per_second: Of all its accelerators on a host together.
        max_priority: With which it may wait for capacity.
    """

    max_accelerators: int | None = None
    max_share: float | None = None
    max_memory_bytes: int | None = None
    types: tuple[str, ...] = ()
    requests_per_second: float | None = None
    max_priority: int = 0

    def __post_init__(self) -> None:
        _check_number("max_accelerators", self.max_accelerators, 0, 1e6)
        _check_number("max_share", self.max_share, 0, 1e6)
        _check_number("max_memory_bytes", self.max_memory_bytes, 0, 2**62)
        _check_number("requests_per_second", self.requests_per_second, MIN_REQUESTS_PER_SECOND, 1e9)
        _check_number("max_priority", self.max_priority, 0, MAX_PRIORITY)

    def allows_type(self, type_name: str) -> bool:
        """Whether a tenant may have this type."""
        return not self.types or any(fnmatch.fnmatchcase(type_name, pattern) for pattern in self.types)

    def describe(self, tenant: str) -> dict[str, str]:
        """Return what a tenant's accelerators are held to, as limits are shown; {} where to nothing."""
        if self.requests_per_second is None:
            return {}
        rate = f"{self.requests_per_second:g} a second"
        return {"requests": f"{rate} of all accelerators of tenant {tenant} together, by its quota"}

    def check_request(self, tenant: str, type_name: str, priority: int) -> None:
        """Raise TenantQuotaExceeded where a tenant may not even ask for that."""
        if not self.allows_type(type_name):
            raise TenantQuotaExceeded(
                f"tenant {tenant!r} may not have type {type_name!r}, only {', '.join(self.types)}",
                tenant=tenant,
                requested=type_name,
                limit=", ".join(self.types),
            )
        if priority > self.max_priority:
            raise TenantQuotaExceeded(
                f"tenant {tenant!r} may wait with priority {self.max_priority} at most, not {priority}",
                tenant=tenant,
                requested=f"priority {priority}",
                limit=f"priority {self.max_priority}",
            )

    def check(
        self, tenant: str, held: Collection[Allocation], wanted: Allocation, num_waiting: int = 0
    ) -> None:
        """Raise TenantQuotaExceeded where a tenant would have more than it may.

        Args:
            held: What it has.
            wanted: What it is to have beside that.
            num_waiting: How many others of it wait for capacity.
        """
        share = math.fsum([wanted.share, *(each.share for each in held)])
        num_bytes = sum(each.memory_bytes + each.host_memory_bytes for each in (wanted, *held))
        self._check_count(tenant, 1 + len(held) + num_waiting)
        if self.max_share is not None and share > self.max_share + _ROUNDING_SHARE:
            raise _exceeded(
                tenant, f"{share * 100:.4g}% of a device", f"{self.max_share * 100:.4g}% of a device"
            )
        if self.max_memory_bytes is not None and num_bytes > self.max_memory_bytes:
            raise _exceeded(tenant, format_bytes(num_bytes), format_bytes(self.max_memory_bytes))

    def _check_count(self, tenant: str, number: int) -> None:
        if self.max_accelerators is not None and number > self.max_accelerators:
            raise _exceeded(tenant, _accelerators(number), _accelerators(self.max_accelerators))


class AtLimit(Enum):
    """What becomes of accelerators that run when their tenant's budget is reached; new ones are refused in any case."""

    WARN = "warn"  # they go on, with a warning
    DETACH = "detach"  # they are detached when the time of grace is over


@dataclass(frozen=True)
class Budget:
    """What a tenant may spend in a month (UTC).

    Attributes:
        warn_share: Of it; from there on the tenant is warned.
        grace_seconds: How long accelerators go on after it is reached, where they are to be detached.
        since: When it was changed last, in seconds since 1970; a grace begins no earlier.
    """

    usd_per_month: Decimal
    warn_share: float = 0.8
    at_limit: AtLimit = AtLimit.WARN
    grace_seconds: float = 600.0
    since: float = 0.0

    def __post_init__(self) -> None:
        parse_usd(str(self.usd_per_month), "usd_per_month")
        _check_number("warn_share", self.warn_share, 0, 1)
        _check_number("grace_seconds", self.grace_seconds, 0, MAX_GRACE_SECONDS)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `budget_from_json` reads; money is text."""
        return {
            **asdict(self),
            "usd_per_month": f"{self.usd_per_month:f}",
            "at_limit": self.at_limit.value,
        }


def budget_from_json(value: Mapping[str, Any]) -> Budget:
    """Read what `Budget.to_json` wrote."""
    return Budget(
        parse_usd(value["usd_per_month"], "usd_per_month"),
        float(value["warn_share"]),
        AtLimit(value["at_limit"]),
        float(value["grace_seconds"]),
        float(value.get("since", 0.0)),
    )


def quota_to_json(quota: Quota) -> dict[str, Any]:
    """Return a JSON object that `quota_from_json` reads."""
    return {**asdict(quota), "types": list(quota.types)}


def quota_from_json(value: Mapping[str, Any]) -> Quota:
    """Read what `quota_to_json` wrote."""
    return Quota(**{**value, "types": tuple(value["types"])})


@dataclass(frozen=True)
class Tenant:
    """Whoever accelerators are attached for.

    Attributes:
        created_at: Seconds since 1970, UTC.
        budget: None: it may spend what it likes.
        noted: The last that was told of its budget, so that a host that starts again does not tell it twice.
    """

    name: str
    created_at: float
    quota: Quota = field(default_factory=Quota)
    budget: Budget | None = None
    noted: str = ""


@dataclass(frozen=True)
class TenantToken:
    """A bearer token of a tenant, of which the host keeps the hash alone.

    Attributes:
        token_id: By which it is listed and revoked; it says nothing of the token.
        label: What it is for, a few words.
        created_at: Seconds since 1970, UTC.
        expires_at: From when on it is refused; None: never.
    """

    token_id: str
    tenant: str
    label: str
    created_at: float
    expires_at: float | None
    token_sha256: str = field(repr=False)

    def is_in_force(self, now: float) -> bool:
        """Whether it is accepted at that moment."""
        return self.expires_at is None or now < self.expires_at


def _exceeded(tenant: str, requested: str, limit: str) -> TenantQuotaExceeded:
    return TenantQuotaExceeded(
        f"tenant {tenant!r} would have {requested}, and its quota is {limit}; detach accelerators, or let the operator "
        "raise the quota",
        tenant=tenant,
        requested=requested,
        limit=limit,
    )


def _accelerators(number: int) -> str:
    return f"{number} accelerator{'' if number == 1 else 's'}"


def _check_number(name: str, value: float | None, least: float, most: float) -> None:
    if value is not None and not least <= value <= most:
        raise InvalidInput(f"{name} {value} is not between {least:g} and {most:g}")
