"""List what OpenVINO computes otherwise: `python -m tests.engines.probe [part of a name]`, a line each.

A line is the reference, the case and the difference, separated by tabs.
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import openvino  # noqa: F401  # before the forks, so that no child imports it again

from tests.engines.probe import onnx_cases, tensorflow_cases
from tests.engines.probe.case import Case, answer, difference

SAME = "the same, or an error"
REFERENCES = ((tensorflow_cases, "tensorflow"), (onnx_cases, "onnxruntime"))


def main(part: str, folder: Path) -> None:
    """Run each case on OpenVINO in a process of its own, since it may end it; then all of them on their references."""
    wanted = [
        (case, reference)
        for module, reference in REFERENCES
        for cases in (module.ROWS, module.INTEGERS, module.CALLS, module.TAKEN)
        for case in cases
        if part in case.name
    ]
    models, answers = [], []
    for number, (case, _) in enumerate(wanted):
        place = folder / str(number)
        place.mkdir()
        models.append(case.write(place))
        answers.append(_on_openvino(models[-1], case, place / "answer"))
    for (case, reference), model, ours in zip(wanted, models, answers, strict=True):
        text = ours if isinstance(ours, str) else difference(ours, answer(model, reference, case.inputs))
        print(reference, case.name, " ".join(text.split()) or SAME, sep="\t", flush=True)


def _on_openvino(model: Path, case: Case, kept: Path) -> Any:
    """Its answer, or how it ended the process; the answer comes from a child of ours, so that it may be unpickled."""
    child = os.fork()
    if child == 0:
        kept.write_bytes(pickle.dumps(answer(model, "openvino", case.inputs)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return f"ended the process with {status}" if status else pickle.loads(kept.read_bytes())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else "", Path(temporary))
