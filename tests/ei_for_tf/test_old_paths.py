"""Programs written for Amazon's package or for tf.contrib.predictor import and construct as before."""

from __future__ import annotations

from pathlib import Path

import pytest

import elastic_inference.keras
from ei_for_tf.python.keras.ei_keras import EIKerasModel
from ei_for_tf.python.predictor.ei_predictor import EIPredictor
from elastic_inference import predictor
from elastic_inference.errors import UnsupportedModel
from tests.oracle import MODELS


def test_amazons_import_paths_give_our_classes() -> None:
    assert EIPredictor is elastic_inference.EIPredictor
    assert EIKerasModel is elastic_inference.keras.EIKerasModel


@pytest.fixture(scope="module")
def arithmetic() -> Path:
    return MODELS / "arithmetic"


def test_from_saved_model_takes_contribs_arguments_in_their_order(arithmetic: Path) -> None:
    with predictor.from_saved_model(str(arithmetic), "product") as product:
        assert product({"x": [2.0], "y": [8.0]})["outputs"].tolist() == [16.0]
    names = ({"a": "x:0", "b": "y:0"}, {"c": "sum:0"})
    with predictor.from_saved_model(arithmetic, None, None, *names, "serve,gpu", None, None) as named:
        assert named({"a": [2.0], "b": [8.0]})["c"].tolist() == [10.0]


@pytest.mark.parametrize("make", [predictor.from_estimator, predictor.from_contrib_estimator])
def test_estimators_are_refused_with_what_to_do_instead(make: object) -> None:
    with pytest.raises(UnsupportedModel, match="export_saved_model"):
        make(object(), lambda: None)  # type: ignore[operator]
