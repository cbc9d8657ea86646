"""The checks recorded from TensorFlow 1.15.5's own predictor, and how one is held against EIPredictor.

Also a program: `python -m tests.oracle.recorded FOLDER JSON_ARGUMENTS` prints a JSON object of note -> findings, for
interpreters in which TensorFlow is not to be had.
"""

from __future__ import annotations

import builtins
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from elastic_inference import EIPredictor

Case = dict[str, Any]
DEVIATION = "unknown signature key"  # the one case where we mean to answer otherwise


def read_cases(folder: Path) -> list[Case]:
    return list(json.loads((folder / "cases.json").read_text())["cases"])


def num_checks(cases: list[Case]) -> int:
    """One for each recorded call, and one for each constructor that must raise."""
    return sum(len(case["calls"]) + ("error" in case) for case in cases)


def findings(case: Case, folder: Path, make: Callable[..., EIPredictor] = EIPredictor) -> list[str]:
    """What differs from the record, a sentence each; empty where nothing does."""
    model = folder / "models" / case["model"]
    if case["note"].startswith(DEVIATION):
        return list(_deviation(case, model, make))
    try:
        predictor = make(str(model), **case["constructor"])
    except Exception as error:
        if "error" not in case:
            return [f"constructor raised {error!r}"]
        return list(_error(error, case["error"], folder))
    with predictor:
        if "error" in case:
            return [f"constructor did not raise {case['error']}"]
        found = [*_tensors(predictor, case)]
        for call in case["calls"]:
            found += _call(predictor, call, folder)
    return found


def _deviation(case: Case, model: Path, make: Callable[..., EIPredictor]) -> Iterator[str]:
    try:
        make(str(model), **case["constructor"]).close()
    except ValueError as error:
        keys = ("serving_default", "product", "difference", "both")
        if not all(key in str(error) for key in keys):
            yield f"the error does not list the signatures: {error}"
    else:
        yield "no error"


def _call(predictor: EIPredictor, call: Case, folder: Path) -> Iterator[str]:
    inputs = call["inputs"]
    value: Any = inputs.get("__not_a_dict__")
    if value is None:
        value = {alias: decode(item) for alias, item in inputs.items()}
    try:
        outputs = predictor(value)
    except Exception as error:
        if "error" in call:
            yield from _error(error, call["error"], folder)
        else:
            yield f"{value!r:.200} raised {error!r}"
        return
    if "error" in call:
        yield f"{value!r:.200} did not raise {call['error']}"
        return
    if type(outputs) is not dict or outputs.keys() != call["outputs"].keys():
        yield f"outputs {outputs!r:.200}"
        return
    for alias, wanted in call["outputs"].items():
        yield from _output(alias, outputs[alias], wanted, call["output_types"][alias])


def _output(alias: str, value: Any, wanted: Case, type_name: str) -> Iterator[str]:
    if type(value).__name__ != type_name:
        yield f"{alias} is a {type(value).__name__}, recorded was {type_name}"
    array = np.asarray(value, dtype=object if isinstance(value, bytes) else None)
    if str(array.dtype) != wanted["dtype"] or list(array.shape) != wanted["shape"]:
        yield f"{alias} is {array.dtype}{list(array.shape)}, recorded was {wanted['dtype']}{wanted['shape']}"
        return
    expected = decode({"array": wanted})
    if array.dtype.kind == "f":
        if not np.allclose(array, expected, rtol=1e-5, atol=1e-6, equal_nan=True):
            yield f"{alias} is {array}, recorded was {expected}"
    elif not np.array_equal(array, expected):
        yield f"{alias} is {array}, recorded was {expected}"


def _error(error: Exception, wanted: Case, folder: Path) -> Iterator[str]:
    cls = getattr(builtins, wanted["class"], None)
    if not (type(error).__name__ == wanted["class"] if cls is None else isinstance(error, cls)):
        yield f"raised {error!r}, recorded was {wanted}"
    text = str(error).replace(str(folder / "models"), "<models>")
    if _first_line(text) != _first_line(wanted["message"]):
        yield f"says {_first_line(text)!r}, recorded was {_first_line(wanted['message'])!r}"


def _first_line(text: str) -> str:
    """The first line, with what stands in a set in order, since Python's sets have none."""
    line = text.splitlines()[0]
    return re.sub(r"\{(.*?)\}", lambda m: "{" + ", ".join(sorted(m[1].split(", "))) + "}", line)


def _tensors(predictor: EIPredictor, case: Case) -> Iterator[str]:
    for name in ("feed_tensors", "fetch_tensors"):
        tensors = getattr(predictor, name)
        told = {
            alias: {"name": t.name, "dtype": t.dtype.name, "shape": shape_list(t.shape)}
            for alias, t in tensors.items()
        }
        if told != case[name]:
            yield f"{name} is {told}, recorded was {case[name]}"
        if any(predictor.graph.get_tensor_by_name(t.name) is not t for t in tensors.values()):
            yield f"the graph gives other tensors than {name}"
    if predictor.session.graph is not predictor.graph:
        yield "the session has another graph"


def shape_list(shape: Any) -> list[int | None] | None:
    return None if shape.ndims is None else shape.as_list()


def decode(item: Any) -> Any:
    """A recorded value: as Python wrote it, or an array; strings of arrays are bytes, kept as Latin-1."""
    if item is None or "json" in item:
        return item and item["json"]
    array = item["array"]
    if array["dtype"] != "object":
        return np.array(array["data"], dtype=array["dtype"]).reshape(array["shape"])
    flat = np.empty(len(array["data"]), dtype=object)
    flat[:] = [text.encode("latin-1") for text in array["data"]]
    return flat.reshape(array["shape"])


def main() -> None:
    folder, arguments = Path(sys.argv[1]), json.loads(sys.argv[2])

    def make(model: str, **constructor: Any) -> EIPredictor:
        return EIPredictor(model, **constructor, **arguments)

    cases = read_cases(folder)
    with make(str(folder / "models" / cases[0]["model"])):  # keeps an embedded accelerator until the end
        print(json.dumps({case["note"]: findings(case, folder, make) for case in cases}))


if __name__ == "__main__":
    main()
