"""Every recorded answer of TensorFlow 1.15's predictor, from resolving names to predicting, on both engines.

What the client itself checks (keys, casts, shapes of inputs) is tested with the client.
"""

from __future__ import annotations

from typing import Any

import pytest

from elastic_inference.client.casting import cast
from elastic_inference.errors import ElasticInferenceError, SignatureNotFound
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.tensors import TensorSpec
from tests.engines import oracle
from tests.engines.conftest import Load
from tests.oracle import MODELS

NUM_CASES = 33


def test_all_recorded_cases_are_run() -> None:
    assert len(oracle.cases()) == NUM_CASES


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
@pytest.mark.parametrize("number", range(NUM_CASES))
def test_recorded_case(load: Load, number: int, engine: str) -> None:
    case = oracle.cases()[number]
    path = MODELS / case["model"]

    def make() -> Any:
        return load(path, SignatureRequest(**case["constructor"]), engine=engine)

    if case["constructor"].get("signature_def_key") == "nope":  # our one deviation: TensorFlow gave no error
        with pytest.raises(SignatureNotFound, match="'both', 'difference', 'product', 'serving_default'"):
            make()
        return
    if "error" in case:
        with pytest.raises(ElasticInferenceError) as caught:
            make()
        oracle.assert_error(caught.value, case["error"], models=str(MODELS))
        return
    model = make()
    assert _described(model.signature.inputs) == case["feed_tensors"]
    assert _described(model.signature.outputs) == case["fetch_tensors"]
    for call in case["calls"]:
        _check_call(model, call)


def _described(specs: dict[str, TensorSpec]) -> dict[str, Any]:
    return {
        alias: {"name": spec.name, "dtype": spec.dtype, "shape": (spec.shape and list(spec.shape)) or []}
        for alias, spec in specs.items()
    }


def _check_call(model: Any, call: dict[str, Any]) -> None:
    error = call.get("error")
    if error and error["class"] in ("ValueError", "AttributeError"):
        return
    inputs = {
        alias: cast(oracle.value_of(value), model.signature.inputs[alias].numpy_dtype)
        for alias, value in call["inputs"].items()
        if value is not None
    }
    if error is None:
        oracle.assert_outputs(model.predict(inputs), call["outputs"])
        return
    with pytest.raises(ElasticInferenceError) as caught:
        model.predict(inputs)
    oracle.assert_error(caught.value, error, models="")
