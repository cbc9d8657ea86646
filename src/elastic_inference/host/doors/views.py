"""What each caller may see of a snapshot: the operator all, a tenant its own without the folders of the host."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from elastic_inference.host.board import Snapshot, num_by_state
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.callers import Caller
from elastic_inference.host.doors.privacy import HostPaths
from elastic_inference.host.events import Event

MAX_EVENTS_SHOWN = 200


class BoardViews:
    """Makes JSON of snapshots."""

    def __init__(self, host: ControlApi) -> None:
        self._host = host
        self._paths = HostPaths(host)

    def whole(self, caller: Caller, snapshot: Snapshot) -> dict[str, Any]:
        """Return all that a caller may see."""
        return {
            "at": snapshot.at,
            "host": self.host(caller, snapshot),
            "devices": self.devices(caller, snapshot),
            "accelerators": [
                self.row(caller, row)
                for row in snapshot.rows
                if caller.may_see(row["accelerator_id"], row["tenant"])
            ],
            "tenants": self.tenants(caller, snapshot),
            "waiting": self.waiting(caller, snapshot),
            "events": self.events(caller, 0),
        }

    def host(self, caller: Caller, snapshot: Snapshot) -> dict[str, Any]:
        """Return what is said of the host as a whole."""
        service = self._host.service
        told: dict[str, Any] = {
            "version": self._host.version,
            "is_operator": caller.is_operator,
            "tenant": caller.tenant,
            "is_draining": service.is_draining,
            "warnings": self._host.warnings(),
        }
        if caller.is_operator:
            told |= {
                "host_id": self._host.host_id,
                "limits": self._host.limits_name,
                "num_by_state": num_by_state(snapshot.records),
                "num_unhealthy": snapshot.num_unhealthy,
                "cost_usd": f"{snapshot.cost_usd:.4f}",
                "num_unpriced": snapshot.num_unpriced,
            }
        return told

    def devices(self, caller: Caller, snapshot: Snapshot) -> list[Mapping[str, Any]]:
        """Return what is granted and used of the devices, which says how much others have: the operator's alone."""
        return list(snapshot.devices) if caller.is_operator else []

    def tenants(self, caller: Caller, snapshot: Snapshot) -> list[Mapping[str, Any]]:
        """Return what tenants have and have spent; a tenant's own to a tenant, nothing to an accelerator's token."""
        if caller.is_operator:
            return list(snapshot.tenants)
        return [row for row in snapshot.tenants if row["name"] == caller.tenant]

    def waiting(self, caller: Caller, snapshot: Snapshot) -> list[Mapping[str, Any]]:
        """Return who waits for capacity, as far as the caller may see it."""
        return [row for row in snapshot.waiting if caller.may_see(None, row["tenant"])]

    def row(self, caller: Caller, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row as the caller may see it."""
        if caller.is_operator:
            return dict(row)
        models = [{**model, "reason": self._paths.hide(model["reason"])} for model in row["models"]]
        return {**row, "last_exit": self._paths.hide(row["last_exit"]), "models": models}

    def events(self, caller: Caller, after: int, until: float = math.inf) -> list[dict[str, Any]]:
        """Return the events after a number and up to another, the last `MAX_EVENTS_SHOWN` at most, oldest first."""
        found = self._host.service.board.events.after(after)
        mine = [
            event
            for event in found
            if event.number <= until
            and event.at >= caller.scope.since
            and caller.may_see(event.accelerator_id, event.tenant)
        ]
        return [self._event(caller, event) for event in mine[-MAX_EVENTS_SHOWN:]]

    def _event(self, caller: Caller, event: Event) -> dict[str, Any]:
        told = event.to_json()
        return told if caller.is_operator else {**told, "text": self._paths.hide(event.text)}
