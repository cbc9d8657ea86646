"""Small models, one for each kind of fault that was found with other people's, through predictors of both kinds.

`expected.json` has the inputs and what the model's own runtime answers: numbers (null is NaN), texts, or the class that
it raises.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.client.predictor import EIPredictor
from elastic_inference.deadline import Deadline
from elastic_inference.errors import ElasticInferenceError

pytest.importorskip("tensorflow")
CASES = Path(__file__).parents[1] / "engines/data/cases"
EXPECTED: dict[str, Any] = json.loads((CASES / "expected.json").read_text())


def array(recorded: dict[str, Any]) -> Any:
    data = recorded["data"]
    if recorded["dtype"] == "string":
        made = np.empty(len(data), dtype=object)
        made[:] = [text.encode() for text in data]
    else:
        made = np.array([np.nan if value is None else value for value in data], recorded["dtype"])
    return made.reshape(recorded["shape"])


def assert_array(got: Any, wanted: Any) -> None:
    assert (np.asarray(got).dtype, np.shape(got)) == (wanted.dtype, wanted.shape)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_array_equal(got, wanted)


def assert_outputs(outputs: dict[str, Any], recorded: dict[str, Any]) -> None:
    for alias, wanted in recorded.items():
        if isinstance(wanted, list):  # a sequence of maps: an array with a column for each key
            assert_array(outputs[alias], np.array([list(row.values()) for row in wanted], np.float32))
        else:
            assert_array(outputs[alias] if alias != "*" else next(iter(outputs.values())), array(wanted))


@pytest.fixture(params=[True, False], ids=["embedded", "in process"])
def use_ei(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras uses what numpy deprecates
@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "keras2_lstm.h5"])
def test_case(name: str, use_ei: bool) -> None:
    expected = EXPECTED[name]
    with EIPredictor(CASES / name, use_ei=use_ei) as predictor:
        aliases = list(predictor.feed_tensors)
        inputs = {
            (alias if alias in aliases else aliases[0]): array(value)
            for alias, value in expected["inputs"].items()
        }
        if "raises" in expected:
            with pytest.raises(ElasticInferenceError) as raised:
                predictor(inputs)
            assert type(raised.value).__name__ == expected["raises"]
        else:
            assert_outputs(predictor(inputs), expected["outputs"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_file_of_keras_2(use_ei: bool) -> None:
    path = CASES / "keras2_lstm.h5"
    if importlib.util.find_spec("tf_keras") is None:
        with pytest.raises(ElasticInferenceError, match=r"Keras 2.* wrote the file: install tf_keras"):
            EIPredictor(path, use_ei=use_ei)
        return
    import tf_keras

    x = np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 4, 3)
    with EIPredictor(path, use_ei=use_ei) as predictor:
        (got,) = predictor({"x": x}).values()
    np.testing.assert_allclose(got, tf_keras.models.load_model(path)(x).numpy(), rtol=1e-4, atol=1e-5)


def test_two_predictors_have_a_state_each(use_ei: bool) -> None:
    inputs = {"x": np.float32([1])}
    with (
        EIPredictor(CASES / "counter", use_ei=use_ei) as one,
        EIPredictor(CASES / "counter", use_ei=use_ei) as other,
    ):
        assert [int(one(inputs)["n"]) for _ in range(3)] == [1, 2, 3]
        assert int(other(inputs)["n"]) == 1
        assert any("no warm-up" in note for note in one.report.notes)


def test_model_that_was_one_predictors_alone_is_gone_with_it() -> None:
    with EIPredictor(CASES / "unique_values") as first:
        pool = first._model._pool  # type: ignore[attr-defined]  # of the accelerator that both share
        with EIPredictor(CASES / "counter") as predictor:
            predictor({"x": np.float32([1])})
            with pool.connection(Deadline(10.0)) as connection:
                assert len(connection.call("GET", "/v2/accelerator")["models"]) == 2
        with pool.connection(Deadline(10.0)) as connection:
            assert len(connection.call("GET", "/v2/accelerator")["models"]) == 1


def test_strings_that_are_not_utf_8(use_ei: bool) -> None:
    with EIPredictor(CASES / "string_labels.onnx", use_ei=use_ei) as predictor:
        assert predictor({"x": [b"green", "red", "b'red'"]})["y"].tolist() == [2, 1, -1]
        with pytest.raises(ElasticInferenceError, match="input 'x' holds a string that is not UTF-8"):
            predictor({"x": [b"\xff"]})


def test_timestamps_of_both_sizes(use_ei: bool) -> None:
    with EIPredictor(CASES / "timestamp_ms", use_ei=use_ei) as predictor:
        assert predictor({"t": [3_600_000]})["hour"].tolist() == [1]
        assert predictor({"t": [1_700_000_000_000]})["hour"].tolist() == [22]


def test_errors_name_the_users_own_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(ElasticInferenceError, match=f"{path} ") as told:
        EIPredictor(path)
    assert "elastic-inference-" not in str(told.value).replace(str(path), "")
