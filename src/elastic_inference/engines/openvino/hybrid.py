"""TFLite models whose weights alone are quantized ("dynamic range"), which LiteRT computes otherwise than OpenVINO.

LiteRT rounds the other operand to int8 in each call and multiplies integers; OpenVINO makes floats of the weights. A
classifier of faces differs by 1.5% of its scores.
"""

from __future__ import annotations

from typing import Any

_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_HANDS_ON = ("Reshape", "Transpose", "Unsqueeze", "Multiply", "Subtract")


def hybrid_differences(model: Any) -> list[str]:
    """Return a sentence for the first product of floats with int8 weights in an ov.Model of a TFLite file."""
    for node in model.get_ops():
        if node.get_type_name() not in _PRODUCTS or not _has_int8_weights(node):
            continue
        if node.input_value(0).get_node().get_type_name() != "FakeQuantize":
            name = node.get_friendly_name()
            return [
                f"{node.get_type_name()} ({name!r}) of int8 weights takes its input as it is, not rounded to int8"
            ]
    return []


def _has_int8_weights(node: Any) -> bool:
    source = node.input_value(1).get_node()
    while source.get_type_name() in _HANDS_ON:
        source = source.input_value(0).get_node()
    if source.get_type_name() != "Convert":
        return False
    constant = source.input_value(0).get_node()
    return bool(
        constant.get_type_name() == "Constant" and constant.get_output_element_type(0).get_type_name() == "i8"
    )
