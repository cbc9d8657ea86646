"""How a command that fails says so: one line of text, or one JSON object, on standard error; and the exit code."""

from __future__ import annotations

import json
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from elastic_inference.cli.exit_codes import ExitCode, exit_code_of
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.protocol.status import encode_error, error_text

_INTERRUPTED = "interrupted"


def tell(error: BaseException, as_json: bool) -> ExitCode:
    """Say on standard error what has stopped a command; gives the exit code that says it too."""
    code = exit_code_of(error)
    is_ours = isinstance(error, ElasticInferenceError | OSError | KeyboardInterrupt)
    if as_json:
        print(json.dumps(_fields_of(error, is_ours)), file=sys.stderr)
        return code
    if not is_ours:
        traceback.print_exception(error, file=sys.stderr)
    prefix = "" if isinstance(error, KeyboardInterrupt) else "error: "
    print(f"{prefix}{' '.join(_text_of(error, is_ours).split())}", file=sys.stderr)
    return code


def tell_usage(text: str) -> ExitCode:
    """Say in JSON that the command line is wrong; in text, typer says so with a hint."""
    print(json.dumps({"error": text, "code": "UsageError"}), file=sys.stderr)
    return ExitCode.BAD_INPUT


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM stop a command as Ctrl-C does: what has something to finish or to give back does so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _text_of(error: BaseException, is_ours: bool) -> str:
    if isinstance(error, KeyboardInterrupt):
        return str(error) or _INTERRUPTED
    if isinstance(error, OSError) and not isinstance(error, ElasticInferenceError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = error_text(error)
    if is_ours:
        return text
    return (
        f"{type(error).__name__}: {text}; a fault of elastic-inference: please report it with the lines above"
    )


def _fields_of(error: BaseException, is_ours: bool) -> dict[str, Any]:
    if isinstance(error, ElasticInferenceError):
        return encode_error(error)[1]
    fields: dict[str, Any] = {"error": _text_of(error, is_ours), "code": type(error).__name__}
    if not is_ours:
        fields["traceback"] = "".join(traceback.format_exception(error))
    return fields
