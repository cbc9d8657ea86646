"""The file that holds the options of `ei host start`: read, checked, and written with all that is in force."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from elastic_inference.cli.rendering import Block
from elastic_inference.errors import InvalidInput

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_PATH = Path("/etc/elastic-inference/host.toml")
_NOT_IN_THE_FILE = ("output", "config")
_WORDS = {
    str: 'text, such as "10s"',
    int: "a whole number",
    bool: "true or false",
    list: 'a list of texts, such as ["cpu:0"]',
}


@dataclass(frozen=True)
class Option:
    """One option as the file has it.

    Attributes:
        name: Its key: the option without dashes in front, with `_` for `-`.
        source: Where its value comes from: the command line, the file, or the default.
    """

    name: str
    value: Any
    source: str
    meaning: str

    def line(self) -> str:
        """Write it as a line of TOML; one that is not set as a comment."""
        if self.value in (None, [], ()):
            return f"# {self.name} ="
        return f"{self.name} = {_toml(self.value)}"


@dataclass(frozen=True)
class HostConfig:
    """All options of a start."""

    options: tuple[Option, ...]

    def blocks(self) -> Iterable[Block]:
        """Show them as the file that would bring the same about."""
        yield "\n".join(f"# {o.meaning} ({o.source})\n{o.line()}\n" for o in self.options).rstrip()

    def to_json(self) -> dict[str, Any]:
        """Give the values by name."""
        return {option.name: option.value for option in self.options}


def kinds_of(command: Callable[..., Any]) -> dict[str, type]:
    """Return what the file holds for each option of a command: str, int, bool or list."""
    hints = get_type_hints(command)
    names = [name for name in inspect.signature(command).parameters if name not in _NOT_IN_THE_FILE]
    return {name: _kind(hints[name]) for name in names}


def read_file(path: Path, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Read the file.

    Args:
        kinds: What it may hold, by name; see `kinds_of`.

    Raises:
        InvalidInput: It cannot be read, or a key or a value is not one of an option; the text names both.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"host configuration {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"host configuration {path} is not TOML: {error}") from error
    check_values(values, kinds, f"host configuration {path}")
    return values


def check_values(values: Mapping[str, Any], kinds: Mapping[str, type], where: str) -> None:
    """Raise InvalidInput, which names `where`, for a key that is not in `kinds` or a value of another type."""
    unknown = values.keys() - kinds.keys()
    if unknown:
        raise InvalidInput(f"{where}: unknown key {min(unknown)!r}; known are {', '.join(kinds)}")
    for name, value in values.items():
        if not _is_of(value, kinds[name]):
            raise InvalidInput(f"{where}: {name} must be {_WORDS[kinds[name]]}, not {value!r:.100}")


def _kind(hint: Any) -> type:
    """Return what stands for a parameter's type in TOML, which has no paths and no None."""
    of_value = [each for each in (get_args(hint) or (hint,)) if each is not type(None)]
    if get_origin(hint) is list or any(get_origin(each) is list for each in of_value):
        return list
    return of_value[0] if of_value[0] in (int, bool) else str


def _is_of(value: Any, kind: type) -> bool:
    if kind is list:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    return type(value) is kind


def config_of(context: Any, kinds: Mapping[str, type]) -> HostConfig:
    """Return what is in force in typer's context of a parsed command line."""
    parameters = {parameter.name: parameter for parameter in context.command.params}
    return HostConfig(tuple(_option(parameters[name], context) for name in kinds))


def _option(parameter: Any, context: Any) -> Option:
    name = parameter.name or ""
    value = context.params.get(name)
    source = context.get_parameter_source(name)
    said = {"COMMANDLINE": "command line", "DEFAULT_MAP": "file"}.get(
        source.name if source else "", "default"
    )
    plain = [str(each) for each in value] if isinstance(value, list | tuple) else value
    plain = str(plain) if isinstance(plain, Path) else plain
    return Option(name, plain, said, " ".join((parameter.help or "").split()).rstrip("."))


def _toml(value: Any) -> str:
    """Write a value; TOML's strings, numbers, booleans and lists of strings are JSON's."""
    return json.dumps(value, ensure_ascii=False)
