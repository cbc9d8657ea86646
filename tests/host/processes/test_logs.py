"""Reading an accelerator's logs along: over cuts, over new processes, and over files that are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.host.processes.logs import LogPart, LogReader


def write(folder: Path, number: int, text: str, mode: str = "w") -> Path:
    path = folder / f"eia-1.{number}.log"
    with open(path, mode) as file:
        file.write(text)
    return path


def read(folder: Path, cursor: str | None = None, max_bytes: int = 1000) -> LogPart:
    return LogReader(folder).read("eia-1", cursor, max_bytes)


def follow(folder: Path, cursor: str | None, max_bytes: int = 1000) -> tuple[str, str]:
    """All that is there after a cursor, and the cursor then."""
    text = ""
    while True:
        part = read(folder, cursor, max_bytes)
        text, cursor = text + part.text, part.cursor
        if not part.has_more:
            return text, cursor


def test_it_begins_with_the_last_whole_lines_of_the_newest_process(tmp_path: Path) -> None:
    write(tmp_path, 9, "older\n")
    write(tmp_path, 10, "".join(f"line {number}\n" for number in range(100)))
    part = read(tmp_path, max_bytes=20)
    assert (part.text, part.process, part.has_more) == ("line 98\nline 99\n", 10, False)


def test_what_is_written_later_follows(tmp_path: Path) -> None:
    write(tmp_path, 0, "one\n")
    _, cursor = follow(tmp_path, None)
    assert follow(tmp_path, cursor) == ("", cursor)
    write(tmp_path, 0, "two\nthr", "a")
    text, cursor = follow(tmp_path, cursor)
    assert text == "two\nthr"
    write(tmp_path, 0, "ee\n", "a")
    assert follow(tmp_path, cursor)[0] == "ee\n"


def test_it_goes_over_to_the_processes_that_came_after(tmp_path: Path) -> None:
    write(tmp_path, 0, "one\n")
    _, cursor = follow(tmp_path, None)
    write(tmp_path, 0, "last words\n", "a")
    write(tmp_path, 1, "born and dead\n")
    write(tmp_path, 2, "alive\n")
    assert follow(tmp_path, cursor, max_bytes=12)[0] == "last words\nborn and dead\nalive\n"
    (tmp_path / "eia-1.0.log").unlink()
    assert follow(tmp_path, cursor)[0] == "born and dead\nalive\n"


def test_a_file_that_was_cut_or_made_anew_begins_again(tmp_path: Path) -> None:
    path = write(tmp_path, 0, "a long first text\n")
    _, cursor = follow(tmp_path, None)
    write(tmp_path, 0, "cut\n")
    text, cursor = follow(tmp_path, cursor)
    assert text == "cut\n"
    other = tmp_path / "other"
    other.write_text("made anew, and longer than before\n")
    other.replace(path)
    assert follow(tmp_path, cursor)[0] == "made anew, and longer than before\n"


def test_no_log_and_other_accelerators_logs(tmp_path: Path) -> None:
    (tmp_path / "eia-10.0.log").write_text("another's\n")
    (tmp_path / "spare-1.log").write_text("nobody's\n")
    assert read(tmp_path) == LogPart("", "0-0-0", 0, False)


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    (tmp_path / "eia-1.0.log").write_bytes(b"\xff\xfe bytes\n")
    assert read(tmp_path).text == "\ufffd\ufffd bytes\n"


@pytest.mark.parametrize("cursor", ["", "1", "1-2", "a-b-c", "../x-1-1"])
def test_a_cursor_of_somebody_elses_making(tmp_path: Path, cursor: str) -> None:
    write(tmp_path, 0, "one\n")
    with pytest.raises(InvalidInput, match="cursor"):
        read(tmp_path, cursor)
