"""What the README and docs/ show is what happens: their programs and commands run, as a reader would run them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from elastic_inference.host.accounts.catalogue import load_types
from tests.documents.blocks import DOCUMENTS, ROOT, Block, Command, blocks_of, shows
from tests.documents.reader import Reader
from tests.host.conftest import new_state_dir

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The page of commands is made from their help, whose examples tests/cli/test_examples.py runs.
BLOCKS = [
    block for path in DOCUMENTS if path.name != "commands.md" for block in blocks_of(path, path.read_text())
]
RUN = sorted({block.document for block in BLOCKS if block.is_run})
ANYWHERE = ROOT / "docs" / "any.md"


@pytest.mark.parametrize("document", RUN, ids=lambda path: path.name)
def test_the_blocks_of_a_document_run_one_after_the_other(document: Path) -> None:
    with new_state_dir() as state, Reader(state.parent) as reader:
        for block in BLOCKS:
            if block.document == document and block.is_run:
                reader.run(block)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_says_what_it_is_and_why_it_is_not_run(block: Block) -> None:
    assert block.language, f"{block.place}: name the language of this block: python, console, text, ..."
    assert block.language not in ("sh", "bash", "shell"), f"{block.place}: commands stand in a console block"
    commands = block.all_commands() if block.language == "console" else []
    for start, reason in block.not_run.items():
        assert reason.startswith("needs "), f"{block.place}: say what it needs that a test has not"
        assert not start or any(command.text.startswith(start) for command in commands), (block.place, start)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_data_in_a_block_is_well_formed(block: Block, tmp_path: Path) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
        if "device_share" in block.text:
            (tmp_path / "types.toml").write_text(block.text)
            assert load_types(tmp_path / "types.toml")


def block_of(text: str) -> Block:
    (block,) = blocks_of(ANYWHERE, text)
    return block


def test_commands_have_their_further_lines_and_what_they_print() -> None:
    block = block_of("Words.\n\n```console\n$ one \\\n      two\nprinted\n\n$ three; four  # why\n```\n")
    assert block.place == "docs/any.md:4"
    assert block.commands() == [
        Command("one \\\n      two", ("printed", ""), 4),
        Command("three; four  # why", (), 8),
    ]


def test_what_is_marked_is_not_run() -> None:
    some = block_of('<!-- not run, "b": needs root -->\n```console\n$ a\n$ b\nx\n$ c\n```\n')
    assert [command.text for command in some.commands()] == ["a", "c"]
    assert some.is_run
    assert some.not_run == {"b": "needs root"}
    assert not block_of("<!-- not run: needs a GPU -->\n```python\n1 / 0\n```\n").is_run
    assert block_of("<!-- a remark -->\n```python\n1 / 0\n```\n").is_run


def test_every_block_is_found_whatever_its_language() -> None:
    text = "```\na\n```\n```text\n```\n- x\n```python\nb\n```\n"
    assert [(b.language, b.text) for b in blocks_of(ANYWHERE, text)] == [
        ("", "a\n"),
        ("text", ""),
        ("python", "b\n"),
    ]


@pytest.mark.parametrize(
    ("output", "wanted", "is_shown"),
    [
        ("a  b\nc\n", ("a b",), True),
        ("a  b\nc\n", ("a b", "c"), True),
        ("c\na b\n", ("a b", "c"), False),
        ("host http://x gives 3", ("host ... gives ...",), True),
        ("host\ngives", ("host ... gives",), False),
        ("(1, 100, 4)\n", ("(1, 100, 4)",), True),
        ("1 100 4\n", ("(1, 100, 4)",), False),
        ("", (), True),
    ],
)
def test_what_a_command_prints_is_compared_loosely(
    output: str, wanted: tuple[str, ...], is_shown: bool
) -> None:
    assert shows(output, wanted) is is_shown


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("raise SystemExit(3)", r"docs/any\.md:2: exit status 3"),
        ("print(1)  # -> 2", r"docs/any\.md:2 printed:\n1"),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
    ],
)
def test_a_program_that_does_not_do_what_it_says_fails(code: str, complaint: str) -> None:
    with (
        new_state_dir() as state,
        Reader(state.parent) as reader,
        pytest.raises(AssertionError, match=complaint),
    ):
        reader.run(block_of(f"```python\n{code}\n```\n"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("$ false", r"any\.md:2: exit status 1"),
        ("$ false; echo 1", r"any\.md:2: exit status 1"),
        ("$ true", "printed nothing"),
        ("$ echo 1\n2", "printed:\n1"),
        ("$ ei no-such-command", "exit status 2"),
        ("$ ei host start --limits none", "the host ended"),
    ],
)
def test_a_command_that_does_not_do_what_it_says_fails(line: str, complaint: str) -> None:
    with (
        new_state_dir() as state,
        Reader(state.parent) as reader,
        pytest.raises(AssertionError, match=complaint),
    ):
        reader.run(block_of(f"```console\n{line}\n```\n"))
