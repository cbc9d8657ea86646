"""How a Keras model's inputs and outputs are nested, read from its file, and how arrays go there and back.

The predictor knows tensors by alias only: the names of the input layers and of the layers that give the outputs.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elastic_inference.errors import EngineNotAvailable, InvalidInput


@dataclass(frozen=True)
class Structure:
    """Nested lists and dicts whose leaves are aliases.

    Attributes:
        num_axes: Of each input alias; None where the rank is open.
    """

    inputs: Any
    outputs: Any
    num_axes: Mapping[str, int | None]

    @classmethod
    def read(cls, path: Path, feeds: Mapping[str, Any], fetches: Mapping[str, Any]) -> Structure:
        """Read a model's file; tensors by alias say what the predictor has."""
        config = _config(path, is_needed=len(feeds) > 1 or len(fetches) > 1)
        inputs = _structure(config.get("input_layers"), feeds)
        outputs = _structure(config.get("output_layers"), fetches)
        return cls(inputs, outputs, {alias: tensor.shape.ndims for alias, tensor in feeds.items()})

    def feed(self, x: Any) -> dict[str, npt.NDArray[Any]]:
        """Arrays by alias from what a caller passes as Keras' `x`.

        Raises:
            InvalidInput: `x` has other parts than the model's inputs.
        """
        if isinstance(self.inputs, str):
            return {self.inputs: self._array(self.inputs, _only(x))}
        aliases = list(_leaves(self.inputs))
        values = _values_by_name(x, self.inputs) if isinstance(x, Mapping) else _flat(x)
        if len(values) != len(aliases):
            raise InvalidInput(f"the model has {len(aliases)} inputs ({aliases}), {len(values)} were given")
        return {alias: self._array(alias, value) for alias, value in zip(aliases, values, strict=True)}

    def _array(self, alias: str, value: Any) -> npt.NDArray[Any]:
        array = np.asarray(value)
        wanted = self.num_axes[alias]
        # Keras takes a column without its axis, and an axis of one too many.
        if wanted is not None and array.ndim == wanted - 1:
            return array[..., np.newaxis]
        if wanted is not None and array.ndim == wanted + 1 and array.shape[-1] == 1:
            return array[..., 0]
        return array

    def pack(self, outputs: Mapping[str, npt.NDArray[Any]]) -> Any:
        """Nest the outputs as the model does."""
        return _pack(self.outputs, outputs)


def _pack(structure: Any, outputs: Mapping[str, npt.NDArray[Any]]) -> Any:
    if isinstance(structure, str):
        return outputs[structure]
    if isinstance(structure, Mapping):
        return {key: _pack(inner, outputs) for key, inner in structure.items()}
    return [_pack(inner, outputs) for inner in structure]


def _leaves(structure: Any) -> Iterator[str]:
    if isinstance(structure, str):
        yield structure
    else:
        parts = [structure[key] for key in sorted(structure)] if isinstance(structure, Mapping) else structure
        for inner in parts:
            yield from _leaves(inner)


def _flat(x: Any) -> list[Any]:
    if isinstance(x, Mapping):
        return [value for key in sorted(x) for value in _flat(x[key])]
    if isinstance(x, list | tuple):
        return [value for inner in x for value in _flat(inner)]
    return [x]


def _only(x: Any) -> Any:
    """Return the one input, which may come in a list or dict of its own; a list of numbers is an array."""
    while isinstance(x, Mapping) or (
        isinstance(x, list | tuple) and len(x) == 1 and hasattr(x[0], "__array__")
    ):
        if isinstance(x, Mapping) and len(x) != 1:
            raise InvalidInput(f"the model has one input, {len(x)} were given: {sorted(x)}")
        x = next(iter(x.values())) if isinstance(x, Mapping) else x[0]
    return x


def _values_by_name(x: Mapping[str, Any], structure: Any) -> list[Any]:
    """Values in the order of the inputs; a dict may name the model's own keys or the input layers."""
    if isinstance(structure, Mapping) and structure.keys() <= x.keys():
        return _flat({key: x[key] for key in structure})
    aliases = list(_leaves(structure))
    missing = [alias for alias in aliases if alias not in x]
    if missing:
        raise InvalidInput(f"no value for the inputs {missing}; given are {sorted(x)}")
    return [x[alias] for alias in aliases]


def _structure(layers: Any, tensors: Mapping[str, Any]) -> Any:
    """Keras' `[name, node, tensor]` leaves, nested, as the predictor's aliases; one alone is not nested."""
    aliases = list(tensors)
    if layers is None:
        return aliases[0] if len(aliases) == 1 else {alias: alias for alias in aliases}
    seen: dict[str, int] = {}
    structure = _renamed(layers, seen)
    # Older files wrap a single output, and Keras gives it unwrapped.
    if isinstance(structure, list) and len(structure) == 1 and isinstance(structure[0], str):
        structure = structure[0]
    if sorted(_leaves(structure)) != sorted(aliases):
        raise InvalidInput(f"the model's file names {sorted(_leaves(structure))}, the predictor {aliases}")
    return structure


def _renamed(layers: Any, seen: dict[str, int]) -> Any:
    """Aliases are unique: a layer's second output is NAME_1, counted in the order in which Keras flattens."""
    if isinstance(layers, Mapping):
        done = {key: _renamed(layers[key], seen) for key in sorted(layers)}
        return {key: done[key] for key in layers}
    if isinstance(layers, Sequence) and len(layers) == 3 and isinstance(layers[0], str):
        name = layers[0]
        seen[name] = seen.get(name, -1) + 1
        return f"{name}_{seen[name]}" if seen[name] else name
    return [_renamed(inner, seen) for inner in layers]


def _config(path: Path, is_needed: bool) -> dict[str, Any]:
    """Return the model's configuration; {} where the file has none, or one that takes more to read than it helps."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            model = json.loads(archive.read("config.json"))
    elif path.suffix in (".h5", ".hdf5") and is_needed:
        model = _h5_config(path)
    else:
        model = {}
    config = model.get("config")
    return config if isinstance(config, dict) else {}


def _h5_config(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise EngineNotAvailable(
            f"{path}: which outputs an .h5 file has is read by h5py, which is not installed here ({error}); "
            "save the model as .keras, or `pip install h5py`"
        ) from error
    with h5py.File(path, "r") as file:
        return json.loads(file.attrs["model_config"])
