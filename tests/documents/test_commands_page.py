"""The page of commands is made from the commands."""

from __future__ import annotations

from elastic_inference.cli._document import markdown
from tests.documents.blocks import DOCUMENTS


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    (page,) = (path for path in DOCUMENTS if path.name == "commands.md")
    assert page.read_text() == markdown(), "run `make generate`"
