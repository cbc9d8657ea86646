"""Prices as rows of a table; imported where a command reads prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

from elastic_inference.cli.rendering import Block, Column, Table
from elastic_inference.explorer.prices import OLD_AFTER_DAYS, PriceRow, PriceTable


@dataclass(frozen=True)
class Price:
    """One price in force; None where a figure does not apply or is not known.

    Attributes:
        is_old: Whether it is undated, or older than `OLD_AFTER_DAYS`.
        is_own: Whether it comes from the user's own file.
    """

    vendor: str
    name: str
    kind: str
    vcpu: int | None
    memory_gib: float | None
    accelerator: str
    accelerator_fraction: float | None
    accelerator_memory_mib: float | None
    fp32_tflops: float | None
    usd_per_hour: Decimal
    region: str
    as_of: str
    source: str
    is_old: bool
    is_own: bool

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("VENDOR", lambda p: p.vendor),
        Column("NAME", lambda p: p.name),
        Column("KIND", lambda p: p.kind),
        Column("vCPU", lambda p: p.vcpu, "d"),
        Column("MEMORY GiB", lambda p: p.memory_gib, "g"),
        Column("DEVICE", lambda p: p.device),
        Column("USD/HOUR", lambda p: p.usd_per_hour, "f"),
        Column("REGION", lambda p: p.region),
        Column("AS OF", lambda p: p.as_of + (" old" if p.is_old else "")),
        Column("SOURCE", lambda p: p.source),
    )
    EMPTY: ClassVar[str] = "no prices"

    @classmethod
    def of(cls, row: PriceRow, is_old: bool, is_own: bool) -> Price:
        """Take all that the table knows of a row."""
        return cls(**row.__dict__, is_old=is_old, is_own=is_own)

    @property
    def device(self) -> str | None:
        """What computes, in words."""
        if not self.accelerator:
            return None if self.fp32_tflops is None else f"{self.fp32_tflops:g} TFLOPS fp32"
        share = self.accelerator_fraction
        return self.accelerator if share in (None, 1) else f"{share:g} {self.accelerator}"


@dataclass(frozen=True)
class PriceCheck:
    """That all prices are well formed, and which of them are old."""

    num_prices: int
    old_after_days: int
    old: Sequence[Price]

    def blocks(self) -> Iterable[Block]:
        """Show the count, then the old ones."""
        yield (
            f"{self.num_prices} prices are well formed; {len(self.old)} are undated or older than "
            f"{self.old_after_days} days"
        )
        if self.old:
            yield Table(Price.COLUMNS, self.old)


def price_rows(table: PriceTable, old: Iterable[PriceRow]) -> list[Price]:
    """All prices of a table."""
    old_names = {row.name for row in old}
    return [Price.of(row, row.name in old_names, table.is_own(row.name)) for row in table]


def check_prices(table: PriceTable, old: Iterable[PriceRow]) -> PriceCheck:
    """Return the result of `ei prices check` for a table that could be read."""
    return PriceCheck(
        len(table), OLD_AFTER_DAYS, [Price.of(row, True, table.is_own(row.name)) for row in old]
    )
