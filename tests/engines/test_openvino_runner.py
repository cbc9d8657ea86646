"""A compiled model's infer requests: what their inputs are bound to from call to call."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

from elastic_inference.engines.openvino.runner import Runner
from elastic_inference.errors import ElasticInferenceError


def test_memory_that_comes_again_is_read_again() -> None:
    x = ops.parameter([-1, 2], np.float32)
    runner = Runner(ov.compile_model(ov.Model([ops.multiply(x, ops.constant(np.float32(2)))], [x]), "CPU"))
    memory = np.arange(8, dtype=np.float32)
    seen = memory.view()
    seen.flags.writeable = False  # as what lies in a client's request
    for rows in (seen[:4], seen[:4], seen, seen[2:6], seen[:4]):
        memory += 1  # the client's next values
        (doubled,) = runner.run([rows.reshape(-1, 2)])
        assert doubled.tolist() == (2 * rows.reshape(-1, 2)).tolist()


def test_input_that_cannot_be_bound_leaves_the_next_call_alone() -> None:
    x = ops.parameter([2, 2], np.float32)
    runner = Runner(ov.compile_model(ov.Model([ops.negative(x)], [x]), "CPU"))
    good = np.ones((2, 2), np.float32)
    for _ in range(2):
        with pytest.raises(ElasticInferenceError):
            runner.run([np.ones((3, 2), np.float32)])
        assert runner.run([good])[0].tolist() == (-good).tolist()
