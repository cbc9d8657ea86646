"""What a predictor shows of its graph where TensorFlow is absent: tensors with name, dtype and shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from elastic_inference.errors import TensorNotFound
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec


@dataclass(frozen=True)
class DType:
    """A dtype as TensorFlow's: equal to its name, with `as_numpy_dtype`."""

    name: str
    as_numpy_dtype: Any

    @property
    def base_dtype(self) -> DType:
        """The dtype without `_ref`."""
        return DType(self.name.removesuffix("_ref"), self.as_numpy_dtype)

    def __eq__(self, other: object) -> bool:
        return str(getattr(other, "name", other)) == self.name or other == self.as_numpy_dtype

    def __hash__(self) -> int:
        return hash(self.name)


class TensorShape:
    """A shape as TensorFlow's: `as_list()`, `ndims`, indexing and iteration."""

    def __init__(self, sizes: tuple[int | None, ...] | None) -> None:
        self._sizes = sizes

    @property
    def ndims(self) -> int | None:
        """The number of axes, None where it is open."""
        return None if self._sizes is None else len(self._sizes)

    rank = ndims

    def as_list(self) -> list[int | None]:
        """Return the sizes, None where one is open; ValueError where the rank is open, as TensorFlow has it."""
        if self._sizes is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._sizes)

    def is_fully_defined(self) -> bool:
        """Whether no size is open."""
        return self._sizes is not None and None not in self._sizes

    def __iter__(self) -> Iterator[int | None]:
        return iter(self.as_list())

    def __len__(self) -> int:
        return len(self.as_list())

    def __getitem__(self, key: Any) -> Any:
        return self.as_list()[key]

    def __eq__(self, other: object) -> bool:
        sizes = other.as_list() if hasattr(other, "as_list") else other
        return (
            self._sizes is not None and isinstance(sizes, list | tuple) and list(sizes) == list(self._sizes)
        )

    def __hash__(self) -> int:
        return hash(self._sizes)

    def __repr__(self) -> str:
        return f"TensorShape({None if self._sizes is None else list(self._sizes)})"


@dataclass(frozen=True)
class Tensor:
    """One tensor of the graph, without a value."""

    name: str
    dtype: DType
    shape: TensorShape
    graph: Any

    def get_shape(self) -> TensorShape:
        """Return the same as `shape`."""
        return self.shape

    def __repr__(self) -> str:
        return f"<Tensor '{self.name}' shape={self.shape} dtype={self.dtype.name}>"


class Graph:
    """The tensors that the predictor knows, by name."""

    def __init__(self, signature: Signature) -> None:
        specs = [*signature.inputs.values(), *signature.outputs.values()]
        self._tensors = {spec.name: _tensor(spec, self) for spec in specs}

    def get_tensor_by_name(self, name: str) -> Tensor:
        """Return the tensor of that name; only those of the signature are known here."""
        if name not in self._tensors:
            raise TensorNotFound(
                f"The name {name!r} refers to a Tensor which this predictor does not feed or fetch; it knows "
                f"{sorted(self._tensors)}"
            )
        return self._tensors[name]


class Session:
    """Stands for TensorFlow's session: it names the graph, and says that it runs nothing."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def run(self, *_: object, **__: object) -> Any:
        """Refuse: the graph may be on another machine; the predictor itself runs it."""
        raise NotImplementedError(
            "the graph runs on the accelerator: call the predictor, with input_names and output_names for other tensors"
        )


def tensors(specs: Mapping[str, TensorSpec], graph: Graph) -> dict[str, Tensor]:
    """Tensors by alias."""
    return {alias: graph.get_tensor_by_name(spec.name) for alias, spec in specs.items()}


def _tensor(spec: TensorSpec, graph: Graph) -> Tensor:
    return Tensor(
        spec.name, DType(spec.dtype, np.dtype(spec.numpy_dtype).type), TensorShape(spec.shape), graph
    )
