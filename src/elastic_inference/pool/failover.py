"""Which hosts are lost, from when what they held may run elsewhere, and who is placed first.

Pure; the service and the simulation share it. A host holds a lease that each answered report renews. It counts the
lease from when it sent the report, its pool from when it answered; so the host's ends first, whatever the network does,
and it has stopped its accelerators before they start elsewhere. Clocks of unlike rates are what the margin is for.
Where its process is known to have ended, its accelerators answer no more, and only the margin is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.fence import LOCK_AGE_SECONDS
from elastic_inference.pool.model import Request

LEAST_MARGIN_SECONDS = 50 * LOCK_AGE_SECONDS
"""So that nearly all of the margin is for what an accelerator does between its look at the fence and its answer."""


@dataclass(frozen=True)
class FailoverRules:
    """The times that decide; all on monotonic clocks, each machine's own.

    Attributes:
        report_seconds: Between two reports of a host.
        lease_seconds: How long after a report was sent its host may serve. Several reports fit, so that a single
            one that is lost or late ends nothing.
        margin_seconds: How much longer the pool waits: for clocks of unlike rates, and for a host to stop what it runs.
    """

    report_seconds: float = 0.5
    lease_seconds: float = 2.0
    margin_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < 2 * self.report_seconds <= self.lease_seconds < float("inf"):
            raise InvalidInput(
                f"lease_seconds {self.lease_seconds} must be at least twice report_seconds {self.report_seconds}"
            )
        if not LEAST_MARGIN_SECONDS <= self.margin_seconds < float("inf"):
            raise InvalidInput(
                f"margin_seconds {self.margin_seconds} must be finite and at least {LEAST_MARGIN_SECONDS}"
            )

    def may_serve(self, sent_at: float, now: float) -> bool:
        """Whether a host may still answer clients.

        Args:
            sent_at: When it sent the last report that was answered, on its own clock, as `now`.
        """
        return now - sent_at < self.lease_seconds

    def lost_at(self, answered_at: float) -> float:
        """From when on the pool may place elsewhere what a silent host held.

        Args:
            answered_at: When the pool answered the host's last report, on the pool's clock.
        """
        return answered_at + self.lease_seconds + self.margin_seconds

    def lost_after_end_at(self, ended_at: float) -> float:
        """From when on the pool may place elsewhere what a host held whose process has ended.

        The margin here is for an accelerator that looked at its fence before and has not sent its answer yet (its look
        may be a millisecond old, see `limits.fence`), and for a report of the host: where one comes after all, it has
        not ended.

        Args:
            ended_at: When the pool learned of it, on the pool's clock.
        """
        return ended_at + self.margin_seconds


@dataclass(frozen=True)
class Standing:
    """What a pool knows of whether a host lives.

    Attributes:
        answered_at: When its last report was answered, on the pool's clock.
        is_known_dead: It has stopped its accelerators, as it said itself: there is nothing to wait for.
        ended_at: When the pool learned that its process has ended (see `lifeline`); None: it may live.
    """

    host_id: str
    answered_at: float
    is_known_dead: bool = False
    ended_at: float | None = None

    def is_lost(self, now: float, rules: FailoverRules) -> bool:
        """Whether its accelerators may be placed elsewhere now."""
        if self.is_known_dead or now >= rules.lost_at(self.answered_at):
            return True
        return self.ended_at is not None and now >= rules.lost_after_end_at(self.ended_at)


def lost_hosts(standings: Iterable[Standing], now: float, rules: FailoverRules) -> list[str]:
    """Name the hosts whose accelerators may be placed elsewhere now, in the order of their ids."""
    return sorted(each.host_id for each in standings if each.is_lost(now, rules))


class Answer(Enum):
    """What a host's report is answered with."""

    RENEWED = "renewed"  # its lease begins anew
    FENCED = "fenced"  # it was given up: it ends all that it holds and joins under a new epoch


def answer(reported_epoch: int, current_epoch: int) -> Answer:
    """Answer a report.

    Args:
        reported_epoch: Under which the host was admitted when it joined.
        current_epoch: Of this host now; giving a host up raises it, in the same transaction as its accelerators are
            released from it.
    """
    return Answer.RENEWED if reported_epoch == current_epoch else Answer.FENCED


def order_of_return(requests: Mapping[str, Request], shares: Mapping[str, float]) -> list[str]:
    """Order accelerators that lost their host: first priority, then each tenant's first, then the largest.

    Tenants take turns, because where room is short one accelerator for each is worth more than all for one; large ones
    go before small ones, because what is left fits the small ones more often.

    Args:
        requests: By accelerator id.
        shares: What each held of its device, by id.
    """
    turn: dict[str, int] = {}
    num_of_tenant: dict[str, int] = {}

    def rank(one: str) -> tuple[int, float, str]:
        return -requests[one].priority, -shares[one], one

    for one in sorted(requests, key=rank):
        tenant = requests[one].tenant
        turn[one] = num_of_tenant.get(tenant, 0)
        num_of_tenant[tenant] = turn[one] + 1
    return sorted(requests, key=lambda one: (-requests[one].priority, turn[one], *rank(one)[1:]))
