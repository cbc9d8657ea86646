"""From a request's head and bytes to the arrays that a model takes, and from its arrays to what an answer has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from elastic_inference.accelerator.classification import classify
from elastic_inference.accelerator.expectations import labels
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.regions import RegionTable
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import InvalidInput
from elastic_inference.models.signature import Signature
from elastic_inference.protocol import arrays as wire
from elastic_inference.protocol.heads import RequestHead, TensorPart, WantedOutput
from elastic_inference.tensors import WIRE_NAMES, shape_text


class Output(NamedTuple):
    """One output of an answer.

    Attributes:
        size_bytes: What was written to `wanted.range`; 0 where the tensor goes with the answer.
    """

    wanted: WantedOutput
    dtype: str
    array: npt.NDArray[Any]
    size_bytes: int = 0


class RequestTensors:
    """Reads and writes the tensors of all requests.

    Args:
        regions: The clients' shared memory.
    """

    def __init__(self, regions: RegionTable) -> None:
        self._regions = regions

    def inputs(
        self, head: RequestHead, tensors: Sequence[memoryview], entry: ModelEntry, signature: Signature
    ) -> dict[str, npt.NDArray[Any]]:
        """Return a request's arrays, checked against the model; InvalidInput that says what does not fit.

        A client's requests have the same head, as the same object, which is checked once in a row.

        Args:
            tensors: The bytes of those inputs that come with the request, in their order in the head.
        """
        given = iter(tensors)
        if entry.fitting is head:
            return {part.name: self._array(part, given) for part in head.inputs}
        _check_inputs(head, signature)
        arrays = {part.name: self._array(part, given) for part in head.inputs}
        _check_names(head, signature)
        if all(part.data is None for part in head.inputs):  # else its tensors would be kept with it
            entry.fitting = head
        return arrays

    def _array(self, part: TensorPart, given: Iterator[memoryview]) -> npt.NDArray[Any]:
        if part.data is not None:
            return wire.from_json(part.data, part.dtype, part.shape, part.name)
        view = self._regions.view(part.range) if part.range is not None else next(given)
        return wire.view_of(view, part.dtype, part.shape, part.name)

    def outputs(
        self, head: RequestHead, arrays: Arrays, entry: ModelEntry, signature: Signature
    ) -> list[Output]:
        """Return what the answer has: the outputs that the request wants, those in shared memory written there.

        Args:
            entry: May have been unloaded since it ran.
        """
        own = signature.outputs
        wanted = head.outputs
        if wanted is None:
            is_binary = head.is_binary_default
            return [
                Output(WantedOutput(name, is_binary), own[name].base_dtype, array)
                for name, array in arrays.items()
            ]
        return [self._output(want, entry, own[want.name].base_dtype, arrays[want.name]) for want in wanted]

    def _output(self, want: WantedOutput, entry: ModelEntry, dtype: str, array: npt.NDArray[Any]) -> Output:
        if want.num_classes:
            dtype, array = "string", classify(array, dtype, want, labels(entry.load, want.name))
        if want.range is None:
            return Output(want, dtype, array)
        data = wire.to_bytes(array)
        view = self._regions.view(want.range)
        if len(data) > len(view):
            raise InvalidInput(
                f"output {want.name!r} has {len(data)} bytes, its shared memory range {len(view)}"
            )
        view[: len(data)] = data
        return Output(want, dtype, array, len(data))


def _check_inputs(head: RequestHead, signature: Signature) -> None:
    """Check names, dtypes and shapes of what is given."""
    for part in head.inputs:
        spec = signature.inputs.get(part.name)
        if spec is None:
            raise InvalidInput(f"unexpected input {part.name!r}; the model has {sorted(signature.inputs)}")
        if spec.base_dtype != part.dtype:
            raise InvalidInput(
                f"input {part.name!r} is {WIRE_NAMES[part.dtype]}, the model's is {WIRE_NAMES[spec.base_dtype]}"
            )
        if not spec.is_compatible(part.shape):
            raise InvalidInput(
                f"input {part.name!r} has shape {list(part.shape)}, the model's is {shape_text(spec.shape)}"
            )


def _check_names(head: RequestHead, signature: Signature) -> None:
    """Check that no input is missing, and that the outputs are the model's."""
    missing = signature.required_inputs - {part.name for part in head.inputs}
    if missing:
        raise InvalidInput(f"missing inputs {sorted(missing)}")
    for want in head.outputs or ():
        if want.name not in signature.outputs:
            raise InvalidInput(f"unexpected output {want.name!r}; the model has {sorted(signature.outputs)}")
