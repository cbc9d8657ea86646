"""Writes docs/commands.md from the commands: `python -m elastic_inference.cli._document > docs/commands.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elastic_inference.cli import build_app
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.host_access import HOST_OPTIONS

_INTRODUCTION = """\
# Commands

This page is made from the commands themselves: `make generate` writes it, and a test compares it with them.

A result goes to standard output, everything else to standard error. With `--json`, which every command takes,
standard output holds one JSON document and there is no progress. Money in it is text, and a number that is not
known is null, never NaN. An error is then one JSON object on standard error: `error` (text), `code` (the class in
`elastic_inference.errors`) and, if it has any, `fields` (its figures). Tables have units in their titles. At a
terminal they are styled; in a pipe, with `NO_COLOR` or with `TERM=dumb` they are plain text that is not cut to a
width.

An ACCELERATOR is given by its name, its id, or the beginning of its id (`eia-3f`); names are unique on a host. If
several match, the error lists them.

Ctrl-C and SIGTERM end every command with exit code 130, after it has finished or given back what it must; `ei host
start` ends by them in order, with exit code 0.

`ei --install-completion` installs shell completion; it offers names, ids and types if the host answers within a
second.

## Exit codes

| code | meaning |
|---|---|
"""
_HOST_SECTION = """\

## Options of commands that ask a host

These are options of {}:

"""
_JSON_FLAG = "--json"


def markdown() -> str:
    """Write the whole page."""
    import typer

    app = typer.main.get_command(build_app())
    commands = {" ".join(words): command for words, command in _leaves(app, ("ei",))}
    shared = {each.name: each.help for each in commands["ei list"].params if each.name in HOST_OPTIONS}
    askers = [
        f"`{name}`"
        for name, command in commands.items()
        if shared.items() <= {each.name: each.help for each in command.params}.items()
    ]
    codes = "".join(f"| {code.value} | {code.meaning} |\n" for code in ExitCode)
    hosts = _options([each for each in commands["ei list"].params if each.name in shared])
    parts = [_INTRODUCTION, codes, _HOST_SECTION.format(", ".join(askers)), hosts]
    own = {name: shared if f"`{name}`" in askers else {} for name in commands}
    return "".join([*parts, *(_section(name, command, own[name]) for name, command in commands.items())])


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words."""
    below = getattr(command, "commands", {})
    if len(words) > 1 and (not below or command.invoke_without_command):
        yield words, command
    for name, one in below.items():
        yield from _leaves(one, (*words, name))


def _section(name: str, command: Any, shared: Mapping[str, str]) -> str:
    text, _, examples = (command.help or "").partition("\b\nExamples:\n")
    arguments = "".join(
        f" {each.metavar or each.name.upper()}"
        for each in command.params
        if each.param_type_name == "argument"
    )
    paragraphs = "\n\n".join(" ".join(each.split()) for each in text.strip().split("\n\n"))
    own = [each for each in command.params if shared.get(each.name, "") != each.help]
    parts = [f"## {name}", f"`{name}{arguments} [OPTIONS]`", paragraphs, _options(own).rstrip()]
    shown = "\n".join(line.removeprefix("  ") for line in examples.rstrip().splitlines())
    return "".join(f"\n{part}\n" for part in (*parts, f"```sh\n{shown}\n```") if part)


def _options(parameters: Sequence[Any]) -> str:
    lines = [
        f"| {_names(each)} | {_cell(each.help or '')}{_default(each)} |\n"
        for each in parameters
        if _JSON_FLAG not in each.opts
    ]
    return "".join(["| option | what it does |\n|---|---|\n", *lines]) if lines else ""


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    # In brackets beside each other, what may be left out would be read as a link.
    return names if parameter.metavar is None else f"{names} " + parameter.metavar.replace("[", r"\[")


def _default(parameter: Any) -> str:
    if parameter.param_type_name == "argument" or parameter.required:
        return " Required."
    value = parameter.default
    shows = value is not None and not isinstance(value, bool) and parameter.show_default
    return f" Default {value}." if shows else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").rstrip(".") + "."


if __name__ == "__main__":
    print(markdown(), end="")
