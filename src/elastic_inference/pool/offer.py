"""What a host tells its pool when it joins: its devices, its types, and what it can do; as JSON and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import type_from_json, type_to_json
from elastic_inference.host.devices import Device
from elastic_inference.pool.lifeline import NO_LIFELINE, Lifeline
from elastic_inference.pool.versions import Version


@dataclass(frozen=True)
class HostOffer:
    """What a host has.

    Attributes:
        version: Of the package, and the protocol that it speaks with pools; see `pool.versions`.
        capacity: With nothing held.
        devices: As measured.
        features: Such as `bf16`; see `Request.features`.
        sharing: By what means each device is shared.
        lifeline: By which the pool learns that the host's process has ended.
    """

    version: Version
    capacity: Capacity
    catalogue: Mapping[str, AcceleratorType]
    devices: tuple[Device, ...]
    features: frozenset[str]
    sharing: Mapping[str, str]
    lifeline: Lifeline = NO_LIFELINE

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {
            "version": self.version.version,
            "protocol": self.version.protocol,
            "capacity": [asdict(device) for device in self.capacity.devices],
            "host": None if self.capacity.host is None else asdict(self.capacity.host),
            "types": [type_to_json(kind) for kind in self.catalogue.values()],
            "devices": [asdict(device) for device in self.devices],
            "features": sorted(self.features),
            "sharing": dict(self.sharing),
            "lifeline": asdict(self.lifeline),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HostOffer:
        """Read what `to_json` wrote; raises InvalidInput where it is something else."""
        try:
            host, lifeline = value["host"], value.get("lifeline")  # hosts of before there were any have none
            kinds = [type_from_json(each) for each in value["types"]]
            return cls(
                # Hosts of before the first protocol had a number are in databases.
                version=Version(str(value["version"]), int(value.get("protocol", 1))),
                capacity=Capacity(
                    tuple(DeviceCapacity(**each) for each in value["capacity"]),
                    host=None if host is None else DeviceCapacity(**host),
                ),
                catalogue={kind.name: kind for kind in kinds},
                devices=tuple(Device(**each) for each in value["devices"]),
                features=frozenset(map(str, value["features"])),
                sharing={str(k): str(v) for k, v in value["sharing"].items()},
                lifeline=(Lifeline(int(lifeline["port"]), str(lifeline["key"])) if lifeline else NO_LIFELINE),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                f"what a host offers is not as this version tells it ({error!r}); install the same version everywhere"
            ) from error

    def dump(self) -> str:
        """Write it for the database."""
        return json.dumps(self.to_json())

    @classmethod
    def load(cls, text: str) -> HostOffer:
        """Read what `dump` wrote."""
        return cls.from_json(json.loads(text))
