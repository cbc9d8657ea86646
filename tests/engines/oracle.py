"""What TensorFlow 1.15's own predictor returned and raised, as recorded, and how our answers are compared with it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np

from tests.oracle import FOLDER

Json = dict[str, Any]


@cache
def cases() -> list[Json]:
    """The recorded cases."""
    loaded: list[Json] = json.loads((FOLDER / "cases.json").read_text())["cases"]
    return loaded


def value_of(recorded: Any) -> Any:
    """An input as it was given: plain Python, None, or an array."""
    if recorded is None or "json" in recorded:
        return None if recorded is None else recorded["json"]
    return array_of(recorded["array"])


def array_of(recorded: Json) -> np.ndarray[Any, Any]:
    """A recorded array; strings are object arrays of bytes."""
    data = recorded["data"]
    if recorded["dtype"] == "object":
        array = np.empty(np.size(data), dtype=object)
        array[:] = [item.encode("latin-1") for item in np.ravel(np.array(data, dtype=object))]
    else:
        array = np.array(data, dtype=recorded["dtype"])
    return array.reshape(recorded["shape"])


def assert_outputs(outputs: dict[str, Any], recorded: Json) -> None:
    """Names, dtypes and shapes are equal; floating point values within 1e-5 of the recorded ones, others equal."""
    assert set(outputs) == set(recorded)
    for alias, wanted in recorded.items():
        expected, got = array_of(wanted), outputs[alias]
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, expected)


def assert_error(error: Exception, recorded: Json, *, models: str) -> None:
    """The error is of the recorded class, or of a class of that name, and its first line is the recorded one."""
    assert recorded["class"] in [kind.__name__ for kind in type(error).__mro__], error
    wanted = str(recorded["message"]).replace("<models>", models).splitlines()[0]
    if recorded["class"] == "KeyError":  # whose text is the repr of its argument
        wanted = json.loads(wanted)
    assert str(error.args[0]).splitlines()[0] == wanted
