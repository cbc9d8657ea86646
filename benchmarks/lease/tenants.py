"""The accelerators of one shared device and their clients, as a host would have them."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.isolation.load import LoadProcess, LoadSpec
from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.testing import start_accelerator
from elastic_inference.testing.accelerator import RunningAccelerator
from elastic_inference.testing.device import used_seconds
from elastic_inference.testing.engine import write_model

DEVICE = "cuda:0"  # by name: the keeper gives it the turns of a GPU
SWITCH_SECONDS = 0.00014  # what an H200 takes between two processes
SATURATING_THREADS = 3


@dataclass(frozen=True)
class Tenant:
    """What one accelerator is asked to be.

    Attributes:
        share: Of the device.
        request_seconds: Device seconds of each request.
        piece_seconds: Between two points at which one can be cut; None: it cannot.
    """

    share: float
    request_seconds: float
    piece_seconds: float | None = None
    may_burst: bool = False


@dataclass(frozen=True)
class RunningTenant:
    """Its accelerator, and the model that its clients call."""

    tenant: Tenant
    accelerator: RunningAccelerator
    model: Path
    device: Path

    def used(self) -> tuple[float, float]:
        """Device seconds so far, and how many of them went into switching."""
        return used_seconds(self.device, self.accelerator.pid)

    def load(self, **changes: Any) -> LoadProcess:
        """A client process."""
        spec = LoadSpec(
            address=self.accelerator.address,
            token=self.accelerator.token,
            model=str(self.model),
            inputs={},
            outputs={},
            dtype="uint8",
            shape=(1, 8, 8, 3),
            **{"threads": SATURATING_THREADS, **changes},
        )
        return LoadProcess(spec)


@contextlib.contextmanager
def sharing(
    tenants: Sequence[Tenant], is_exclusive: bool = True, by_lease: bool = True
) -> Iterator[list[RunningTenant]]:
    """Accelerators that share one device for the block; without a lease, there must be only one."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lease-", dir="/dev/shm")))
        keeper = LeaseKeeper((DEVICE,))
        keeper.open()
        stack.callback(keeper.close)
        running = []
        for number, tenant in enumerate(tenants):
            name = f"eia-{secrets.token_hex(16)}"
            lease = keeper.admit(name, DEVICE, tenant.share, tenant.may_burst) if by_lease else None
            device = {
                "path": str(folder / "device"),
                "seconds": tenant.request_seconds,
                "piece_seconds": tenant.piece_seconds,
                "switch_seconds": SWITCH_SECONDS,
                "is_exclusive": is_exclusive,
            }
            model = write_model(folder / f"{number}.testing", device=device)
            accelerator = stack.enter_context(
                start_accelerator(("unix:{folder}/a.sock",), accelerator_id=name, lease=lease)
            )
            running.append(RunningTenant(tenant, accelerator, model, folder / "device"))
        yield running


@contextlib.contextmanager
def saturating(*tenants: RunningTenant) -> Iterator[list[LoadProcess]]:
    """Clients that always have a request waiting, for the block."""
    loads = [tenant.load() for tenant in tenants]
    try:
        for one in loads:
            one.begin(3600)
        time.sleep(1)
        yield loads
    finally:
        for one in loads:
            one.kill()
