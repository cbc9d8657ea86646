"""A compiled OpenVINO model that several threads may run at once: positional arrays in, positional arrays out."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt
import openvino as ov

from elastic_inference.engines.views import as_writeable
from elastic_inference.errors import (
    ElasticInferenceError,
    InvalidArgumentError,
    MemoryQuotaExceeded,
    ModelError,
    PredictorClosed,
)

# Texts of OpenVINO 2026.4 for values that do not fit the graph; it has one exception class for everything.
_SHAPE_TEXTS = re.compile(
    r"shape infer|incompatible|mismatch|must be equal|not compatible|isn't equal|inconsistent|ParameterMismatch"
    r"|out of (bounds|range)|broadcast|can't be reshaped|dimension",
    re.IGNORECASE,
)
_INCONSISTENT_SHAPES = re.compile(
    r"While validating node [^(]*\([^()]*?:\w+\[([\d,]*)\],[^()]*?:\w+\[([\d,]*)\]\)"
)
NO_MEMORY_TEXTS = re.compile(
    r"bad_alloc|out of memory|(cannot|can't|failed to|could not) alloc", re.IGNORECASE
)


class Runner:
    """A compiled model and its infer requests: one for each concurrent call, made when first needed and kept.

    Args:
        memory: What the model's weights lie in, if it is not OpenVINO's own; kept until the last call has returned.
    """

    def __init__(self, compiled: ov.CompiledModel, memory: object = None) -> None:
        self.compiled: Any = compiled  # None once closed
        self._idle: deque[Any] = deque()  # append and pop are atomic
        self._num_outputs = len(compiled.outputs)
        self._memory = memory  # the last attribute, so that it goes after all that uses it; `close` leaves it

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run once; input arrays are read in place, output arrays are the caller's to keep."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._new_request()
        try:
            for index, array in enumerate(inputs):
                request.bind(index, array)
            request.infer()
            return [request.get_output_tensor(index).data.copy() for index in range(self._num_outputs)]
        except (RuntimeError, MemoryError, ValueError) as error:
            raise translated(error) from error
        finally:
            if self.compiled is not None:
                self._idle.append(request)

    def empty(self) -> None:
        """Free the idle requests, and the memory that the compiled model keeps for the shapes of earlier calls."""
        compiled = self.compiled
        self._idle.clear()
        if compiled is not None:
            compiled.release_memory()

    def close(self) -> None:
        """Free the requests and the compiled model."""
        self.compiled = None
        self._idle.clear()

    def _new_request(self) -> Any:
        compiled = self.compiled
        if compiled is None:
            raise PredictorClosed("the model was closed")
        try:
            return _Request(compiled.create_infer_request(), len(compiled.inputs))
        except (RuntimeError, MemoryError) as error:
            raise translated(error) from error


class _Request:
    """An infer request that knows which memory its inputs are bound to.

    A client's calls come through the same shared memory or the same kept buffer again and again. To bind that anew took
    40 us of a call where the model before it had emptied the caches, 11 us else.
    """

    def __init__(self, request: Any, num_inputs: int) -> None:
        self.infer = request.infer
        self.get_output_tensor = request.get_output_tensor
        self._set_input_tensor = request.set_input_tensor
        self._bound: list[tuple[Any, ...] | None] = [None] * num_inputs

    def bind(self, index: int, array: npt.NDArray[Any]) -> None:
        """Let an input be read from an array's memory."""
        interface = array.__array_interface__
        memory = interface["data"][0], interface["shape"], interface["typestr"], interface["strides"]
        # A tensor is an address, a shape and a type; whose memory it was before does not matter.
        if memory != self._bound[index]:
            self._bound[index] = None  # if binding fails, it is unknown
            self._set_input_tensor(index, _shared(array))
            self._bound[index] = memory


def _shared(array: npt.NDArray[Any]) -> ov.Tensor:
    if not array.flags.writeable:
        # OpenVINO's binding takes only writeable arrays by reference, though its CPU plugin never writes to an input.
        array = as_writeable(array)
    return ov.Tensor(array, shared_memory=True)


def translated(error: Exception) -> ElasticInferenceError:
    """Our error for one that OpenVINO raised while it ran a model."""
    text = last_line(error)
    if isinstance(error, MemoryError) or NO_MEMORY_TEXTS.search(str(error)):
        return MemoryQuotaExceeded(f"OpenVINO could not get the memory for this request: {text}")
    if _SHAPE_TEXTS.search(str(error)):
        return InvalidArgumentError(f"The graph refused the values: {text}")
    return ModelError(f"OpenVINO failed: {text}")


def shape_of_port(port: Any) -> tuple[int | None, ...] | None:
    """Return a port's partial shape as `TensorSpec` writes shapes."""
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return None
    return tuple(size.get_length() if size.is_static else None for size in shape)


def shape_conflict(model: ov.Model, shapes: Mapping[str, list[int]]) -> str | None:
    """Return what TensorFlow says when tensors of these shapes do not fit together within the model.

    Args:
        model: Is reshaped, so that OpenVINO tells both shapes; when a compiled model runs, it tells neither.
        shapes: Name of an input's tensor -> its shape.

    Returns:
        None where the shapes fit, or where OpenVINO complains of something else.
    """
    try:
        model.reshape(dict(shapes))
    except RuntimeError as error:
        conflict = _INCONSISTENT_SHAPES.search(str(error))
        if conflict and "Argument shapes are inconsistent" in str(error):
            return f"Incompatible shapes: [{conflict[1]}] vs. [{conflict[2]}]"
    return None


def last_line(error: Exception) -> str:
    """Return the innermost statement of OpenVINO's nested texts, without its source locations."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from")] or lines
    return " ".join(told[-2:]) if told else type(error).__name__
