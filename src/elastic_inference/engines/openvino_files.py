"""Models on OpenVINO whose files name their own inputs and outputs: ONNX and TFLite."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
from openvino.frontend import FrontEndManager

from elastic_inference.engines import openvino_compile
from elastic_inference.engines.base import Arrays, EngineOptions, LoadedModel
from elastic_inference.engines.openvino_limits import narrow_dtype_notes, refuse_out_of_range
from elastic_inference.engines.openvino_runner import Runner
from elastic_inference.errors import InvalidArgumentError, InvalidModel, UnsupportedModel
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.resolve import named_signature
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.tensors import TensorSpec

_DTYPES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "boolean": "bool", "string": "string",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip
_FRONT_ENDS = {ModelFormat.ONNX: "onnx", ModelFormat.TFLITE: "tflite"}
