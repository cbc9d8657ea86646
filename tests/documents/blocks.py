"""The fenced blocks of the README and of docs/, found by reading them: a new block is run without being listed.

A `python` block is a program. A `console` block holds commands, each after `$ `, with a `\\` at the end of a line that
goes on; what stands below a command is what it prints, with `...` for any text and any run of blanks for one. In a
program, the comment `# -> TEXT` behind a `print` says what it prints. A block that cannot be run in a test has above
it, in the source of the document alone,

    <!-- not run: needs WHAT -->                              for the whole block, or
    <!-- not run, "ei explore --model": needs WHAT -->        for the commands that begin so.

`toml` and `json` blocks are parsed. Other languages, and `text`, are shown as they are; each block says its language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]))
_BLOCK = re.compile(r"((?:^<!-- not run.*-->\n)*)^```(.*)\n((?s:.*?))^```$", re.MULTILINE)
_NOT_RUN = re.compile(r'<!-- not run(?:, "(.+)")?: (.*) -->')
_PRINTED = re.compile(r"# -> (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One command of a console block.

    Attributes:
        text: As a shell takes it.
        output: The lines that the document shows below it.
        line: Where it stands in the document, from 1.
    """

    text: str
    output: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        line: That of its first line of text in the document, from 1.
        not_run: Reasons by the beginning of the commands that are not run; "" is all of them.
    """

    document: Path
    line: int
    language: str
    text: str
    not_run: dict[str, str]

    @property
    def place(self) -> str:
        """As editors take it: `docs/hosts.md:7`."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether anything of it is."""
        return self.language in ("python", "console") and "" not in self.not_run

    @property
    def printed(self) -> list[str]:
        """What a program says that it prints, in order."""
        return _PRINTED.findall(self.text)

    def commands(self) -> list[Command]:
        """The commands of a console block, those that are not run left out."""
        return [command for command in self.all_commands() if self.reason(command) is None]

    def all_commands(self) -> list[Command]:
        """The commands of a console block; ValueError where text stands before the first."""
        commands: list[Command] = []
        is_open = False
        for number, line in enumerate(self.text.splitlines(), self.line):
            if line.startswith("$ "):
                commands.append(Command(line[2:], (), number))
            elif not commands:
                raise ValueError(f"{self.place}: a console block begins with '$ ' and a command")
            elif is_open:
                last = commands.pop()
                commands.append(Command(f"{last.text}\n{line}", (), last.line))
            else:
                last = commands.pop()
                commands.append(Command(last.text, (*last.output, line), last.line))
            is_open = (line.startswith("$ ") or is_open) and line.endswith("\\")
        return commands

    def reason(self, command: Command) -> str | None:
        """Why a command is not run; None where it is."""
        return next((why for start, why in self.not_run.items() if command.text.startswith(start)), None)


def blocks_of(document: Path, text: str) -> Iterator[Block]:
    """All fenced blocks of a document, in order."""
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start(3)) + 1
        not_run = dict(_NOT_RUN.findall(found[1]))
        yield Block(document, line, found[2].strip(), found[3], not_run)


def shows(output: str, wanted: tuple[str, ...]) -> bool:
    """Whether a command printed these lines, in order: `...` stands for any text, blanks for any blanks."""
    lines = [re.escape(" ".join(line.split())).replace(r"\.\.\.", ".*") for line in wanted if line.strip()]
    pattern = r"(?s:.*)".join(line.replace(r"\ ", r"\s+") for line in lines)
    return re.search(pattern, output) is not None
