"""The help of every command: it has examples, these are commands that exist, and those of a host run on one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from elastic_inference.cli import build_app, main
from tests.host.conftest import HostProcess, _starter, new_state_dir

Run = Callable[..., str]
# A day with a host, in the order in which one does it; what follows needs what comes before.
STORY = (
    "devices", "types", "attach", "list", "show", "resize", "usage", "host status", "host drain", "host init-tls",
    "host new-token", "detach", "models", "prices", "prices check", "explore",
)  # fmt: skip
# Examples with files, hosts and names of the reader's own, and a download.
NOT_HERE = ("gpu1", "10.0.0.5", "latencies.csv", "prices.csv", "--fetch", "export ")


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with its words after `ei`."""
    below = getattr(command, "commands", {})
    if words and (not below or command.invoke_without_command):
        yield words, command
    for name, one in below.items():
        yield from leaves(one, (*words, name))


APP = typer.main.get_command(build_app())
COMMANDS = {" ".join(words): command for words, command in leaves(APP)}


def examples(name: str) -> list[str]:
    """The lines of a command's examples, each with those that go on with it."""
    text = (COMMANDS[name].help or "").partition("Examples:\n")[2]
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line]


def words_of(example: str) -> list[str]:
    """What comes after `ei`, up to where the shell does something else with it."""
    words = shlex.split(example.replace("$(", " ").replace(")", " "))
    words = words[words.index("ei") + 1 :]
    ends = [words.index(sign) for sign in ("|", ">") if sign in words]
    return words[: min(ends)] if ends else words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_of_itself_that_parse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examples(name), f"ei {name} --help has no examples"
    for example in examples(name):
        for variable in re.findall(r"^(\w+=\S+) ei ", example):
            monkeypatch.setenv(*variable.split("=", 1))
        command, words = APP, words_of(example)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        assert command is COMMANDS[name], example
        if not any(word.startswith("/etc/") for word in words):  # read where the command line is
            command.make_context(name, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json(name: str) -> None:
    assert "--json" in {option for parameter in COMMANDS[name].params for option in parameter.opts}


@pytest.fixture
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


def test_the_examples_of_a_host_run_in_the_order_of_a_day(
    host: HostProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EI_HOST", host.url)
    monkeypatch.setenv("EI_STATE_DIR", str(host.state_dir))
    for name in ("EI_TOKEN", "EI_TLS_CA", "EI_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)
    for name in STORY:
        here = [example for example in examples(name) if not any(word in example for word in NOT_HERE)]
        assert here, name
        for example in here:
            if name == "detach" and example != here[0]:
                main(["attach", "--type", "cpu.quarter", "--name", "mybox"])  # the one before detached it
            assert main(words_of(example)) == 0, (example, capsys.readouterr())
