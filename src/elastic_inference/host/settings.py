"""How a host is to run, and what of its machine it offers to accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.devices import Device
from elastic_inference.host.processes.folders import TlsFiles
from elastic_inference.limits.gpu import GPU_SHARING, is_instance
from elastic_inference.protocol.doors import DOORS, check_doors

# systemd gives no user a number from 60578 to 61183, and user namespaces of containers often end at 65535.
DEFAULT_UIDS = range(60600, 61100)
DEFAULT_PORTS = range(8600, 9600)
RESERVE_SHARE = 0.1
RESERVE_BYTES = 1 << 30
RESERVE_CORES_SHARE = 0.05
RESERVE_CORES = 0.5
CPU_SHARING = ("limits", "lease")


@dataclass(frozen=True)
class HostSettings:
    """How a host is to run.

    Attributes:
        state_dir: All that it keeps; None of it is needed by clients.
        devices: What it offers.
        cpu: The machine's CPU, whose cores and memory accelerators on other devices need too; None: the one of
            `devices`.
        user_types: Types beside (or, of the same name, instead of) Amazon's and the device's defaults.
        database_url: SQLAlchemy URL; None: SQLite in `state_dir`.
        data_host: Address of the accelerators' TCP endpoints; None: Unix sockets alone.
        ports: Their ports; outside the range of outgoing connections, so that a restarted accelerator gets its
            port back.
        limits_mode: See limits.detect; None: the best that works.
        uids: Users for accelerators where the host is root.
        num_spares: Processes started in advance.
        pass_on: Variables of the host's environment that accelerators get too; see Launcher.
        doors: Protocols that accelerators open, "http" and others of DOORS; a type or an attach may open fewer.
        published: A store of models that all accelerators read and none writes; None: there is none.
        hang_seconds, turn_limit_seconds: See ProcessSettings.
        gpu_sharing: How accelerators share a GPU, one of `GPU_SHARING`.
        cpu_sharing: How they share the CPU device, one of `CPU_SHARING`.
        fence: Whether accelerators answer only as long as the host's lease of its pool lasts; see `limits.fence`.
        record_requests: See AcceleratorConfig; of accelerators on a CPU.
        core_price: USD an hour for one core, by which the CPU's own types are priced; None: they have no price.
    """

    state_dir: Path
    devices: Sequence[Device]
    cpu: Device | None = None
    user_types: tuple[AcceleratorType, ...] = ()
    database_url: str | None = field(default=None, repr=False)  # it may hold a password
    data_host: str | None = "127.0.0.1"
    ports: range = DEFAULT_PORTS
    tls: TlsFiles | None = None
    limits_mode: str | None = None
    uids: range = field(default=DEFAULT_UIDS)
    num_spares: int = 1
    pass_on: tuple[str, ...] = ()
    drain_seconds: float = 10.0
    start_timeout_seconds: float = 60.0
    hang_seconds: float = 60.0
    turn_limit_seconds: float = 600.0
    allow_unsafe_operations: bool = False
    published: Path | None = None
    gpu_sharing: str = "lease"
    cpu_sharing: str = "limits"
    doors: tuple[str, ...] = DOORS
    core_price: Decimal | None = None
    fence: bool = False
    record_requests: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "doors", check_doors(self.doors, "doors"))
        for name, value, known in (
            ("GPU sharing", self.gpu_sharing, GPU_SHARING),
            ("CPU sharing", self.cpu_sharing, CPU_SHARING),
        ):
            if value not in known:
                raise InvalidInput(f"{name} {value!r} is not one of {', '.join(known)}")
        whole = [d.name for d in self.devices if d.kind == "cuda" and not is_instance(d.name)]
        if self.gpu_sharing == "mig" and whole:
            raise InvalidInput(
                f"GPU sharing 'mig' gives MIG instances alone, and {', '.join(whole)} is not divided; divide it with "
                "`nvidia-smi -mig 1` and `nvidia-smi mig -cgi`, do without it by --device, or share by 'lease'"
            )
        divided = [d.name for d in self.devices if is_instance(d.name)]
        if self.gpu_sharing == "mps" and divided:
            raise InvalidInput(
                f"GPU sharing 'mps' is for whole GPUs, and {', '.join(divided)} is a MIG instance; share by 'mig' or "
                "'lease'"
            )
        if not self.turn_limit_seconds > 0:
            raise InvalidInput(f"turn limit {self.turn_limit_seconds} s is not above 0")

    def sharing(self, device: Device) -> str:
        """How a device is shared: one of `CPU_SHARING` or `GPU_SHARING`."""
        return self.cpu_sharing if device.kind == "cpu" else self.gpu_sharing


def offered_cores(device: Device) -> float:
    """Cores that accelerators of a device may use; the rest is for the host, the network and what else runs there.

    With all cores given away, that rest came out of the accelerators unevenly: of 25:75 the smaller one got 22.8.
    """
    return device.num_cores - min(RESERVE_CORES, device.num_cores * RESERVE_CORES_SHARE)


def offered_memory_bytes(device: Device) -> int:
    """Return what a device offers to accelerators; a CPU's memory is also the host's own and the system's."""
    if device.kind != "cpu":
        return device.memory_bytes
    return device.memory_bytes - min(RESERVE_BYTES, int(device.memory_bytes * RESERVE_SHARE))
