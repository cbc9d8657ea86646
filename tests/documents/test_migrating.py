"""docs/migrating.md: every claim names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "migrating.md").read_text()
CLAIMS = re.findall(r"^- (.*?)(?=^- |^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[:40])
def test_a_claim_names_tests_that_are_there(claim: str) -> None:
    named = re.findall(r"<!-- (\S+)::(\S+) -->", claim)
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{path}::{name}"
        )
