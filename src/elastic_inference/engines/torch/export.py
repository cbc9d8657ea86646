"""Programs of torch.export (.pt2): names, shapes and structure come from the file."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from elastic_inference.engines.torch import launching, points
from elastic_inference.engines.torch.effects import changed_places
from elastic_inference.engines.torch.library import import_torchvision
from elastic_inference.engines.torch.program import OUTPUT, Program, Run, path_name, spec_of, spec_of_value
from elastic_inference.engines.torch.safety import check_export, read_program
from elastic_inference.errors import ElasticInferenceError, InvalidModel, UnsupportedModel
from elastic_inference.tensors import TensorSpec

_NEWER_TEXTS = ("does not match our current", "Unsupported schema", "unknown argument", "Unexpected")


def load_program(torch: ModuleType, path: Path, device: str, *, is_trusted: bool) -> Program:
    """Load a .pt2 file.

    Args:
        is_trusted: Whether to load it without looking for what is unsafe.

    Raises:
        UnsafeModel: It holds more than a program of known operations and its tensors.
        InvalidModel: It is damaged.
        UnsupportedModel: Another torch wrote it, or it takes or gives what no request can carry.
    """
    described = read_program(path) if is_trusted else check_export(path, _restricted(torch))
    if "torch.ops.torchvision." in str(described):
        import_torchvision(str(path))
    _register_named_tuples(torch, described)
    exported = _load(torch, path, described)
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, device)
    return _Exported(torch, exported).program()


def _restricted(torch: ModuleType) -> Callable[[io.BytesIO], object]:
    return lambda file: torch.load(file, map_location="cpu", weights_only=True)


def _load(torch: ModuleType, path: Path, described: Mapping[str, Any]) -> Any:
    try:
        with open(path, "rb") as file, _quiet():
            return torch.export.load(file)
    except MemoryError:
        raise
    except Exception as error:  # its loader raises nearly every class
        if isinstance(error, ElasticInferenceError):
            raise
        text = str(error).strip() or type(error).__name__
        written = described.get("torch_version", "unknown")
        if written != torch.__version__ or any(part in text for part in _NEWER_TEXTS):
            raise UnsupportedModel(
                f"torch {torch.__version__} cannot load {path}, which torch {written} wrote: {text:.500}"
            ) from error
        raise InvalidModel(f"{path} is a damaged program of torch.export: {text:.500}") from error


def _register_named_tuples(torch: ModuleType, described: Mapping[str, Any]) -> None:
    """Make stand-ins for the named tuples of a program, whose classes are only known where it was exported."""
    pytree = torch.utils._pytree
    fields = described.get("graph_module", {}).get("treespec_namedtuple_fields") or {}
    for name, definition in fields.items():
        if name not in pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE:
            stand_in = namedtuple("Values", definition["field_names"])  # type: ignore[misc]
            pytree._register_namedtuple(stand_in, serialized_type_name=name)


@dataclass(frozen=True)
class _Leaf:
    """One value of the arguments or results: its spec, or None and the constant that it always is."""

    spec: TensorSpec | None
    constant: Any = None
    is_number: bool = False


class _Exported:
    """An exported program, taken apart."""

    def __init__(self, torch: ModuleType, exported: Any) -> None:
        self._torch = torch
        self._pytree = torch.utils._pytree
        self._signature = exported.graph_signature
        self._values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
        self._call = exported.module_call_graph[0].signature
        with _quiet():
            self.module = exported.module()
        self._num_points = points.add_to_program(self.module.graph)
        self.module.recompile()

    def program(self) -> Program:
        """Return the flattened program."""
        inputs, outputs = self._input_leaves(), self._output_leaves()
        changed_inputs, changed_attributes = changed_places(self.module.graph)
        launching.hasten(self._torch, self.module)
        changed = {*self._signature.buffers_to_mutate.values(), *changed_attributes}
        return Program(
            inputs=tuple(leaf.spec for leaf in inputs if leaf.spec is not None),
            outputs=tuple(leaf.spec for leaf in outputs if leaf.spec is not None),
            run=self._runner(inputs, outputs, has_state=bool(changed)),
            module=self.module,
            num_points=self._num_points,
            is_input_kept=not changed_inputs and not self._signature.user_inputs_to_mutate,
            notes=(
                f"The model changes {', '.join(sorted(changed))}, which is put back after each prediction.",
            )
            if changed
            else (),
        )

    def _arguments(self) -> list[Any]:
        return [spec.arg for spec in self._signature.input_specs if spec.kind.name == "USER_INPUT"]

    def _input_leaves(self) -> list[_Leaf]:
        arguments = self._arguments()
        names = self._input_names(arguments)
        return [self._leaf(name, argument) for name, argument in zip(names, arguments, strict=True)]

    def _leaf(self, name: str, argument: Any) -> _Leaf:
        kind = type(argument).__name__
        if kind == "ConstantArgument":
            return _Leaf(None, argument.value)
        if kind == "TensorArgument":
            value = self._values[argument.name]
            return _Leaf(spec_of(name, value.dtype, value.shape))
        dtype = {"SymIntArgument": "int64", "SymFloatArgument": "float64", "SymBoolArgument": "bool"}.get(
            kind
        )
        if dtype is None:
            raise UnsupportedModel(f"{name!r} is a {kind}, which no request can carry")
        return _Leaf(TensorSpec(name, dtype, ()), is_number=True)

    def _input_names(self, arguments: Sequence[Any]) -> list[str]:
        """Return the argument's name, and the path within it where it is nested."""
        args, kwargs = self._pytree.tree_unflatten(range(len(arguments)), self._call.in_spec)
        given = getattr(self._call, "forward_arg_names", None) or []
        names = []
        for position, value in enumerate(args):
            root = f"args.{position}"
            if position < len(given):
                root = given[position]
            elif isinstance(value, int):  # a leaf: torch 2.6 names it after its parameter
                root = getattr(arguments[value], "name", root)
            names += self._paths(root, value)
        for root, value in kwargs.items():
            names += self._paths(root, value)
        return names

    def _paths(self, root: str, tree: Any) -> list[str]:
        leaves, _ = self._pytree.tree_flatten_with_path(tree)
        return [path_name(root, map(_key, path)) for path, _ in leaves]

    def _output_leaves(self) -> list[_Leaf]:
        arguments = [spec.arg for spec in self._signature.output_specs if spec.kind.name == "USER_OUTPUT"]
        names = self._paths(OUTPUT, self._pytree.tree_unflatten(range(len(arguments)), self._call.out_spec))
        leaves = [self._leaf(name, argument) for name, argument in zip(names, arguments, strict=True)]
        return [
            leaf if leaf.constant is None else _Leaf(spec_of_value(name, leaf.constant, is_open=False))
            for name, leaf in zip(names, leaves, strict=True)
        ]

    def _runner(self, inputs: list[_Leaf], outputs: list[_Leaf], *, has_state: bool) -> Run:
        module, pytree, in_spec = self.module, self._pytree, self._call.in_spec
        constants = [leaf.constant for leaf in inputs]
        fed = [(position, leaf.is_number) for position, leaf in enumerate(inputs) if leaf.spec is not None]
        kept = [position for position, leaf in enumerate(outputs) if leaf.spec is not None]
        # All of them: in training, batch normalization writes to some without saying so.
        originals = [(buffer, buffer.clone()) for buffer in module.buffers()] if has_state else []

        def run(tensors: Sequence[Any]) -> list[Any]:
            values = list(constants)
            for (position, is_number), tensor in zip(fed, tensors, strict=True):
                values[position] = tensor.item() if is_number else tensor
            args, kwargs = pytree.tree_unflatten(values, in_spec)
            try:
                results = pytree.tree_leaves(module(*args, **kwargs))
            finally:
                for buffer, original in originals:
                    buffer.copy_(original)
            return [results[position] for position in kept]

        return run


def _key(entry: Any) -> str | int:
    """One step of a path: an index, a key or a field."""
    for attribute in ("idx", "key", "name"):
        if hasattr(entry, attribute):
            value: str | int = getattr(entry, attribute)
            return value
    return str(entry)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of features to come and of old files
        yield
