"""The `ei` command: one file a command; what each returns is printed in one place, and each error told in one.

A command is in a module of this package that has `register(app)`, which adds it to the typer application, and that
imports what is heavy or optional inside its functions, under `extra(...)` of `_support`, so that `ei --help` stays
quick and a missing extra is named. `registration` makes a command of a function, `rendering` prints what it returns,
`failures` tells an error, `exit_codes` has the table of codes.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from elastic_inference import settings
from elastic_inference.cli import failures
from elastic_inference.cli.exit_codes import ExitCode, describe_exit_codes
from elastic_inference.cli.rendering import silence_standard_output
from elastic_inference.errors import ElasticInferenceError

if TYPE_CHECKING:
    import typer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; `arguments` are those of the process by default."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        settings.check()
        with failures.interrupted_by_sigterm():
            code = _run(given, as_json)
            sys.stdout.flush()
    except BrokenPipeError:
        silence_standard_output()
        return int(ExitCode.READER_GONE)
    except (Exception, KeyboardInterrupt) as error:
        return int(failures.tell(error, as_json))
    return int(code)


def build_app() -> typer.Typer:
    """Make the application with every command of this package."""
    import typer

    app = typer.Typer(
        name="ei",
        help="Attach a fraction of an accelerator to a CPU program over the network.",
        epilog=f"\b\nExit codes:\n{describe_exit_codes()}",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: the same everywhere, and quick
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )

    @app.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
        ),
    ) -> None:
        pass

    for module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
        if not module.name.startswith("_"):
            commands = importlib.import_module(f"{__name__}.{module.name}")
            if hasattr(commands, "register"):
                commands.register(app)
    return app


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        import typer

        print(version_of("elastic-inference"))
        raise typer.Exit


def _run(arguments: list[str], as_json: bool) -> int:
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        raise ElasticInferenceError(
            f"the command line needs {error.name}, which is not installed: pip install "
            "'elastic-inference[video]', or [host], or [explore]"
        ) from error
    try:
        # Standing alone, typer prints usage and a hint for a wrong command line, which is no JSON.
        code = build_app()(args=arguments, prog_name="ei", standalone_mode=not as_json)
    except SystemExit as exit_:
        code = exit_.code
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return failures.tell_usage(error.format_message())
    return code if isinstance(code, int) else int(code is not None)
