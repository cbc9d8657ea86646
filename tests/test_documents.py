"""The Python blocks of the README run as they stand, and what the documents link to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_DOCUMENTS = sorted([*_ROOT.glob("*.md"), *(_ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def _blocks() -> list[str]:
    return _BLOCK.findall((_ROOT / "README.md").read_text())


@pytest.mark.parametrize("code", _blocks(), ids=lambda _: "block")
def test_block_of_the_readme_runs(code: str, tmp_path: Path) -> None:
    """In a fresh interpreter, as a user would; it fetches the model that it names."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    missing = [link for link in _LINK.findall(path.read_text()) if not (path.parent / link.strip()).exists()]
    assert missing == []


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    from elastic_inference.cli._document import markdown

    assert (_ROOT / "docs" / "commands.md").read_text() == markdown(), "run `make generate`"
