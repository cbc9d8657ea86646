"""What the loaders of PyTorch's two formats give the engine: tensors in and out by name, whatever their nesting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.engines.views import as_writeable
from elastic_inference.errors import UnsupportedModel
from elastic_inference.tensors import NUMPY_DTYPES, WIRE_NAMES, TensorSpec

OUTPUT = "out"
Run = Callable[[Sequence[Any]], list[Any]]


@dataclass
class Program:
    """A loaded model with its nested arguments and results flattened.

    Attributes:
        inputs, outputs: By their own names; nested ones have a path, such as `out.0.boxes`.
        run: Tensors in the order of `inputs` to values in the order of `outputs`.
        module: The module itself, for its weights.
        num_points: At how many places a request can be held while another accelerator has the device.
        is_input_kept: Whether the model leaves its inputs as they are.
        notes: What a user should know, a sentence each.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    run: Run
    module: Any
    num_points: int = 0
    is_input_kept: bool = True
    notes: tuple[str, ...] = ()


def path_name(root: str, path: Iterable[str | int]) -> str:
    """Return the name of a nested value: `out.0.boxes`."""
    return ".".join([root, *map(str, path)])


def spec_of(name: str, dtype: Any, shape: Iterable[Any]) -> TensorSpec:
    """Return the spec of a tensor of PyTorch's dtype; sizes that are no plain numbers are open.

    Raises:
        UnsupportedModel: No request can carry the dtype.
    """
    own = str(dtype).removeprefix("torch.")
    if own not in WIRE_NAMES:
        raise UnsupportedModel(f"tensor {name!r} is {own}, which no request can carry")
    return TensorSpec(name, own, tuple(size if type(size) is int else None for size in shape))


def spec_of_value(name: str, value: Any, *, is_open: bool) -> TensorSpec:
    """Return the spec of a result: a tensor, or a number or text, which travels as a tensor of rank 0.

    Args:
        is_open: Whether other calls may give other shapes.
    """
    if hasattr(value, "dtype"):
        spec = spec_of(name, value.dtype, value.shape)
        return TensorSpec(name, spec.dtype, None) if is_open else spec
    dtype = {bool: "bool", int: "int64", float: "float64", str: "string"}.get(type(value))
    if dtype is None:
        raise UnsupportedModel(
            f"result {name!r} is of type {type(value).__name__}, which no request can carry"
        )
    return TensorSpec(name, dtype, ())


def to_tensor(torch: ModuleType, array: npt.NDArray[Any], dtype: str) -> Any:
    """Return a tensor that looks at the array's memory."""
    tensor = torch.from_numpy(as_writeable(array))
    return tensor.view(torch.bfloat16) if dtype == "bfloat16" else tensor


def to_array(torch: ModuleType, value: Any, dtype: str) -> npt.NDArray[Any]:
    """Return a tensor on the CPU, a number or a text as a C-contiguous array; it may look at the tensor's memory."""
    if not isinstance(value, torch.Tensor):
        return np.array(value.encode() if isinstance(value, str) else value, NUMPY_DTYPES[dtype])
    wanted = getattr(torch, dtype)
    value = value.detach().to(wanted).contiguous()
    if value.is_conj() or value.is_neg():
        value = value.resolve_conj().resolve_neg()
    array: npt.NDArray[Any] = (value.view(torch.uint16) if dtype == "bfloat16" else value).numpy()
    return array
