"""Tests wait with an end: the helpers that they wait by, and that nothing in tests/ waits without one."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import read_line, wait_until

TESTS = Path(__file__).resolve().parent
WAITS = (
    "wait",
    "join",
    "result",
)  # of events, processes, threads, futures: without an argument they wait for ever
HAS_ITS_OWN_BOUND = ("stream",)  # Stream.set_timeout


def endless_waits(text: str) -> Iterator[int]:
    """The lines of calls that can wait for ever."""
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _is_endless(node, node.func)
        ):
            yield node.lineno


def _is_endless(call: ast.Call, method: ast.Attribute) -> bool:
    of = ast.unparse(method.value)
    if method.attr in WAITS:
        return not call.args and not call.keywords and of not in HAS_ITS_OWN_BOUND
    is_bounded = any(keyword.arg in ("timeout", None) for keyword in call.keywords)
    return not is_bounded and (method.attr == "communicate" or f"{of}.{method.attr}" == "subprocess.run")


def test_no_test_waits_without_an_end() -> None:
    found = [
        f"{path.relative_to(TESTS.parent)}:{line}"
        for path in sorted(TESTS.rglob("*.py"))
        for line in endless_waits(path.read_text())
    ]
    assert found == [], "give these waits a number of seconds, such as .result(30) or timeout=60"


@pytest.mark.parametrize(
    ("text", "is_endless"),
    [
        ("future.result()", True),
        ("future.result(30)", False),
        ("thread.join()", True),
        ("', '.join(names)", False),
        ("stream.wait()", False),
        ("process.communicate('x')", True),
        ("process.communicate('x', timeout=3)", False),
        ("subprocess.run(['x'])", True),
        ("subprocess.run(['x'], timeout=3)", False),
    ],
)
def test_an_endless_wait_is_known_by_its_arguments(text: str, is_endless: bool) -> None:
    assert bool(list(endless_waits(text))) is is_endless


def test_a_condition_that_does_not_come_is_named() -> None:
    with pytest.raises(AssertionError, match="waited 0 s in vain for: the end"):
        wait_until(lambda: False, "the end", seconds=0.02)
    wait_until(iter([False, False, True]).__next__)


def test_a_process_that_is_silent_for_too_long_is_ended() -> None:
    program = [sys.executable, "-c", "print('one', flush=True); input()"]
    with subprocess.Popen(program, stdin=-1, stdout=-1, text=True) as process:
        assert read_line(process) == "one"
        assert read_line(process, seconds=0.1) == ""
        assert process.wait(30) == -9
