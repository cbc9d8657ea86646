"""What a client imports: numpy and the standard library, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CODE = """
import json, sys, time
import numpy
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
top = sorted({{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names))
print(json.dumps([seconds, top]))
"""


@pytest.mark.parametrize(
    "statement",
    [
        "import elastic_inference",
        "from ei_for_tf.python.predictor.ei_predictor import EIPredictor",
        "import elastic_inference.predictor, elastic_inference.keras",
    ],
)
def test_a_client_imports_numpy_and_the_standard_library_only(
    statement: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = _run("pass")[1]
    seconds, modules = _run(statement)
    with capsys.disabled():
        print(f"\n{statement}: {seconds:.3f} s beside numpy's own import")
    assert set(modules) - set(bare) <= {"elastic_inference", "ei_for_tf"}
    assert "elastic_inference" in modules


def _run(statement: str) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(statement=statement)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, modules
