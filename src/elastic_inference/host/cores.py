"""Keeps each accelerator of a CPU device to cores, as `limits.cores` plans them; the plan follows what is attached."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from elastic_inference.host.state import StateStore
from elastic_inference.limits.affinity import keep_to_cores
from elastic_inference.limits.base import Limits
from elastic_inference.limits.cores import CoreRequest, plan_cores


class CoreKeeper:
    """The plan in force.

    Args:
        num_cores: Cores of each CPU device; accelerators of other devices are not kept to any.
    """

    def __init__(self, store: StateStore, limits: Limits, num_cores: Mapping[str, float]) -> None:
        self._store = store
        self._limits = limits
        self._num_cores = dict(num_cores)
        self._cores = sorted(os.sched_getaffinity(0))
        self._plan: dict[str, frozenset[int]] = {}
        self._lock = threading.Lock()

    def refresh(self, started: str | None = None) -> None:
        """Plan anew and move those whose cores have changed.

        Args:
            started: An accelerator whose process is new, and is moved in any case.
        """
        with self._lock:
            requests = {
                record.accelerator_id: CoreRequest(
                    record.share * self._num_cores[record.device], record.kind.may_burst
                )
                for record in self._store.list_all()
                if record.device in self._num_cores
            }
            plan = plan_cores(requests, self._cores, self._plan)
            for accelerator_id, cores in plan.items():
                if accelerator_id == started or cores != self._plan.get(accelerator_id):
                    keep_to_cores(self._limits.processes(accelerator_id), cores)
            self._plan = plan

    def describe(self, accelerator_id: str) -> str | None:
        """On which cores an accelerator runs, as text; None where it is kept to none."""
        cores = self._plan.get(accelerator_id)
        return None if cores is None else ", ".join(map(str, sorted(cores)))
