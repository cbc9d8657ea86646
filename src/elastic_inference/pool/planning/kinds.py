"""Kinds of hosts that a pool could be made of: from a TOML file, or rows of the price table."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.prices import PriceRow, PriceTable
from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import (
    AMAZON_TYPES,
    AcceleratorType,
    catalogue,
    cpu_types,
    gpu_types,
    load_types,
)
from elastic_inference.host.devices import Device
from elastic_inference.host.settings import offered_cores, offered_memory_bytes
from elastic_inference.pool.model import HostView
from elastic_inference.pool.simulation.profile import Profile, read_profile
from elastic_inference.units import parse_bytes, parse_usd

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_GIB = 1024**3
_MIB = 1024**2
_MAX_HOSTS = 100_000


@dataclass(frozen=True)
class HostKind:
    """A host that could be had any number of times.

    Attributes:
        capacity: Empty; what the host offers to accelerators, as `ei host` computes it.
        usd_per_hour: None: no price is known.
        max_hosts: How many there are at most.
        profile: Measured on such a host; None: the plan's.
    """

    name: str
    capacity: Capacity
    catalogue: Mapping[str, AcceleratorType]
    features: frozenset[str] = frozenset()
    usd_per_hour: Decimal | None = None
    max_hosts: int = _MAX_HOSTS
    profile: Profile | None = None

    def host(self, number: int) -> HostView:
        """Return one of them; numbers count from 0."""
        return HostView(f"{self.name}-{number:05}", self.capacity, self.catalogue, features=self.features)

    def share_of_host(self, type_name: str) -> float | None:
        """Return which part of such a host an accelerator takes, of whatever is scarcest; None where it fits none."""
        kind = self.catalogue.get(type_name)
        if kind is None:
            return None
        num = self.capacity.num_available(kind)
        return 1 / num if num else None


class _Fields(BaseModel):
    """The fields of one kind as the file has them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    price: str | None = None
    cores: float | None = None
    memory: str | None = None
    fp32_tflops: float | None = None
    gpus: int | None = None
    gpu_model: str | None = None
    gpu_memory: str | None = None
    gpu_fp32_tflops: float | None = None
    usd_per_hour: str | float | int | None = None
    features: list[str] = []
    max_hosts: int | None = None
    types: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class _Machine:
    cores: float
    memory_bytes: int
    fp32_tflops: float
    num_gpus: int = 0
    gpu_model: str = ""
    gpu_bytes: int = 0
    gpu_fp32_tflops: float = 0.0


def kinds_of(text: str, prices: PriceTable, own_types: Sequence[AcceleratorType] = ()) -> list[HostKind]:
    """Read kinds of hosts from a TOML file, or from names of price rows separated by commas.

    Args:
        text: A path that ends in `.toml`, or names such as `m5.4xlarge,g6.xlarge`.
        own_types: Beside the shipped ones, on every kind.

    Raises:
        InvalidInput: The file or a field is wrong; the text names file, kind, field and value.
        PriceMissing: No row of that name.
    """
    if text.endswith(".toml"):
        return _read_file(Path(text), prices, own_types)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise InvalidInput(
            "--hosts names no kind of host; give names of prices, or a file such as kinds.toml"
        )
    if len(set(names)) < len(names):
        raise InvalidInput(f"--hosts {text!r:.200} names a kind twice")
    return [_kind(name, {"price": name}, prices, own_types, Path()) for name in names]


def _read_file(path: Path, prices: PriceTable, own_types: Sequence[AcceleratorType]) -> list[HostKind]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"hosts file {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"hosts file {path} is not TOML: {error}") from error
    if not tables:
        raise InvalidInput(f"hosts file {path} has no table, so it names no kind of host")
    try:
        return [_kind(name, table, prices, own_types, path.parent) for name, table in tables.items()]
    except InvalidInput as error:
        raise type(error)(f"hosts file {path}: {error}") from error


def _kind(
    name: str, table: Any, prices: PriceTable, own_types: Sequence[AcceleratorType], folder: Path
) -> HostKind:
    where = f"kind {name!r}"
    if not isinstance(table, dict):
        raise InvalidInput(f"{where} must be a table of fields, not {table!r}")
    for inner, value in table.items():
        if isinstance(value, dict):
            raise InvalidInput(
                f'{where}: {inner!r} is a table; a name with a dot stands in quotes, as in ["{name}.{inner}"]'
            )
    try:
        given = _Fields.model_validate(table)
    except ValidationError as error:
        raise InvalidInput(f"{where}: " + "; ".join(_problem(each) for each in error.errors())) from error
    row = None if given.price is None else prices.get(given.price)
    machine = _machine(given, row, where)
    types = (*own_types, *(() if given.types is None else load_types(folder / given.types)))
    if given.max_hosts is not None and not 0 <= given.max_hosts <= _MAX_HOSTS:
        raise InvalidInput(f"{where}: max_hosts {given.max_hosts} is not between 0 and {_MAX_HOSTS}")
    usd = None if row is None else row.usd_per_hour
    if given.usd_per_hour is not None:
        # A float's repr is its shortest exact text.
        usd = parse_usd(str(given.usd_per_hour), f"{where}: usd_per_hour")
    features = {*given.features, *({f"cuda:{machine.gpu_model}"} if machine.gpu_model else ())}
    return HostKind(
        name,
        _capacity(machine),
        _catalogue(machine, types),
        frozenset(features),
        usd,
        _MAX_HOSTS if given.max_hosts is None else given.max_hosts,
        None if given.profile is None else read_profile(folder / given.profile),
    )


def _problem(problem: Mapping[str, Any]) -> str:
    field = problem["loc"][0]
    if problem["type"] == "extra_forbidden":
        return f"unknown field {field!r}; known are {', '.join(_Fields.model_fields)}"
    return f"{field} {problem['msg'].replace('Input should', 'must')}, not {problem['input']!r}"


def _machine(given: _Fields, row: PriceRow | None, where: str) -> _Machine:
    """Take each figure from the file, else from the price row."""
    cores = given.cores
    if cores is None and row is not None:
        cores = row.vcpu
    memory = None if given.memory is None else parse_bytes(given.memory)
    if memory is None and row is not None and row.memory_gib is not None:
        memory = int(row.memory_gib * _GIB)
    for field, value in (("cores", cores), ("memory", memory)):
        if not value or not 0 < value < math.inf:
            raise InvalidInput(
                f"{where}: {field} {value!r} must be above 0"
                if value is not None
                else f"{where}: {field} is missing, and no price row says it"
            )
    assert cores is not None
    assert memory is not None
    is_bundle = row is not None and row.kind == "bundle"
    if row is not None and row.kind == "accelerator":
        raise InvalidInput(f"{where}: {row.name!r} is an accelerator in the prices, it cannot be a host")
    tflops = given.fp32_tflops
    if tflops is None:
        tflops = row.fp32_tflops if row is not None and not is_bundle else None
    num_gpus = given.gpus if given.gpus is not None else int(is_bundle)
    gpu_bytes = None if given.gpu_memory is None else parse_bytes(given.gpu_memory)
    if gpu_bytes is None and row is not None and row.accelerator_memory_mib is not None:
        gpu_bytes = int(row.accelerator_memory_mib * _MIB)
    gpu_tflops = given.gpu_fp32_tflops
    if gpu_tflops is None and is_bundle and row is not None:
        gpu_tflops = row.fp32_tflops
    if not 0 <= num_gpus <= 64:
        raise InvalidInput(f"{where}: gpus {num_gpus} is not between 0 and 64")
    if num_gpus and not gpu_bytes:
        raise InvalidInput(f"{where}: gpu_memory is missing, and no price row says it")
    model = given.gpu_model or (row.accelerator if is_bundle and row is not None else "")
    for field, figure in (("fp32_tflops", tflops), ("gpu_fp32_tflops", gpu_tflops)):
        if figure is not None and not 0 <= figure < float("inf"):
            raise InvalidInput(f"{where}: {field} {figure} must be finite and 0 or more")
    return _Machine(
        float(cores),
        memory,
        tflops or 0.0,
        num_gpus,
        model if num_gpus else "",
        gpu_bytes or 0,
        gpu_tflops or 0.0,
    )


def _capacity(machine: _Machine) -> Capacity:
    cpu = _offer(Device("cpu:0", "cpu", "", machine.cores, machine.memory_bytes), machine.fp32_tflops)
    if not machine.num_gpus:
        return Capacity((cpu,))
    gpus = (
        Device(f"cuda:{number}", "cuda", machine.gpu_model, machine.cores, machine.gpu_bytes)
        for number in range(machine.num_gpus)
    )
    return Capacity(tuple(_offer(gpu, machine.gpu_fp32_tflops) for gpu in gpus), host=cpu)


def _offer(device: Device, fp32_tflops: float) -> DeviceCapacity:
    """Give what a host would offer of a device, as it keeps a part for itself."""
    return DeviceCapacity(
        device.name, fp32_tflops, offered_memory_bytes(device), device.kind, offered_cores(device)
    )


def _catalogue(machine: _Machine, own: Sequence[AcceleratorType]) -> dict[str, AcceleratorType]:
    """Give the types that such a host has by default, and the user's own."""
    capacity = _capacity(machine)
    host = capacity.host_budget
    host_bytes = 0 if host is None else host.memory_bytes
    if machine.num_gpus:
        shipped = gpu_types(capacity.devices[0].memory_bytes, host_bytes)
    else:
        shipped = cpu_types(host_bytes, capacity.devices[0].num_cores)
    return catalogue(AMAZON_TYPES, shipped, own)
