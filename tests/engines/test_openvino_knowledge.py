"""What OpenVINO computes otherwise goes to the reference, and each thing that we say of it is still so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.openvino import kernels, rows
from elastic_inference.errors import ElasticInferenceError, EngineNotAvailable
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest
from tests.engines.probe import onnx_cases, tensorflow_cases
from tests.engines.probe.__main__ import SAME
from tests.engines.probe.case import Case, answer, difference

pytest.importorskip("tensorflow")
ROOT = Path(__file__).parents[2]
MODULES = ((tensorflow_cases, "tensorflow"), (onnx_cases, "onnxruntime"))


def cases(*kinds: str) -> list[object]:
    return [
        pytest.param(case, reference, id=f"{reference} {case.name}")
        for module, reference in MODULES
        for kind in kinds
        for case in getattr(module, kind)
    ]


@pytest.mark.parametrize(("case", "reference"), cases("ROWS", "INTEGERS"))
def test_known_difference_goes_to_the_reference(tmp_path: Path, case: Case, reference: str) -> None:
    package = ModelPackage.read(case.write(tmp_path))
    model = select.load(package, SignatureRequest(), EngineOptions(num_threads=1))
    assert model.report.engine == reference
    (note,) = model.report.notes
    assert note.startswith("Engine openvino was not taken: OpenVINO would not compute it as it is written")
    assert case.says in note
    model.close()


@pytest.fixture(scope="module")
def probed() -> dict[tuple[str, str], str]:
    """(reference, name of the case) -> how OpenVINO differs; in other processes, since it ends some of them."""
    command = [sys.executable, "-m", "tests.engines.probe"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=120,
    )
    lines = (line.split("\t") for line in done.stdout.splitlines())
    return {(reference, name): text for reference, name, text in lines}


@pytest.mark.parametrize(("case", "reference"), cases("ROWS", "INTEGERS"))
def test_openvino_has_not_learned_it(probed: dict[tuple[str, str], str], case: Case, reference: str) -> None:
    """Where this fails, OpenVINO computes it right, and the row that says otherwise can go."""
    assert probed[reference, case.name] != SAME


@pytest.mark.parametrize(("case", "reference"), cases("CALLS"))
def test_call_that_openvino_would_answer_otherwise(tmp_path: Path, case: Case, reference: str) -> None:
    path = case.write(tmp_path)
    expected = answer(path, reference, case.inputs)
    for engine in ("auto", "openvino"):
        assert not difference(answer(path, engine, case.inputs), expected)
    if not isinstance(expected, ElasticInferenceError):
        assert isinstance(answer(path, "auto", case.inputs), dict)


@pytest.mark.parametrize(("case", "reference"), cases("TAKEN"))
def test_ordinary_model_stays_on_openvino(tmp_path: Path, case: Case, reference: str) -> None:
    path = case.write(tmp_path)
    model = select.load(ModelPackage.read(path), SignatureRequest(), EngineOptions(num_threads=1))
    assert (model.report.engine, model.report.notes) == ("openvino", ())
    model.close()
    expected = answer(path, reference, case.inputs)
    assert isinstance(expected, dict)
    ours = answer(path, "auto", case.inputs)
    assert isinstance(ours, dict)
    assert not difference(ours, expected)


def test_every_row_has_a_case() -> None:
    said = {
        word for module, _ in MODULES for case in module.ROWS for word in f"{case.name} {case.says}".split()
    }
    known = (*rows.TENSORFLOW_ROWS, *rows.ONNX_ROWS)
    # Known from the standard's own examples or from reading, and not run by the reference or refused by OpenVINO.
    assert {row.ops[0] for row in known if not said & set(row.ops)} <= NOT_COMPARED


NOT_COMPARED = {
    "CTCBeamSearchDecoder", "CheckNumerics", "EnsureShape", "Upsample", "SpaceToDepth", "DFT", "Attention",
    "QuantizeLinear", "Cast", "BatchNormalization", "RandomNormal",
}  # fmt: skip


def test_every_kernel_row_has_a_case(tmp_path: Path) -> None:
    import openvino as ov

    kinds: set[str] = set()
    for number, case in enumerate(tensorflow_cases.INTEGERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = ov.Core().read_model(case.write(folder))
        kinds |= {node.get_type_name() for node in model.get_ordered_ops()}
    wanted = set(kernels.ARITHMETIC) - {
        "Greater",
        "GreaterEqual",
        "Clamp",
        "TopK",
        "ReduceL1",
        "SquaredDifference",
    }
    assert wanted - kinds == set()


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_nan_without_the_reference_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    (case,) = (case for case in tensorflow_cases.CALLS if case.name == "Relu of NaN")
    model = select.load(
        ModelPackage.read(case.write(tmp_path)), SignatureRequest(), EngineOptions(engine=engine)
    )
    monkeypatch.setattr("elastic_inference.engines.registry.Engine.is_installed", lambda _: False)
    with pytest.raises(
        ElasticInferenceError, match=r"holds NaN or infinite values.*engine tensorflow takes them"
    ) as told:
        model.predict(case.inputs)
    assert ("install elastic-inference[tensorflow]" in str(told.value)) == (engine == "auto")
    model.close()


def test_reference_answers_one_call_and_the_report_says_so(tmp_path: Path) -> None:
    (case,) = (case for case in tensorflow_cases.CALLS if case.name == "Relu of NaN")
    model = select.load(ModelPackage.read(case.write(tmp_path)), SignatureRequest(), EngineOptions())
    assert np.isnan(model.predict(case.inputs)["y0"]).any()
    (note,) = model.report.notes
    assert note.startswith("Engine tensorflow answers some calls: input 'x0' holds NaN")
    assert model.report.engine == "openvino"
    assert model.predict({"x0": np.float32([[-1, 2]])})["y0"].tolist() == [[0, 2]]
    model.close()


def test_models_of_known_difference_without_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (case,) = (case for case in tensorflow_cases.ROWS if case.name == "Unique")
    package = ModelPackage.read(case.write(tmp_path))

    def missing(*_: object) -> None:
        raise EngineNotAvailable(
            "engine tensorflow is not installed here; install elastic-inference[tensorflow]"
        )

    monkeypatch.setattr("elastic_inference.engines.tensorflow.load", missing)
    with pytest.raises(
        ElasticInferenceError, match=r"as it is written: Unique .*install elastic-inference\[tensorflow\]"
    ):
        select.load(package, SignatureRequest(), EngineOptions())
    model = select.load(package, SignatureRequest(), EngineOptions(engine="openvino"))
    assert model.report.notes[0].startswith("OpenVINO does not compute this model as it is written: Unique")
    model.close()
