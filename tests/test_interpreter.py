"""The Python of an embedded accelerator, in programs that are none, in folders with modules of other makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference import interpreter
from elastic_inference.testing import write_model

VECTOR = {"x": ("uint8", (None,))}
PROGRAM = """
import sys
{first}
from elastic_inference.client import embedded
from elastic_inference.errors import ElasticInferenceError
try:
    options = embedded.EmbeddedOptions(module="elastic_inference.testing")
    accelerator = embedded.acquire(options)
    print("OK", accelerator.address.endpoint.kind)
    embedded.release(options, accelerator)
except ElasticInferenceError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "echo.testing", inputs=VECTOR, outputs=VECTOR)


def run(folder: Path, first: str = "", cwd: Path | None = None, **variables: str) -> str:
    program = folder / "program.py"
    program.write_text(PROGRAM.format(first=first))
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=120, cwd=cwd, check=False,
        env={k: v for k, v in os.environ.items() if k not in ("EI_PYTHON", "EI_EMBEDDED")} | variables,
    )  # fmt: skip
    assert done.stdout.strip(), done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["queue", "random", "select", "types", "numpy", "platform", "psutil"])
def test_a_file_in_the_current_folder_takes_no_modules_place(name: str, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / f"{name}.py").write_text("raise SystemExit('a module of the user')")
    assert run(tmp_path, cwd=here) == "OK unix"


def test_what_is_on_the_programs_path_alone_is_found(tmp_path: Path) -> None:
    """As where a notebook or a launcher put the package on its own sys.path."""
    paths = [path for path in sys.path if path]
    assert run(tmp_path, f"sys.path[:0] = {paths!r}", cwd=tmp_path, PYTHONPATH="") == "OK unix"


def program_of(folder: Path) -> Path:
    """What sys.executable names under uWSGI and in frozen programs: the program, which notes each of its starts."""
    app = folder / "app"
    app.write_text(f"#!/bin/sh\necho started >> {folder}/starts\nexit 1\n")
    app.chmod(0o755)
    return app


def test_a_program_that_is_no_python_is_not_started_again(tmp_path: Path) -> None:
    app = program_of(tmp_path)
    assert run(tmp_path, f"sys.executable = {str(app)!r}") == "OK unix"
    assert not (tmp_path / "starts").exists()


def test_without_any_python_the_error_says_what_to_set(tmp_path: Path) -> None:
    app = program_of(tmp_path)
    nowhere = (
        f"sys.executable = sys._base_executable = {str(app)!r}; sys.prefix = sys.exec_prefix = '/none'; "
    )
    text = run(tmp_path, nowhere + "sys.base_prefix = '/none'")
    assert text.startswith("EngineNotAvailable")
    assert "set EI_PYTHON" in text
    assert not (tmp_path / "starts").exists()


def test_a_program_taken_for_python_does_not_start_itself_for_ever(tmp_path: Path) -> None:
    text = run(tmp_path, EI_EMBEDDED="12345")
    assert text.startswith(
        "EngineNotAvailable this program was started as an embedded accelerator of process 12345"
    )


def test_ei_python_is_used_and_one_that_is_none_is_named(tmp_path: Path) -> None:
    assert (
        run(tmp_path, f"sys.executable = {str(program_of(tmp_path))!r}", EI_PYTHON=sys.executable)
        == "OK unix"
    )
    text = run(tmp_path, EI_PYTHON=str(program_of(tmp_path)))
    assert "EI_PYTHON" in text
    assert "is not a Python that runs" in text


def test_words_before_the_address_are_shown(tmp_path: Path) -> None:
    talkative = tmp_path / "python3"
    talkative.write_text(f'#!/bin/sh\necho "Welcome to this machine"\nexec {sys.executable} "$@"\n')
    talkative.chmod(0o755)
    text = run(tmp_path, f"sys.executable = {str(talkative)!r}")
    assert text.startswith(
        "EngineNotAvailable the embedded accelerator's process wrote b'Welcome to this machine"
    )


def test_without_a_folder_for_temporary_files_the_error_says_so(tmp_path: Path) -> None:
    first = "import tempfile; tempfile.tempdir = '/proc/none'"
    text = run(tmp_path, first)
    assert text.startswith("EngineNotAvailable an embedded accelerator needs a folder for temporary files")


def test_the_programs_own_folder_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/app", "/lib", "", os.getcwd(), "/site"])
    assert interpreter.import_paths() == ["/lib", "/site", "/app"]
    monkeypatch.setattr(sys, "path", ["", "/lib"])
    assert interpreter.import_paths() == ["/lib"]
