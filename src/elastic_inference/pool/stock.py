"""A pool's devices as those who wait see them: what is left on all hosts, who holds what, and taking of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.host.accounts.capacity import Allocation
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.stock import Check
from elastic_inference.pool.books import Books, Place
from elastic_inference.pool.model import Request
from elastic_inference.pool.placement.choosing import Policy, find, refusal
from elastic_inference.pool.placement.table import Table
from elastic_inference.pool.placement.waiting import PoolRoom


class PoolStock:
    """See `host.accounts.stock.Stock`."""

    def __init__(self, books: Books, policy: Policy) -> None:
        self._books = books
        self._policy = policy

    def room(self, without: str = "") -> PoolRoom:
        """Return what is left now on all hosts.

        Args:
            without: An accelerator for which nothing is kept, whatever it lost.
        """
        homeless = [(key, request) for key, request in self._books.homeless() if key != without]
        return PoolRoom(Table(self._books.views()), self._policy, homeless)

    def held_by(self, tenant: str) -> Mapping[str, Allocation]:
        """Return what a tenant holds on all hosts, what has no host at this moment included."""
        return self._books.held_by(tenant)

    def tenant_of(self, accelerator_id: str) -> str | None:
        """Return whose an accelerator is; None for one that is not attached. Waits for nothing."""
        return self._books.tenant_of(accelerator_id)

    def on_its_own(self, kind: AcceleratorType) -> Allocation:
        """Return what a type would hold on the first host that it suits; raises CapacityExceeded: it suits none."""
        table, request = Table(self._books.views()), Request(kind.name)
        rows = table.suits(request).nonzero()[0]
        if not rows.size:
            raise refusal(table, request)
        return table.placement(kind.name, int(rows[0])).allocation

    def refusal(self, kind: AcceleratorType) -> CapacityExceeded | None:
        """Return why a type fits on no host, with what is left; None where it fits beside what is held."""
        table, request = Table(self._books.views()), Request(kind.name)
        if find(table, request, self._policy) is not None:
            return None
        found = refusal(table, request)
        if isinstance(found, InvalidInput):
            raise found
        return found

    def take(
        self,
        accelerator_id: str,
        kind: AcceleratorType,
        tenant: str = "",
        check: Check | None = None,
        room: PoolRoom | None = None,
    ) -> Allocation:
        """Hold room for an accelerator on some host; raises CapacityExceeded, or what `check` does.

        Args:
            room: Of this alone, which leaves what is kept for others; None: of all that is left.
        """
        kept = [] if room is None else room.kept
        return self._books.take(accelerator_id, Request(kind.name, tenant), (), check, kept).allocation

    def take_elsewhere(
        self, keep: Callable[[PoolRoom], None], accelerator_id: str, request: Request, tried: Iterable[str]
    ) -> Place:
        """Hold room for an accelerator whose first place came to nothing.

        Args:
            keep: Keeps what others wait for.
            tried: Hosts that did not start it.
        """
        room = self.room(without=accelerator_id)
        keep(room)
        return self._books.take(accelerator_id, request, tried, kept=room.kept)
