"""Keeps each accelerator of a CPU device to cores, as `limits.cores` plans them; the plan follows what is attached."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence

from elastic_inference.errors import LimitError
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.limits.base import Limits
from elastic_inference.limits.cores import CoreRequest, plan_cores

logger = logging.getLogger(__name__)


class CoreKeeper:
    """The plan in force.

    Args:
        num_cores: Cores of the host that serve each device; accelerators of unknown devices are kept to none.
    """

    def __init__(self, store: StateStore, limits: Limits, num_cores: Mapping[str, float]) -> None:
        self._store = store
        self._limits = limits
        self._num_cores = dict(num_cores)
        self._cores = sorted(os.sched_getaffinity(0))
        self._kept: dict[str, tuple[frozenset[int], str]] = {}  # cores and the means that keep it there
        self._lock = threading.Lock()

    def refresh(self, started: str | None = None) -> None:
        """Plan anew and move those whose cores have changed.

        A neighbour that cannot be moved stays where it is, is named in the log, and is tried again the next time.

        Args:
            started: An accelerator whose process is new, and is moved in any case.

        Raises:
            LimitError: The one that was started cannot be moved.
        """
        with self._lock:
            requests = {
                record.accelerator_id: CoreRequest(
                    record.cpu_share * self._num_cores[record.device], record.kind.may_burst
                )
                for record in self._store.list_all()
                if record.device in self._num_cores
            }
            previous = {accelerator_id: cores for accelerator_id, (cores, _) in self._kept.items()}
            plan = plan_cores(requests, self._cores, previous)
            self._kept = {name: kept for name, kept in self._kept.items() if name in plan}
            for accelerator_id, cores in plan.items():
                if accelerator_id == started or cores != previous.get(accelerator_id):
                    self._move(accelerator_id, cores, must=accelerator_id == started)

    def _move(self, accelerator_id: str, cores: frozenset[int], must: bool) -> None:
        try:
            self._kept[accelerator_id] = cores, self._limits.keep_to_cores(accelerator_id, cores)
        except LimitError as error:
            if must:
                raise
            extra = {"accelerator_id": accelerator_id, "why": str(error)}
            logger.error("accelerator is not moved to its cores", extra=extra)

    def describe(self, accelerator_id: str) -> str | None:
        """On which cores an accelerator runs and by what means, as text; None where it is kept to none."""
        kept = self._kept.get(accelerator_id)
        if kept is None:
            return None
        cores, means = kept
        return f"{', '.join(map(str, sorted(cores)))} by {means}"


def cores_to_keep(num_cores: Mapping[str, float], leased: Sequence[str]) -> dict[str, float]:
    """Return the cores by device without a CPU that is shared by lease: whoever has its turn may use all of it."""
    return {
        name: cores for name, cores in num_cores.items() if not (name in leased and name.startswith("cpu:"))
    }
