"""Prices and sizes of machines: a dated table shipped as CSV, with the user's own rows on top.

Money is exact: a price is read as Decimal and never rounded. What an inference costs is in `cost`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

from elastic_inference.errors import InvalidInput, PriceMissing
from elastic_inference.units import parse_usd

KINDS = ("client", "accelerator", "bundle")
COLUMNS = (
    "vendor", "name", "kind", "vcpu", "memory_gib", "accelerator", "accelerator_fraction",
    "accelerator_memory_mib", "fp32_tflops", "usd_per_hour", "region", "as_of", "source",
)  # fmt: skip
REQUIRED_COLUMNS = ("vendor", "name", "kind", "usd_per_hour", "region", "as_of", "source")
# Vendors change on-demand prices about once a year; half of that is when a look is due.
OLD_AFTER_DAYS = 180
UNKNOWN_DATE = "unknown"


@dataclass(frozen=True)
class PriceRow:
    """What one machine or accelerator is and what it costs.

    Attributes:
        vendor: Who rents it out, such as `aws`; your own for machines that you own.
        name: As the vendor calls it.
        kind: `client`: a machine without accelerator; `accelerator`: attached to a client over the network;
            `bundle`: a machine with an accelerator inside, which stands alone.
        vcpu: Hardware threads; None for an accelerator.
        memory_gib: Main memory; None where it is not known.
        accelerator: Model of the device inside a bundle or behind an accelerator (`L4`), "" for none.
        accelerator_fraction: Share of that device, above 0 and up to 1, or a count of whole devices.
        accelerator_memory_mib: Memory on the accelerator.
        fp32_tflops: Nominal float32 speed; comparable between models of machines.
        usd_per_hour: On-demand price, exact.
        region: Where that price holds.
        as_of: `2019-06` or `2019-06-30`, or `unknown`.
        source: Where the price was read.
    """

    vendor: str
    name: str
    kind: str
    usd_per_hour: Decimal
    region: str
    as_of: str
    source: str
    vcpu: int | None = None
    memory_gib: float | None = None
    accelerator: str = ""
    accelerator_fraction: float | None = None
    accelerator_memory_mib: float | None = None
    fp32_tflops: float | None = None

    def age_days(self, today: date) -> int | None:
        """Days from the last day that `as_of` may mean to `today`; None where the date is unknown."""
        day = _last_day(self.as_of)
        return None if day is None else (today - day).days

    def is_old(self, today: date, old_after_days: int = OLD_AFTER_DAYS) -> bool:
        """Whether the price should be looked up again; so does one of unknown date."""
        age = self.age_days(today)
        return age is None or age > old_after_days


class PriceTable:
    """Price rows by name; later rows replace earlier ones of the same name.

    Args:
        own: Names of the rows that come from the user's own file, which go before anybody else's.
    """

    def __init__(self, rows: Iterable[PriceRow], own: Iterable[str] = ()) -> None:
        self._rows = {row.name: row for row in rows}
        self._own = frozenset(own)

    def __iter__(self) -> Iterator[PriceRow]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def get(self, name: str) -> PriceRow:
        """Return the row of this name; raises PriceMissing that names near ones."""
        if name in self._rows:
            return self._rows[name]
        near = [known for known in self._rows if known.split(".")[0] == name.split(".")[0]]
        hint = f"; known of that family: {', '.join(near)}" if near else ""
        raise PriceMissing(f"no price for {name!r}{hint}; add a row to your own prices file")

    def with_rows(self, rows: Iterable[PriceRow]) -> PriceTable:
        """Return this table with `rows` on top."""
        return PriceTable([*self._rows.values(), *rows], self._own)

    def with_own_rows(self, rows: Iterable[PriceRow]) -> PriceTable:
        """Return this table with the rows of the user's own file on top."""
        own = list(rows)
        return PriceTable([*self._rows.values(), *own], self._own | {row.name for row in own})

    def is_own(self, name: str) -> bool:
        """Whether the price of this name comes from the user's own file."""
        return name in self._own

    def usd_per_hour(self, client: str, accelerator: str | None) -> Decimal:
        """Return what client and accelerator cost together.

        Raises:
            PriceMissing: One of the two has no row.
            InvalidInput: A row is of the wrong kind: an accelerator cannot be a client, nor a client one.
        """
        row = self.get(client)
        if row.kind == "accelerator":
            raise InvalidInput(f"{client!r} is an accelerator in the prices, it cannot be the client")
        if accelerator is None:
            return row.usd_per_hour
        attached = self.get(accelerator)
        if attached.kind != "accelerator":
            raise InvalidInput(
                f"{accelerator!r} is a {attached.kind} in the prices, it cannot be the accelerator"
            )
        return row.usd_per_hour + attached.usd_per_hour

    def of_vendor(self, vendor: str | None) -> PriceTable:
        """Only the rows of one vendor; all for None. Raises InvalidInput that names the vendors known."""
        if vendor is None:
            return self
        rows = [row for row in self if row.vendor == vendor]
        if not rows:
            known = sorted({row.vendor for row in self})
            raise InvalidInput(f"no prices of vendor {vendor!r}; known vendors are {', '.join(known)}")
        return PriceTable(rows, self._own)

    def old_rows(self, today: date, old_after_days: int = OLD_AFTER_DAYS) -> list[PriceRow]:
        """Rows whose price should be looked up again."""
        return [row for row in self if row.is_old(today, old_after_days)]


def shipped_prices() -> PriceTable:
    """Return the table that comes with this package."""
    path = files("elastic_inference.explorer") / "data" / "prices.csv"
    return PriceTable(parse_prices(path.read_text("utf-8").splitlines(), "the shipped prices"))


def load_prices(path: str | Path | None = None) -> PriceTable:
    """Return the shipped table with the rows of the user's file on top, where there is one.

    Raises:
        InvalidInput: The file cannot be read, or a row is wrong; the text names row, field and value.
    """
    table = shipped_prices()
    return table if path is None else table.with_own_rows(read_prices(path))


def read_prices(path: str | Path) -> list[PriceRow]:
    """Read the rows of one CSV file with the columns of `COLUMNS`; see `load_prices` for errors."""
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"prices file {str(path)!r} cannot be read: {error}") from error
    return parse_prices(lines, str(path))


def parse_prices(lines: Iterable[str], name: str) -> list[PriceRow]:
    """Read CSV lines, the first of which names the columns; `name` is what errors call the file."""
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or []
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    unknown = [column for column in columns if column not in COLUMNS]
    if missing or unknown:
        raise InvalidInput(
            f"{name}: columns missing: {', '.join(missing) or 'none'}; "
            f"columns unknown: {', '.join(unknown) or 'none'}; known are {', '.join(COLUMNS)}"
        )
    rows: list[PriceRow] = []
    for record in reader:
        where = f"{name}, line {reader.line_num}"
        if None in record or None in record.values():
            raise InvalidInput(f"{where}: does not have {len(columns)} fields, as the first line does")
        row = _parse_row({key: value.strip() for key, value in record.items()}, where)
        if any(row.name == other.name for other in rows):
            raise InvalidInput(f"{where}, name {row.name!r}: appears twice in the same file")
        rows.append(row)
    return rows


def _parse_row(record: dict[str, str], where: str) -> PriceRow:
    for column in REQUIRED_COLUMNS:
        if not record[column]:
            raise InvalidInput(f"{where}, field {column}: is empty")
    if record["kind"] not in KINDS:
        raise InvalidInput(f"{where}, field kind: {record['kind']!r} is not one of {', '.join(KINDS)}")
    try:
        usd_per_hour = parse_usd(record["usd_per_hour"], "usd_per_hour")
    except InvalidInput as error:
        raise InvalidInput(f"{where}, field {error}") from error
    _check_date(record["as_of"], where)
    vcpu = _parse_number(record, "vcpu", where)
    if vcpu is not None and vcpu != int(vcpu):
        raise InvalidInput(f"{where}, field vcpu: {record['vcpu']!r} is not a whole number")
    return PriceRow(
        vendor=record["vendor"],
        name=record["name"],
        kind=record["kind"],
        usd_per_hour=usd_per_hour,
        region=record["region"],
        as_of=record["as_of"],
        source=record["source"],
        vcpu=None if vcpu is None else int(vcpu),
        memory_gib=_parse_number(record, "memory_gib", where),
        accelerator=record.get("accelerator", ""),
        accelerator_fraction=_parse_number(record, "accelerator_fraction", where),
        accelerator_memory_mib=_parse_number(record, "accelerator_memory_mib", where),
        fp32_tflops=_parse_number(record, "fp32_tflops", where),
    )


def _parse_number(record: dict[str, str], field: str, where: str) -> float | None:
    text = record.get(field, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise InvalidInput(f"{where}, field {field}: {text!r} is not a number") from error
    if not 0 < value < float("inf"):
        raise InvalidInput(f"{where}, field {field}: {text!r} must be finite and above 0")
    return value


def _check_date(text: str, where: str) -> None:
    if text != UNKNOWN_DATE and _last_day(text) is None:
        raise InvalidInput(f"{where}, field as_of: {text!r} is not a date such as 2026-09 or 2026-09-30")


def _last_day(text: str) -> date | None:
    match = re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", text)
    if match is None:
        return None
    year, month = int(match[1]), int(match[2])
    try:
        if match[3] is not None:
            return date(year, month, int(match[3]))
        after = date(year + month // 12, month % 12 + 1, 1)
        return date.fromordinal(after.toordinal() - 1) if 1 <= month <= 12 else None
    except ValueError:
        return None
