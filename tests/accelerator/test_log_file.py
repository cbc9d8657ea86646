"""The log of an accelerator has an end, whoever writes it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from elastic_inference.accelerator.log_file import cut_if_long
from elastic_inference.telemetry import MAX_FIELD_CHARACTERS, JsonFormatter, RateLimit


def test_a_long_log_keeps_its_last_lines_and_goes_on_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for number in range(1000):
            os.write(fd, b"line %d\n" % number)
        assert not cut_if_long(fd, max_bytes=100_000, kept_bytes=100)
        assert cut_if_long(fd, max_bytes=1000, kept_bytes=100)
        os.write(fd, b"after\n")
    finally:
        os.close(fd)
    lines = path.read_text().splitlines()
    assert lines[-2:] == ["line 999", "after"]
    assert len(lines) < 15
    assert all(line.startswith("line ") for line in lines[:-1])


def test_what_is_no_file_is_left_alone() -> None:
    read, write = os.pipe()
    try:
        assert not cut_if_long(write, max_bytes=0)
    finally:
        os.close(read)
        os.close(write)


def record(created: float, line: int = 1, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": "m", "created": created, "pathname": "a.py", "lineno": line, "levelname": "INFO"} | more
    )


def test_one_statement_writes_so_many_lines_a_second_and_says_what_it_left_out() -> None:
    limit = RateLimit(max_per_second=3)
    assert [limit.filter(record(10.1)) for _ in range(5)] == [True, True, True, False, False]
    assert limit.filter(record(10.2, line=2))  # another statement
    following = record(11.0)
    assert limit.filter(following)
    assert json.loads(JsonFormatter().format(following))["num_left_out"] == 2


def test_a_value_as_long_as_a_request_may_make_it_is_cut() -> None:
    line = json.loads(JsonFormatter().format(record(1.0, path="/" + "a" * 60_000)))
    assert len(line["path"]) < MAX_FIELD_CHARACTERS + 50
    assert line["path"].endswith("(60001 characters)")
