"""Examples of TensorFlow Serving's classify and regress: what TensorFlow itself reads of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from elastic_inference.accelerator.doors.tensorflow_serving.examples import answers_of, encode_examples
from elastic_inference.accelerator.request_tensors import Output
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.heads import WantedOutput


def test_tensorflow_reads_what_is_written() -> None:
    tf = pytest.importorskip("tensorflow")
    features = {
        "age": 42, "far": [-1, 2**62], "half": 0.5, "many": [1.5, 2], "name": "K\u00f6ln", "raw": {"b64": "/wA="},
        "none": [],
    }  # fmt: skip
    (data,) = encode_examples([features], {"half": 9.0, "common": "c"})
    read = tf.train.Example.FromString(data).features.feature
    assert list(read["age"].int64_list.value) == [42]
    assert list(read["far"].int64_list.value) == [-1, 2**62]
    assert list(read["half"].float_list.value) == [0.5]  # an example's own feature goes before the common one
    assert list(read["many"].float_list.value) == [1.5, 2.0]
    assert list(read["name"].bytes_list.value) == ["K\u00f6ln".encode()]
    assert list(read["raw"].bytes_list.value) == [b"\xff\x00"]
    assert list(read["common"].bytes_list.value) == [b"c"]
    assert set(read) == {*features, "common"}


@pytest.mark.parametrize(
    ("examples", "context", "told"),
    [
        (None, {}, "examples must be a list"),
        ([], {}, "examples must be a list"),
        ([1], {}, r"examples\[0\] must be an object"),
        ([{}], [], "context must be an object"),
        ([{"a": None}], {}, "feature 'a' must be numbers or strings"),
        ([{"a": [1, "b"]}], {}, "all of one type"),
        ([{"a": True}], {}, "feature 'a'"),
        ([{"a": 2**63}], {}, "beyond int64"),
        ([{"a": {"b64": "?"}}], {}, "no base64"),
    ],
)
def test_other_examples_are_refused(examples: Any, context: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        encode_examples(examples, context)


def output(name: str, values: Any, dtype: str) -> Output:
    kind = object if dtype == "string" else dtype
    return Output(WantedOutput(name, True), dtype, np.array(values, kind))


def test_answers_are_pairs_or_values() -> None:
    classes = output("classes", [[b"cat", b"dog"]], "string")
    scores = output("scores", [[0.1, 0.9]], "float32")
    assert answers_of("classify", [classes, scores]) == [[["cat", 0.1], ["dog", 0.9]]]
    assert answers_of("classify", [scores]) == [[["", 0.1], ["", 0.9]]]
    assert answers_of("classify", [classes]) == [[["cat", 0.0], ["dog", 0.0]]]
    assert answers_of("regress", [output("outputs", [[2.5], [3.0]], "float32")]) == [2.5, 3.0]


def test_outputs_of_another_signature_are_refused() -> None:
    for verb in ("classify", "regress"):
        with pytest.raises(InvalidInput, match="the model has"):
            answers_of(verb, [output("y", [1.0], "float32")])
