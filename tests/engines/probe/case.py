"""One small model on OpenVINO and on the reference of its format, and how their answers differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

Arrays = dict[str, np.ndarray[Any, Any]]
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """A model of one operation, and inputs for which OpenVINO is known to differ.

    Attributes:
        name: What is probed, such as `Sum int32`.
        write: Writes the model into a folder and returns its path.
        inputs: Of the call.
        says: A part of what is said of the model; "" where the model is taken and the call is what is told.
    """

    name: str
    write: Callable[[Path], Path]
    inputs: Arrays
    says: str = ""


def answer(path: Path, engine: str, inputs: Arrays) -> Arrays | ElasticInferenceError:
    """The outputs of one call on one engine, or what it raised."""
    request = SignatureRequest()
    try:
        model = select.load(ModelPackage.read(path), request, EngineOptions(engine=engine, num_threads=1))
    except ElasticInferenceError as error:
        return error
    try:
        return {alias: np.asarray(value) for alias, value in model.predict(inputs).items()}
    except ElasticInferenceError as error:
        return error
    finally:
        model.close()


def difference(ours: Arrays | ElasticInferenceError, theirs: Arrays | ElasticInferenceError) -> str:
    """How two answers differ, "" where they agree or where ours is an error, which nobody takes for an answer."""
    if isinstance(ours, ElasticInferenceError):
        return ""
    if isinstance(theirs, ElasticInferenceError):
        return f"an answer instead of: {theirs}"
    for alias, wanted in theirs.items():
        if ours[alias].shape != wanted.shape:
            return f"{alias}: shape {ours[alias].shape} instead of {wanted.shape}"
        if not agrees(ours[alias], wanted):
            return f"{alias}: {ours[alias].ravel()[:4]} instead of {wanted.ravel()[:4]}"
    return ""


def agrees(got: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    """Whether arrays are equal, floats within the tolerance; NaN is equal to NaN."""
    if wanted.dtype.kind not in "fc":
        return bool(np.array_equal(got, wanted))
    with np.errstate(all="ignore"):
        return bool(np.allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def make_inputs(values: Mapping[str, tuple[str, Any]]) -> Arrays:
    """alias -> (dtype, nested list) as arrays."""
    return {alias: np.asarray(value, dtype) for alias, (dtype, value) in values.items()}
