"""What users read is plain English: no phrase of a list that readers stumbled over, in messages, help and documents."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = _ROOT / "src" / "elastic_inference"
# Whole words; what to write instead stands beside each.
BANNED = {
    "to be had": "available, supported",
    "told": "says, is given, is configured with",
    "what is there": "what exists, the rest of the sentence usually names it",
    "which is no": "is not",
    "is no number": "is not a number",
    "is not there": "does not exist, is not attached",
    "are not there": "do not exist",
    "not known here": "wrong, unknown to this host",
    "none of this name": "no ... is named ...",
    "stands twice": "appears twice",
    "gives away": "offers",
    "give away": "offer",
    "given away": "offered",
    "so many": "this many, that many",
    "is away": "cannot be reached",
    "goes on": "continues",
    "go on": "continue",
}
_PATTERN = re.compile(r"\b(" + "|".join(BANNED) + r")\b", re.IGNORECASE)
# Pages that are written for users; the others are notes of the project.
DOCUMENTS = [
    _ROOT / "docs" / name
    for name in (
        "amazon-api.md",
        "commands.md",
        "explorer.md",
        "hosts.md",
        "limits.md",
        "migrating.md",
        "pool-planning.md",
        "pytorch.md",
    )
]
MODULES = sorted(path for path in _PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module but its docstrings; those with examples are a command's help, so they count."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and "Examples:" not in ast.unparse(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(_PACKAGE).as_posix())
def test_no_message_has_a_banned_phrase(path: Path) -> None:
    found = [
        f"line {line}: {match[0]!r}; rather: {BANNED[match[0].lower()]}"
        for line, text in literals(path)
        for match in _PATTERN.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_document_has_a_banned_phrase(path: Path) -> None:
    found = [
        f"line {number}: {match[0]!r}; rather: {BANNED[match[0].lower()]}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for match in _PATTERN.finditer(line)
    ]
    assert found == []
