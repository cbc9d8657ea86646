"""The one renderer: aligned columns in text, styles at a terminal alone, JSON without anything that is not JSON."""

from __future__ import annotations

import json
import math
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest

from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.rendering import (
    Block,
    Column,
    Listing,
    Pairs,
    Table,
    to_json_text,
    to_text,
)

EI = [sys.executable, "-m", "elastic_inference"]


@dataclass(frozen=True)
class Machine:
    name: str
    memory_gib: float | None
    usd: Decimal | None

    COLUMNS: ClassVar = (
        Column("NAME", lambda m: m.name),
        Column("MEMORY GiB", lambda m: m.memory_gib, ".1f"),
        Column("USD/HOUR", lambda m: m.usd, "f"),
    )
    EMPTY: ClassVar[str] = "no machines"


ROWS = [Machine("small", 8, Decimal("0.096")), Machine("a larger one", 128.25, None)]


def test_numbers_are_flush_right_and_lines_end_without_spaces() -> None:
    assert to_text(Listing(Machine, ROWS)).splitlines() == [
        "NAME          MEMORY GiB  USD/HOUR",
        "small                8.0     0.096",
        "a larger one       128.2         -",
    ]


def test_no_rows_are_said_in_words_and_are_an_empty_list_in_json() -> None:
    assert to_text(Listing(Machine, [])) == "no machines"
    assert json.loads(to_json_text(Listing(Machine, []))) == []


def test_a_line_feed_in_a_name_does_not_break_the_table() -> None:
    lines = to_text(Listing(Machine, [Machine("one\ntwo", 1, None)])).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("one two")


def test_blocks_come_in_their_order() -> None:
    @dataclass(frozen=True)
    class Report:
        def blocks(self) -> Iterable[Block]:
            yield "first"
            yield Pairs([("a", 1), ("longer", None)])
            yield Table(Machine.COLUMNS, ROWS[:1])

    assert to_text(Report()).splitlines() == [
        "first",
        "a       1",
        "longer  -",
        "NAME   MEMORY GiB  USD/HOUR",
        "small         8.0     0.096",
    ]


def test_json_is_exact_and_holds_neither_nan_nor_infinity() -> None:
    value = {
        "money": Decimal("0.10"),
        "unknown": Decimal("NaN"),
        "bound": math.inf,
        "mean": [math.nan, 1.5],
        "path": Path("/x"),
        "code": ExitCode.REFUSED,
        "row": ROWS[0],
        "name": "Köln",
    }
    text = to_json_text(value)
    assert "Köln" in text

    def refuse(name: str) -> None:
        pytest.fail(f"{name} is not JSON")

    assert json.loads(text, parse_constant=refuse) == {
        "money": "0.10",
        "unknown": None,
        "bound": None,
        "mean": [None, 1.5],
        "path": "/x",
        "code": 3,
        "row": {"name": "small", "memory_gib": 8, "usd": "0.096"},
        "name": "Köln",
    }


def at_terminal(**environment: str) -> str:
    """What `ei prices` writes where standard output is a terminal."""
    ours, theirs = pty.openpty()
    shown = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")} | {"TERM": "xterm"}
    with subprocess.Popen(
        [*EI, "prices", "--vendor", "azure"], stdout=theirs, env=shown | environment
    ) as process:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # the other side is closed
            pass
        assert process.wait(60) == 0
    os.close(ours)
    return b"".join(parts).decode()


def test_a_terminal_gets_styles_unless_it_cannot_or_its_user_will_not() -> None:
    assert "\x1b[1m" in at_terminal(COLUMNS="200")
    assert "\x1b" not in at_terminal(NO_COLOR="1")
    assert "\x1b" not in at_terminal(TERM="dumb")


def test_a_narrow_terminal_folds_texts_and_neither_names_nor_figures() -> None:
    text = at_terminal(COLUMNS="60")
    assert max(len(line) for line in re.sub(r"\x1b\[\d*m", "", text).splitlines()) <= 60
    assert "0.454" in text
    narrow = to_text(Listing(Machine, [Machine("a name that is longer than all", 1.5, None)]), True)
    assert "a name that is longer than all" in narrow


def test_a_pipe_gets_plain_lines_that_are_not_cut() -> None:
    done = subprocess.run(
        [*EI, "prices"],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "40"},
        timeout=60,
        check=True,
    )
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[0].endswith("SOURCE")
    assert max(map(len, done.stdout.splitlines())) > 100
