"""`tf.Example` for `:classify` and `:regress`: features of JSON serialized as the graph parses them, answers as lists.

Written by hand, because the accelerator has no TensorFlow where OpenVINO computes: an Example is a map of names to
lists of bytes, floats or int64.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.accelerator import json_tensors
from elastic_inference.accelerator.doors.tensorflow_serving.wire_format import field, varint
from elastic_inference.accelerator.request_tensors import Output
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature

_BYTES, _FLOATS, _INTEGERS = 1, 2, 3  # fields of Feature
_MAX_INT64 = (1 << 63) - 1


def examples_input(signature: Signature, name: str, verb: str) -> str:
    """Return the input that takes serialized examples; raises InvalidInput where the model has none.

    Args:
        name, verb: Of the model and of what is asked, for the error.
    """
    strings = [alias for alias, spec in signature.inputs.items() if spec.base_dtype == "string"]
    if len(signature.inputs) != 1 or not strings:
        raise InvalidInput(
            f"{verb} needs a signature of one string input, which takes serialized examples; {name!r:.80} has "
            f"{sorted(signature.inputs)}; use predict"
        )
    return strings[0]


def encode_examples(examples: Any, context: Any) -> npt.NDArray[Any]:
    """Return a serialized `tf.Example` for each.

    Args:
        examples: Objects of feature names to a value or a list of values of one type.
        context: Features that all have in common.

    Returns:
        bytes objects, [number of examples].

    Raises:
        InvalidInput: They are something else.
    """
    if not isinstance(examples, list) or not examples:
        raise InvalidInput("examples must be a list of at least one object of features")
    if not isinstance(context, dict):
        raise InvalidInput("context must be an object of features")
    found = np.empty(len(examples), dtype=object)
    for number, example in enumerate(examples):
        if not isinstance(example, dict):
            raise InvalidInput(f"examples[{number}] must be an object of features, not {example!r:.80}")
        found[number] = encode_example({**context, **example})
    return found


def encode_example(features: Mapping[str, Any]) -> bytes:
    """Serialize one `tf.Example`."""
    entries = b"".join(
        field(1, field(1, name.encode()) + field(2, _feature(name, value)))
        for name, value in features.items()
    )
    return field(1, entries)


def answers_of(verb: str, outputs: Sequence[Output]) -> list[Any]:
    """Return the answers of each example: pairs of label and score, or the one value of a regression.

    Raises:
        InvalidInput: The model's outputs are not those of such a signature.
    """
    arrays = {output.wanted.name: output for output in outputs}
    if verb == "regress":
        values = arrays.get("outputs")
        if len(arrays) != 1 or values is None or values.array.ndim not in (1, 2):
            raise InvalidInput(
                f"a regression has one output 'outputs' of a value a row; the model has {sorted(arrays)}"
            )
        return list(json_tensors.from_array(values.array.reshape(len(values.array), -1)[:, 0], values.dtype))
    classes, scores = arrays.get("classes"), arrays.get("scores")
    if classes is None and scores is None:
        raise InvalidInput(
            f"a classification has outputs 'classes' or 'scores'; the model has {sorted(arrays)}"
        )
    labels = None if classes is None else json_tensors.from_array(classes.array, classes.dtype)
    numbers = None if scores is None else json_tensors.from_array(scores.array, scores.dtype)
    if labels is None:
        return [[["", score] for score in row] for row in numbers or ()]
    if numbers is None:
        return [[[str(label), 0.0] for label in row] for row in labels]
    return [
        [[str(label), score] for label, score in zip(*pair, strict=True)]
        for pair in zip(labels, numbers, strict=True)
    ]


def _feature(name: str, value: Any) -> bytes:
    values = value if isinstance(value, list) else [value]
    if values and all(isinstance(one, str) or json_tensors.is_bytes(one) for one in values):
        strings = (field(1, json_tensors.to_bytes(one, name)) for one in values)
        return field(_BYTES, b"".join(strings))
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in values):
        raise InvalidInput(f"feature {name!r} must be numbers or strings, all of one type, not {value!r:.80}")
    if all(isinstance(one, int) for one in values):
        if any(abs(one) > _MAX_INT64 for one in values):
            raise InvalidInput(f"feature {name!r} holds a number beyond int64")
        return field(_INTEGERS, field(1, b"".join(varint(one & (1 << 64) - 1) for one in values)))
    return field(_FLOATS, field(1, struct.pack(f"<{len(values)}f", *values)))
