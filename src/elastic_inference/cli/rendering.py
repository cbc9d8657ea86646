"""How a command's value reaches its reader: text in columns, or one JSON document. Nothing else prints results.

A command returns a value: a frozen dataclass with `blocks()` (and `to_json()` where its fields alone are not what
JSON should hold), or a Listing of such. At a terminal tables are styled; in a pipe, a file, under NO_COLOR or on a
dumb terminal they are plain text, never cut to a width.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from elastic_inference import settings
from elastic_inference.cli.exit_codes import ExitCode

_GAP = "  "
_ABSENT = "-"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        title: What stands above it, with the unit where it has one, such as `MEMORY MiB`.
        get: Its value of a row, in that unit; None shows as a dash.
        form: Format of a number, such as `.1f`; "" for one that is text already, such as money. None: no number.
    """

    title: str
    get: Callable[[Any], Any]
    form: str | None = None

    @property
    def is_number(self) -> bool:
        """Whether it stands flush right."""
        return self.form is not None

    def text(self, row: Any) -> str:
        """Write its value of a row."""
        value = self.get(row)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return _ABSENT
        return " ".join(format(value, self.form or "").splitlines())


@dataclass(frozen=True)
class Table:
    """Rows below titles; `empty` is said where there are none."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    empty: str = ""

    def cells(self) -> list[list[str]]:
        """Write every cell, row by row."""
        return [[column.text(row) for column in self.columns] for row in self.rows]


@dataclass(frozen=True)
class Pairs:
    """Names and values, one pair a line, the values below each other."""

    pairs: Sequence[tuple[str, Any]]


Block = str | Table | Pairs


class Shown(Protocol):
    """A value that can be printed."""

    def blocks(self) -> Iterable[Block]:
        """Say what a reader sees, from top to bottom."""
        ...


class RowKind(Protocol):
    """A class whose values are rows of a listing."""

    COLUMNS: ClassVar[Sequence[Column]]
    EMPTY: ClassVar[str]


@dataclass(frozen=True)
class Listing:
    """Values of one class: a table in text, a list in JSON."""

    kind: type[RowKind]
    rows: Sequence[Any]

    def blocks(self) -> Iterable[Block]:
        """Show one table."""
        yield Table(self.kind.COLUMNS, self.rows, self.kind.EMPTY)

    def to_json(self) -> list[Any]:
        """Give the rows."""
        return list(self.rows)


@dataclass(frozen=True)
class Sentence:
    """A result that one sentence says; its fields, by name, are its JSON."""

    text: str
    fields: Mapping[str, Any]
    exit_code: ExitCode = ExitCode.OK

    def blocks(self) -> Iterable[Block]:
        """Show the sentence."""
        yield self.text

    def to_json(self) -> Mapping[str, Any]:
        """Give the fields."""
        return self.fields


class Output:
    """Where a running command says things: results on standard output, all else on standard error.

    Args:
        as_json: Results are JSON, and nothing is said beside them.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, value: Shown) -> None:
        """Print a result."""
        print(to_json_text(value) if self.as_json else to_text(value, is_styled()))

    def show_at_once(self, value: Shown) -> None:
        """Print a result that a program waits for, as a single line of JSON or as text, without delay."""
        print(to_json_text(value, indent=None) if self.as_json else to_text(value, is_styled()), flush=True)

    def write(self, text: str) -> None:
        """Pass on text that is not ours, as it is and without delay."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Say what goes on; not where the reader is a program."""
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def ask(self, text: str, fields: Mapping[str, Any]) -> None:
        """Say what somebody must do for the command to go on; to a program as one line of JSON."""
        print(json.dumps(plain(fields)) if self.as_json else text, file=sys.stderr, flush=True)


def to_json_text(value: Any, indent: int | None = 2) -> str:
    """Write a value as one JSON document without NaN or infinity, which JSON does not have: they become null."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Turn a value into what JSON can hold: money and paths as text, dataclasses as objects, NaN as null."""
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if isinstance(value, Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    return [plain(each) for each in value]


def is_styled() -> bool:
    """Whether standard output is a terminal that shows styles and whose user wants them."""
    return (
        sys.stdout.isatty() and settings.NO_COLOR.get() is None and settings.TERM.get() not in (None, "dumb")
    )


def to_text(value: Shown, styled: bool = False) -> str:
    """Write a value for a reader, without a line feed at the end."""
    table_text = _styled_table if styled else _plain_table
    return "\n".join(_block_text(block, table_text) for block in value.blocks())


def _block_text(block: Block, table_text: Callable[[Table], str]) -> str:
    if isinstance(block, str):
        return block
    if isinstance(block, Pairs):
        return _pairs_text(block)
    return table_text(block) if block.rows else block.empty


def _pairs_text(block: Pairs) -> str:
    width = max(len(name) for name, _ in block.pairs)
    return "\n".join(
        f"{name:<{width}}{_GAP}{_ABSENT if value is None else value}".rstrip() for name, value in block.pairs
    )


def _plain_table(table: Table) -> str:
    lines = [[column.title for column in table.columns], *table.cells()]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.columns))]
    return "\n".join(
        _GAP.join(
            text.rjust(width) if column.is_number else text.ljust(width)
            for text, width, column in zip(line, widths, table.columns, strict=True)
        ).rstrip()
        for line in lines
    )


def _styled_table(table: Table) -> str:
    from rich.console import Console
    from rich.table import Table as RichTable

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(table.columns):
        # What a row is called, and its figures, stay in one piece where the terminal is narrow; texts are folded.
        is_whole = place == 0 or column.is_number
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        shown.add_column(column.title, justify=justify, overflow="fold", no_wrap=is_whole)
    for cells in table.cells():
        shown.add_row(*cells)
    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().rstrip("\n")


def silence_standard_output() -> None:
    """Keep Python from failing aloud when it flushes standard output, whose reader is gone, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
