"""Keeps each accelerator of a CPU device to cores, as `limits.cores` plans them; the plan follows what is attached."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from elastic_inference.host.state import StateStore
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
        self._statements: dict[str, str] = {}
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
            statements = {}
            for accelerator_id, cores in plan.items():
                if accelerator_id == started or cores != self._plan.get(accelerator_id):
                    means = self._limits.keep_to_cores(accelerator_id, cores)
                    statements[accelerator_id] = f"{', '.join(map(str, sorted(cores)))} by {means}"
                else:
                    statements[accelerator_id] = self._statements[accelerator_id]
            self._plan, self._statements = plan, statements

    def describe(self, accelerator_id: str) -> str | None:
        """On which cores an accelerator runs and by what means, as text; None where it is kept to none."""
        return self._statements.get(accelerator_id)
