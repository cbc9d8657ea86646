"""What the documents link to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.blocks import DOCUMENTS

_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    missing = [link for link in _LINK.findall(path.read_text()) if not (path.parent / link.strip()).exists()]
    assert missing == []
