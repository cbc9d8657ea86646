"""The catalogue of accelerator types: memory, compute and price of a host's offers. No device is asked here.

A type says its compute either in FP32 TFLOPS or as a share of a device; `share_of` makes both a share.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.doors import check_doors
from elastic_inference.units import format_bytes, parse_bytes, parse_usd

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MEBIBYTE = 1024**2
GIBIBYTE = 1024**3
MIN_TYPE_MEMORY_BYTES = 192 * MEBIBYTE  # measured: 160 MB of data with OpenVINO and a model of one addition
MAX_TYPE_MEMORY_BYTES = 64 * 1024 * GIBIBYTE
MAX_TFLOPS = 1e6
DEVICE_KINDS = ("cpu", "cuda")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class AcceleratorType:
    """One row of the catalogue.

    Attributes:
        name: 1 to 63 of `a-z 0-9 . _ -`, such as `eia1.medium`.
        memory_bytes: What the accelerator may use of the host's memory, the engine's own included.
        fp32_tflops: Compute promised; None where `device_share` says it.
        device_share: Part of a device, above 0 and up to 1; None where `fp32_tflops` says it.
        device_kind: "cpu" or "cuda": the only kind of device that it is for; None: any.
        device_memory_bytes: What it may use of the memory of a device that has its own; None: as much as of the host's.
        cpu_share: Part of the host's cores beside a device that is not the CPU itself; None: as much as of the
            device, and a core at least.
        usd_per_hour: None: no price is known, and usage shows no cost.
        may_burst: Whether it may use compute that neighbours leave idle.
        price_source: Where the price comes from, a few words.
        doors: Protocols that its accelerators open, of those that the host opens; None: all of these.
    """

    name: str
    memory_bytes: int
    fp32_tflops: float | None = None
    device_share: float | None = None
    usd_per_hour: Decimal | None = None
    may_burst: bool = False
    price_source: str = ""
    device_kind: str | None = None
    device_memory_bytes: int | None = None
    cpu_share: float | None = None
    doors: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.doors is not None:
            object.__setattr__(self, "doors", check_doors(self.doors, f"type {self.name!r}: doors"))
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"type name {self.name!r} is not 1 to 63 characters of a-z, 0-9, '.', '_', '-' "
                "that begin with a letter or digit"
            )
        where = f"type {self.name!r}"
        _check_memory(f"{where}: memory", self.memory_bytes)
        if self.device_memory_bytes is not None:
            _check_memory(f"{where}: device_memory", self.device_memory_bytes)
        if self.device_kind not in (None, *DEVICE_KINDS):
            raise InvalidInput(
                f"{where}: device_kind {self.device_kind!r} is not one of {', '.join(DEVICE_KINDS)}"
            )
        if self.cpu_share is not None and not 0 < self.cpu_share <= 1:
            raise InvalidInput(f"{where}: cpu_share {self.cpu_share} is not above 0 and up to 1")
        if self.device_kind != "cuda" and (self.cpu_share, self.device_memory_bytes) != (None, None):
            raise InvalidInput(
                f'{where}: cpu_share and device_memory are of a GPU\'s types; set device_kind = "cuda"'
            )
        if (self.fp32_tflops is None) == (self.device_share is None):
            raise InvalidInput(f"{where}: exactly one of fp32_tflops and device_share must be given")
        if self.fp32_tflops is not None and not 0 < self.fp32_tflops <= MAX_TFLOPS:
            raise InvalidInput(
                f"{where}: fp32_tflops {self.fp32_tflops} is not above 0 and up to {MAX_TFLOPS:g}"
            )
        if self.device_share is not None and not 0 < self.device_share <= 1:
            raise InvalidInput(f"{where}: device_share {self.device_share} is not above 0 and up to 1")

    def share_of(self, device_fp32_tflops: float) -> float:
        """Return the part of a device that this type needs; above 1 where the device is too small.

        Args:
            device_fp32_tflops: The measured FP32 TFLOPS of the whole device, above 0.
        """
        if self.device_share is not None:
            return self.device_share
        assert self.fp32_tflops is not None
        return self.fp32_tflops / device_fp32_tflops if device_fp32_tflops > 0 else math.inf

    def describe_compute(self) -> str:
        """Return the compute as people read it: `1 FP32 TFLOPS` or `25% of a device`."""
        if self.device_share is not None:
            return f"{self.device_share * 100:g}% of a device"
        return f"{self.fp32_tflops:g} FP32 TFLOPS"


def _check_memory(what: str, num_bytes: int) -> None:
    if not MIN_TYPE_MEMORY_BYTES <= num_bytes <= MAX_TYPE_MEMORY_BYTES:
        raise InvalidInput(
            f"{what} {format_bytes(num_bytes)} is not between "
            f"{format_bytes(MIN_TYPE_MEMORY_BYTES)} and {format_bytes(MAX_TYPE_MEMORY_BYTES)}"
        )


def _amazon(name: str, gibibytes: int, tflops: float, usd: str | None) -> AcceleratorType:
    return AcceleratorType(
        name=name,
        memory_bytes=gibibytes * GIBIBYTE,
        fp32_tflops=tflops,
        usd_per_hour=None if usd is None else Decimal(usd),
        price_source="" if usd is None else "Amazon, us-west-2, 2019-06",
    )


AMAZON_TYPES: tuple[AcceleratorType, ...] = (
    _amazon("eia1.medium", 1, 1.0, "0.13"),
    _amazon("eia1.large", 2, 2.0, "0.26"),
    _amazon("eia1.xlarge", 4, 4.0, "0.52"),
    # No source that we could check states the prices of the second generation, so they have none.
    _amazon("eia2.medium", 2, 1.0, None),
    _amazon("eia2.large", 4, 2.0, None),
    _amazon("eia2.xlarge", 8, 4.0, None),
)


def cpu_types(
    memory_bytes: int, num_cores: float = 1.0, core_price: Decimal | None = None
) -> tuple[AcceleratorType, ...]:
    """Return the default types of a CPU device: a quarter, a half and the whole of its cores and memory.

    Args:
        memory_bytes: What the device offers to all accelerators together.
        num_cores: Of the device.
        core_price: USD an hour for one core, of which each type costs its part; None: they have no price.
    """
    cores_price = None if core_price is None else core_price * Decimal(str(num_cores))
    shares = (("cpu.quarter", 0.25), ("cpu.half", 0.5), ("cpu.whole", 1.0))
    return tuple(
        AcceleratorType(
            name=name,
            memory_bytes=_part(memory_bytes, share),
            device_share=share,
            device_kind="cpu",
            usd_per_hour=None if cores_price is None else (cores_price * Decimal(str(share))).normalize() + 0,
            price_source=""
            if core_price is None
            else f"{core_price} USD an hour for each core that it takes",
        )
        for name, share in shares
    )


def gpu_types(device_memory_bytes: int, memory_bytes: int) -> tuple[AcceleratorType, ...]:
    """Return a GPU's default types: a tenth, a quarter, a half and the whole, with as much of the host beside it.

    Args:
        device_memory_bytes: What the device offers to all accelerators together.
        memory_bytes: What the host offers of its own memory.
    """
    shares = (("gpu.tenth", 0.1), ("gpu.quarter", 0.25), ("gpu.half", 0.5), ("gpu.whole", 1.0))
    return tuple(
        AcceleratorType(
            name=name,
            memory_bytes=_part(memory_bytes, share),
            device_share=share,
            device_kind="cuda",
            device_memory_bytes=_part(device_memory_bytes, share),
        )
        for name, share in shares
    )


def _part(num_bytes: int, share: float) -> int:
    return max(MIN_TYPE_MEMORY_BYTES, int(num_bytes * share) // MEBIBYTE * MEBIBYTE)


def catalogue(*groups: Iterable[AcceleratorType]) -> dict[str, AcceleratorType]:
    """One catalogue of all groups by name; a later group's type replaces an earlier one of the same name."""
    return {kind.name: kind for group in groups for kind in group}


def _read_memory(value: Any, info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidInput(f"{info.field_name} must be text like '512MiB' or bytes, not {value!r}")
    try:
        return parse_bytes(value)
    except InvalidInput as error:
        raise InvalidInput(f"{info.field_name}: {error}") from error


def _read_price(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidInput(f"usd_per_hour must be a number or text, not {value!r}")
    # repr of a float is its shortest exact text: 0.13 becomes Decimal("0.13"), not its binary neighbour.
    return parse_usd(value if isinstance(value, str) else repr(value), "usd_per_hour")


class _Fields(BaseModel):
    """The fields of one type as the file has them; their limits are AcceleratorType's."""

    model_config = ConfigDict(extra="forbid", strict=True)

    memory: Annotated[int, BeforeValidator(_read_memory)]
    fp32_tflops: float | None = None
    device_share: float | None = None
    usd_per_hour: Annotated[Decimal | None, BeforeValidator(_read_price)] = None
    may_burst: bool = False
    price_source: str = "types file"
    device_kind: str | None = None
    device_memory: Annotated[int | None, BeforeValidator(_read_memory)] = None
    cpu_share: float | None = None
    doors: list[str] | None = None


def load_types(path: str | Path) -> tuple[AcceleratorType, ...]:
    """Read a user's types from a TOML file: one table a type.

        ["team.small"]
        memory = "512MiB"         # or bytes as an integer
        device_share = 0.1        # or fp32_tflops = 0.5
        usd_per_hour = "0.02"     # text keeps it exact; optional
        may_burst = true          # optional
        device_kind = "cuda"      # optional: "cpu" or "cuda" alone; with it, for a GPU:
        device_memory = "4GiB"    # of the GPU's memory; `memory` is the host's then
        cpu_share = 0.1           # of the host's cores
        doors = ["http", "grpc"]  # optional: protocols, of those that the host opens

    Raises:
        InvalidInput: The file cannot be read, or a field is unknown, missing, of another type or beyond its
            limit; the text names file, type, field, value and limit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"types file {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"types file {path} is not TOML: {error}") from error
    try:
        return tuple(_read_table(name, table) for name, table in _flatten(tables))
    except InvalidInput as error:
        raise InvalidInput(f"types file {path}: {error}") from error


def _flatten(tables: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Name every type, because TOML reads `[team.small]` without quotes as a table in a table."""
    for name, value in tables.items():
        is_nest = isinstance(value, dict) and value and not _Fields.model_fields.keys() & value.keys()
        if is_nest and all(isinstance(inner, dict) for inner in value.values()):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read_table(name: str, table: Any) -> AcceleratorType:
    if not isinstance(table, dict):
        raise InvalidInput(f"type {name!r} must be a table of fields, not {table!r}")
    try:
        given = _Fields.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(_describe(problem) for problem in error.errors())
        raise InvalidInput(f"type {name!r}: {problems}") from error
    same = given.model_dump(exclude={"memory", "device_memory", "doors"})
    doors = None if given.doors is None else tuple(given.doors)
    return AcceleratorType(
        name=name, memory_bytes=given.memory, device_memory_bytes=given.device_memory, doors=doors, **same
    )


def _describe(problem: ErrorDetails) -> str:
    field = problem["loc"][0]
    match problem["type"]:
        case "missing":  # of the one field without a default
            return f'field {field!r} is missing, such as {field} = "512MiB"'
        case "extra_forbidden":
            return f"unknown field {field!r}; known are {sorted(_Fields.model_fields)}"
        case "value_error":  # ours, which says all
            return str(problem["ctx"]["error"])
    return f"{field} {problem['msg'].replace('Input should', 'must')}, not {problem['input']!r}"
