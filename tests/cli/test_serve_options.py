"""`ei serve` refuses at once what would only fail later, or for each model."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--poll", "0", "--poll 0 is shorter than 0.05 s"),
        ("--engine", "foo", "engine 'foo' is not one of auto"),
        ("--precision", "fp12", "precision 'fp12' is not one of fp32"),
        ("--threads", "0", "num_threads 0 is not between"),
        ("--device", "gpu", "--device 'gpu' is not cpu:0, nor a GPU such as cuda:0"),
        ("--token", "g\xe4b", "token must be printable ASCII"),
    ],
)
def test_what_no_model_could_take_is_refused_before_any_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str, words: str
) -> None:
    assert main(["serve", str(tmp_path), "--http", "0", option, value]) == ExitCode.BAD_INPUT
    assert words in capsys.readouterr().err
