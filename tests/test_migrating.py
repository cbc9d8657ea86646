"""docs/migrating.md: its blocks run, and every claim names tests that are there."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.oracle import MODELS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "migrating.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
CLAIMS = re.findall(r"^- (.*?)(?=^- |^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=lambda _: "block")
def test_a_block_runs_as_it_stands(code: str, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "arithmetic", tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"array\(\[ ?(4\., 6\.|16\.)\]", done.stdout)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[:40])
def test_a_claim_names_tests_that_are_there(claim: str) -> None:
    named = re.findall(r"<!-- (\S+)::(\S+) -->", claim)
    assert named
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{path}::{name}"
        )
