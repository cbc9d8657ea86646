"""The tenants' requests a second on a host: memory that a tenant's accelerators share, and the limit in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from elastic_inference.clock import MonotonicClock
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.limits.request_rate import RateConfig, RatePage


class RequestRates:
    """Of all tenants that have accelerators; any thread may call.

    Args:
        limit_of: Returns how many requests a second a tenant may make; None: no limit.
        left_over: Accelerators of an earlier run of the host whose processes still go on.
    """

    def __init__(
        self, limit_of: Callable[[str], float | None], left_over: Iterable[AcceleratorRecord]
    ) -> None:
        self._limit_of = limit_of
        self._left_over = tuple(left_over)
        self._pages: dict[str, RatePage] = {}
        self._places: dict[str, str] = {}  # accelerator -> tenant
        self._clock = MonotonicClock()
        self._lock = threading.Lock()

    def admit(self, record: AcceleratorRecord) -> RateConfig | None:
        """Return where an accelerator's process counts; None for the operator's own. The descriptor stays ours.

        Raises:
            CapacityExceeded: Its tenant has too many.
        """
        if not record.tenant:
            return None
        with self._lock:
            page = self._pages.get(record.tenant)
            if page is None:
                page = self._pages[record.tenant] = self._open(record.tenant)
            page.put(self._limit_of(record.tenant))
            slot = page.admit(_owner(record.accelerator_id))
            self._places[record.accelerator_id] = record.tenant
            return RateConfig(page.fd, slot)

    def put(self, tenant: str) -> None:
        """Put in force at once what a tenant's quota says now."""
        with self._lock:
            page = self._pages.get(tenant)
            if page is not None:
                page.put(self._limit_of(tenant))

    def dismiss(self, accelerator_id: str) -> None:
        """Forget an accelerator whose process has ended; an unknown one is fine."""
        with self._lock:
            tenant = self._places.pop(accelerator_id, None)
            if tenant is not None:
                self._pages[tenant].dismiss(_owner(accelerator_id))

    def remove(self, tenant: str) -> None:
        """Forget a tenant whose accelerators have ended."""
        with self._lock:
            page = self._pages.pop(tenant, None)
            if page is not None:
                page.close()

    def close(self) -> None:
        """Let go of the memory, which accelerators that go on keep; twice is fine."""
        with self._lock:
            pages, self._pages, self._places = self._pages, {}, {}
            for page in pages.values():
                page.close()

    def _open(self, tenant: str) -> RatePage:
        mine = [record for record in self._left_over if record.tenant == tenant]
        pids = [record.process.pid for record in mine if record.process is not None]
        found = (RatePage.find(pid, tenant, self._clock) for pid in pids)
        page = next((each for each in found if each is not None), None)
        if page is None:
            return RatePage.create(tenant, self._clock)
        page.keep({_owner(record.accelerator_id) for record in mine})
        return page


def _owner(accelerator_id: str) -> bytes:
    return bytes.fromhex(accelerator_id.removeprefix("eia-"))
