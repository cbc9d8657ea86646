"""Demand as a CSV file: a line for each time in which an accelerator is attached and called at one rate."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.model import Request
from elastic_inference.pool.simulation.attachment import Attachment, Piece
from elastic_inference.units import parse_seconds

REQUIRED_COLUMNS = ("tenant", "type", "start", "end", "calls_per_second")
COLUMNS = (
    "tenant",
    "accelerator",
    "type",
    "start",
    "end",
    "calls_per_second",
    "priority",
    "apart",
    "features",
)
MAX_CALLS_PER_SECOND = 1e6
_DAYS = 366 * 86400.0


@dataclass(frozen=True)
class _Line:
    number: int
    tenant: str
    accelerator: str
    request: Request
    piece: Piece


def read_trace(path: str | Path) -> list[Attachment]:
    """Read a trace.

    Raises:
        InvalidInput: The file cannot be read, or a line is wrong; the text names line, field and value.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"trace {str(path)!r} cannot be read: {error}") from error
    return parse_trace(text.splitlines(), str(path))


def parse_trace(lines: Iterable[str], name: str) -> list[Attachment]:
    """Read CSV lines, the first of which names the columns; `name` is what errors call the file.

    Lines of one tenant and accelerator whose times follow each other without a gap are one attachment; a gap is a
    detach and a new attach. Without an accelerator each line is an attachment of its own.
    """
    reader = csv.DictReader(lines)
    try:
        return _parse_records(reader, name)
    except csv.Error as error:
        raise InvalidInput(f"{name}, line {reader.line_num}: {error}") from error


def _parse_records(reader: csv.DictReader[str], name: str) -> list[Attachment]:
    columns = reader.fieldnames or []
    if len(set(columns)) < len(columns):
        raise InvalidInput(f"{name}: a column is named twice in {', '.join(columns)}")
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    unknown = [column for column in columns if column not in COLUMNS]
    if missing or unknown:
        raise InvalidInput(
            f"{name}: columns missing: {', '.join(missing) or 'none'}; "
            f"columns unknown: {', '.join(unknown) or 'none'}; known are {', '.join(COLUMNS)}"
        )
    read = []
    for record in reader:
        where = f"{name}, line {reader.line_num}"
        if None in record or None in record.values():
            raise InvalidInput(f"{where}: does not have {len(columns)} fields, as the first line does")
        read.append(
            _parse_line({key: value.strip() for key, value in record.items()}, reader.line_num, where)
        )
    if not read:
        raise InvalidInput(f"{name}: has no line below the columns, so there is no demand")
    return _join(read, name)


def _parse_line(record: dict[str, str], number: int, where: str) -> _Line:
    for column in REQUIRED_COLUMNS:
        if column != "tenant" and not record[column]:
            raise InvalidInput(f"{where}, field {column}: is empty")
    start, end = _seconds(record, "start", where), _seconds(record, "end", where)
    if end <= start:
        raise InvalidInput(f"{where}, field end: {record['end']!r} must be after start {record['start']!r}")
    rate = _number(record, "calls_per_second", where)
    if not 0 <= rate <= MAX_CALLS_PER_SECOND:
        raise InvalidInput(
            f"{where}, field calls_per_second: {record['calls_per_second']!r} must be 0 to "
            f"{MAX_CALLS_PER_SECOND:g}"
        )
    priority = _number(record, "priority", where) if record.get("priority") else 0.0
    if priority != int(priority):
        raise InvalidInput(f"{where}, field priority: {record['priority']!r} is not a whole number")
    request = Request(
        record["type"],
        tenant=record["tenant"],
        priority=int(priority),
        anti_affinity=record.get("apart") or None,
        features=frozenset(part for part in record.get("features", "").split(";") if part),
    )
    accelerator = record.get("accelerator", "") or f"line {number}"
    return _Line(number, record["tenant"], accelerator, request, Piece(start, end, rate))


def _seconds(record: dict[str, str], field: str, where: str) -> float:
    try:
        value = parse_seconds(record[field])
    except InvalidInput as error:
        raise InvalidInput(f"{where}, field {field}: {error}") from error
    if value > _DAYS:
        raise InvalidInput(f"{where}, field {field}: {record[field]!r} is more than a year after the start")
    return value


def _number(record: dict[str, str], field: str, where: str) -> float:
    try:
        value = float(record[field])
    except ValueError as error:
        raise InvalidInput(f"{where}, field {field}: {record[field]!r} is not a number") from error
    if not math.isfinite(value):
        raise InvalidInput(f"{where}, field {field}: {record[field]!r} must be finite")
    return value


def _join(lines: Sequence[_Line], name: str) -> list[Attachment]:
    by_accelerator: dict[tuple[str, str], list[_Line]] = {}
    for line in lines:
        by_accelerator.setdefault((line.tenant, line.accelerator), []).append(line)
    found = []
    for (tenant, accelerator), own in by_accelerator.items():
        own.sort(key=lambda line: line.piece.start)
        parts: list[list[_Line]] = [[own[0]]]
        for before, line in itertools.pairwise(own):
            if line.piece.start < before.piece.end:
                raise InvalidInput(
                    f"{name}, line {line.number}, field start: {line.piece.start:g} s is before line "
                    f"{before.number} of the same tenant and accelerator ends, at {before.piece.end:g} s"
                )
            if line.piece.start == before.piece.end and line.request == before.request:
                parts[-1].append(line)
            else:
                parts.append([line])
        for number, part in enumerate(parts):
            called = f"{_escaped(tenant)}/{_escaped(accelerator)}" + (f"#{number + 1}" if number else "")
            found.append(Attachment(called, part[0].request, tuple(line.piece for line in part)))
    return found


def _escaped(name: str) -> str:
    """Return a name in which no `/` and no `#` is the caller's: what is built of it is nobody else's."""
    return name.replace("%", "%25").replace("/", "%2F").replace("#", "%23")


def write_trace(demand: Sequence[Attachment]) -> str:
    """Write demand as the CSV that `parse_trace` reads."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in demand:
        request = one.request
        accelerator = unquote(one.name.partition("/")[2].partition("#")[0])
        for piece in one.pieces:
            writer.writerow(
                [
                    request.tenant,
                    accelerator,
                    request.type_name,
                    f"{piece.start:.10g}",
                    f"{piece.end:.10g}",
                    f"{piece.calls_per_second:.6g}",
                    request.priority or "",
                    request.anti_affinity or "",
                    ";".join(sorted(request.features)),
                ]
            )
    return buffer.getvalue()
