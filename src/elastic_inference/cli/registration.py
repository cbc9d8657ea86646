"""How a function that returns a value becomes a command: with `--json`, a host's options, printing and exit codes.

A command's function asks for what it needs by the types of its parameters: a HostAccess becomes the options that say
which host, an Options the options that its fields are, an Output is where it says things while it runs. All other
parameters are typer's.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, get_type_hints

import typer

from elastic_inference.cli import failures
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.host_access import HOST_OPTIONS, HostAccess
from elastic_inference.cli.rendering import Output, silence_standard_output

_JSON_OPTION = Annotated[
    bool, typer.Option("--json", help="Print one JSON document, and errors as JSON on standard error.")
]
_JSON = "as_json"
_CONTEXT = "typer_context"

Command = Callable[..., Any]


class Options:
    """Options that several commands take, as one value: a dataclass whose annotated fields have defaults."""


def add_command(app: typer.Typer, name: str, function: Command, **settings: Any) -> None:
    """Add a command.

    Args:
        settings: As typer's `command` takes them.
    """
    app.command(name, **settings)(as_command(function))


def add_group(app: typer.Typer, name: str, function: Command, **commands: Command) -> None:
    """Add a command that has further ones below it; it runs itself where none of these is named."""
    group = typer.Typer(rich_markup_mode=None, add_completion=False)
    group.callback(invoke_without_command=True)(as_command(function))
    for below, one in commands.items():
        add_command(group, below, one)
    app.add_typer(group, name=name)


def as_command(function: Command) -> Command:
    """Wrap a function for typer; what it returns is printed, and says how the process exits."""
    asked = _parameters(function)
    hosts = [name for name, parameter in asked.items() if parameter.annotation is HostAccess]
    outputs = [name for name, parameter in asked.items() if parameter.annotation is Output]
    groups = {name: each.annotation for name, each in asked.items() if _is_options(each.annotation)}

    @functools.wraps(function)
    def command(**given: Any) -> None:
        context: typer.Context = given.pop(_CONTEXT)
        output = Output(given.pop(_JSON) or _is_json_above(context))
        if context.invoked_subcommand is not None:
            return
        if hosts:
            access = HostAccess(**{option: given.pop(option) for option in HOST_OPTIONS})
            given |= dict.fromkeys(hosts, access)
        for name, group in groups.items():
            given[name] = group(**{each.name: given.pop(each.name) for each in dataclasses.fields(group)})
        try:
            _finish(output, function(**given, **dict.fromkeys(outputs, output)))
        except KeyboardInterrupt as error:  # here, because typer makes a silent exit of it
            raise typer.Exit(failures.tell(error, output.as_json)) from error

    typers = [each for name, each in asked.items() if name not in (*hosts, *outputs, *groups)]
    typers += [option for group in groups.values() for option in _options_of(group)]
    added = {
        _JSON: (_JSON_OPTION, False),
        **({n: (a, None) for n, a in HOST_OPTIONS.items()} if hosts else {}),
    }
    _set_signature(command, typers, added)
    return command


def _parameters(function: Command) -> dict[str, inspect.Parameter]:
    """Give a function's parameters with real types; that of its result may be known to type checkers alone."""
    written = {name: text for name, text in function.__annotations__.items() if name != "return"}
    hints = get_type_hints(
        SimpleNamespace(__annotations__=written), function.__globals__, include_extras=True
    )
    return {
        name: parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    }


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _options_of(group: Any) -> list[inspect.Parameter]:
    """Return a typer's parameter for each field."""
    hints = get_type_hints(group, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(each.name, keyword, annotation=hints[each.name], default=each.default)
        for each in dataclasses.fields(group)
    ]


def _set_signature(
    command: Any, parameters: list[inspect.Parameter], added: dict[str, tuple[Any, Any]]
) -> None:
    """Let typer see the function's own parameters and those that are added, all by keyword."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter(_CONTEXT, keyword, annotation=typer.Context)
    own = [each.replace(kind=keyword) for each in parameters]
    more = [
        inspect.Parameter(name, keyword, annotation=annotation, default=default)
        for name, (annotation, default) in added.items()
    ]
    command.__signature__ = inspect.Signature([context, *own, *more])
    command.__annotations__ = {each.name: each.annotation for each in (context, *own, *more)}
    del command.__wrapped__  # its hints would be looked up in the function that this one stands for


def _is_json_above(context: typer.Context) -> bool:
    """Whether `--json` was given to the group that a command is in."""
    above = context.parent
    return above is not None and bool(above.params.get(_JSON))


def _finish(output: Output, value: Any) -> None:
    if value is None:
        return
    try:
        output.show(value)
        sys.stdout.flush()
    except BrokenPipeError as error:
        silence_standard_output()
        raise typer.Exit(ExitCode.READER_GONE) from error
    code = getattr(value, "exit_code", ExitCode.OK)
    if code is not ExitCode.OK:
        raise typer.Exit(code)
