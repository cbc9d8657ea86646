"""Usage as it is asked for: rows of the database put together, for a host and for a pool alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from elastic_inference.host.accounts.model_sums import sum_up_models
from elastic_inference.host.accounts.scope import Scope
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.accounts.sums import By, UsageSum, sum_up
from elastic_inference.host.accounts.usage import UsageRow, summarize
from elastic_inference.host.board import Board
from elastic_inference.host.meter import Readings


class UsageReport:
    """What accelerators cost and did, detached ones included.

    Args:
        now: Seconds since 1970, UTC.
    """

    def __init__(self, store: StateStore, board: Board, meter: Readings, now: Callable[[], float]) -> None:
        self._store = store
        self._board = board
        self._meter = meter
        self._now = now

    def rows(self, since: float, scope: Scope) -> tuple[UsageRow, ...]:
        """Attached time, cost and counters since a moment; `scope`: of what is asked, and what alone is read."""
        since = max(since, scope.since)
        intervals = self._intervals(since, scope)
        ids = {interval["accelerator_id"] for interval in intervals}
        return summarize(intervals, self._store.list_usage(since, ids), since, self._now())

    def sums(self, by: By, since: float, scope: Scope) -> tuple[UsageSum, ...]:
        """Sum up the same by tenant, type, model or day."""
        since = max(since, scope.since)
        intervals = self._intervals(since, scope)
        ids = {interval["accelerator_id"] for interval in intervals}
        hours, now = self._store.list_hours(since, ids), self._now()
        if by is By.MODEL:
            return sum_up_models(intervals, hours, self._store.list_model_hours(since, ids), since, now)
        return sum_up(by, intervals, hours, since, now)

    def _intervals(self, since: float, scope: Scope) -> list[dict[str, Any]]:
        """Read what is attached, and return what was."""
        if scope.is_all:
            self._board.fresh(must_write=True)
        else:
            self._meter.read_all(
                r for r in self._store.list_all() if scope.covers(r.accelerator_id, r.tenant)
            )
        only = None if scope.accelerator_id is None else [scope.accelerator_id]
        return self._store.list_intervals(since, only, scope.tenant)
