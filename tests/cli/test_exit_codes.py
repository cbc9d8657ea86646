"""The table of exit codes: complete, the same in help and documents, and what the shell sees of a process."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference import errors
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import OF_ERROR, ExitCode, exit_code_of
from elastic_inference.errors import ElasticInferenceError

CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, ElasticInferenceError)]
EI = [sys.executable, "-m", "elastic_inference"]


def test_every_error_has_a_row_of_its_own() -> None:
    assert set(OF_ERROR) == set(CLASSES)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_an_error_is_never_a_success_and_a_subclass_keeps_its_own_row(
    cls: type[ElasticInferenceError],
) -> None:
    assert exit_code_of(cls("text")) is OF_ERROR[cls]
    assert OF_ERROR[cls] not in (ExitCode.OK, ExitCode.INTERRUPTED, ExitCode.READER_GONE)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (FileNotFoundError(2, "No such file", "x"), ExitCode.NOT_FOUND),
        (PermissionError(13, "Permission denied", "x"), ExitCode.NO_RIGHTS),
        (OSError(28, "No space left on device"), ExitCode.FAILED),
        (ValueError("a fault of ours"), ExitCode.FAILED),
    ],
)
def test_other_errors_have_codes_too(error: BaseException, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_help_lists_every_code_with_its_meaning() -> None:
    done = subprocess.run([*EI, "--help"], capture_output=True, text=True, timeout=60, check=True)
    for code in ExitCode:
        assert f"{code.value:>5}  {code.meaning}" in done.stdout


def test_a_file_that_may_not_be_read_is_told_by_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [*EI, "detect", str(tmp_path), "-o", str(tmp_path / "o.mp4")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ExitCode.BAD_INPUT
    assert str(tmp_path) in done.stderr


def test_a_variable_that_cannot_be_read_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EI_PROGRESS_SECONDS", "soon")
    assert main(["types"]) == ExitCode.BAD_INPUT
    assert "environment variable EI_PROGRESS_SECONDS='soon'" in capsys.readouterr().err
