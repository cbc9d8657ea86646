"""The `ei` command: one file a command; errors become exit codes in one place, here.

A command is a module of this package whose name has no underscore in front. It has `register(app)`, which adds its
commands to the typer application, and imports what is heavy or optional inside its functions, under `extra(...)` of
`_support`, so that `ei --help` stays quick and a missing extra is named.

Exit codes: 0 done; 1 an error of ours or of the operating system's, as one line `error: ...`; 2 wrong usage;
130 interrupted by the user, or by SIGTERM where a command has something to finish. A reader that goes away
(`ei ... | head`) ends the command quietly.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from elastic_inference.errors import ElasticInferenceError

if TYPE_CHECKING:
    import typer

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; `arguments` are those of the process by default."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except ElasticInferenceError as error:
        return _fail(_text_of(error))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at its end, which must not fail aloud.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return code


def build_app() -> typer.Typer:
    """The application with every command of this package."""
    import typer

    app = typer.Typer(
        name="ei",
        help="Attach a fraction of an accelerator to a CPU program over the network.",
        no_args_is_help=True,
        add_completion=False,
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
            importlib.import_module(f"{__name__}.{module.name}").register(app)
    return app


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        import typer

        print(version_of("elastic-inference"))
        raise typer.Exit


def _run(arguments: Sequence[str] | None) -> int:
    try:
        import typer  # noqa: F401
    except ModuleNotFoundError as error:
        raise ElasticInferenceError(
            f"the command line needs {error.name}, which is not installed: pip install "
            "'elastic-inference[video]', or [host], or [explore]"
        ) from error
    try:
        build_app()(args=None if arguments is None else list(arguments))
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0


def _text_of(error: ElasticInferenceError) -> str:
    # str() of a KeyError is the repr of its text.
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _fail(text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return EXIT_ERROR
