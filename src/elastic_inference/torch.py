"""An nn.Module on an accelerator by one line: `attach(module, example_inputs)` gives a callable of its own signature.

The module is exported here, which is all that torch does on this side; the program is sent once, by its hash, and each
call sends tensors and gets tensors back.
"""

from __future__ import annotations

import copy
import inspect
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils import _pytree as pytree

from elastic_inference.client.accelerator import Accelerator
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.client.predictor import EIPredictor
from elastic_inference.client.report import PredictorReport
from elastic_inference.errors import InvalidInput, UnsupportedModel

__all__ = ["AttachedModule", "attach"]


def attach(
    module: torch.nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    strict_export: bool = False,
    accelerator: Accelerator | None = None,
    load: LoadOptions | None = None,
    **options: Any,
) -> AttachedModule:
    """Compute a module on an accelerator.

    Args:
        module: In the mode in which it is to compute, so mostly after `module.eval()` (in training mode there is a
            warning); its weights are copied.
        example_inputs: A tuple of positional arguments that it can be called with.
        example_kwargs: Arguments by name.
        dynamic_shapes: Which sizes may differ from the examples', as `torch.export.export` takes it: for instance
            `({0: torch.export.Dim("batch")},)`.
        strict_export: As `strict` of `torch.export.export`.
        accelerator, load: Where to compute and how to load, as EIPredictor has them.
        options: Further arguments of EIPredictor, such as `timeout_seconds=`; its short keywords are taken too.

    Returns:
        A module with the arguments and results of this one, which may stand in its place within another. Close it, or
        use it as a context manager.

    Raises:
        UnsupportedModel: torch.export cannot export the module; with its reason.
        InvalidInput: It is no module, or the examples are no tuple or list.
        ElasticInferenceError: What EIPredictor raises.
    """
    if not isinstance(module, torch.nn.Module):
        raise InvalidInput(f"module must be a torch.nn.Module, such as Net().eval(), not {_kind(module)}")
    if isinstance(example_inputs, torch.Tensor | str) or not isinstance(example_inputs, Sequence):
        raise InvalidInput(
            f"example_inputs must be a tuple of the arguments, such as (x,), not {type(example_inputs).__name__}"
        )
    if module.training:
        warnings.warn(
            "the module is in training mode and will compute so: dropout drops at random, batch normalization takes "
            "each batch's own statistics; call module.eval() before",
            stacklevel=2,
        )
    example = (tuple(example_inputs), dict(example_kwargs or {}))
    exported = _export(module, example, dynamic_shapes, strict_export)
    call = exported.module_call_graph[0].signature
    structure = _Structure(inspect.signature(module.forward), call.in_spec, call.out_spec)
    outputs = _outputs(exported)
    inputs = [spec.arg for spec in exported.graph_signature.input_specs if spec.kind.name == "USER_INPUT"]
    fixed = {i: arg.value for i, arg in enumerate(inputs) if type(arg).__name__ == "ConstantArgument"}
    with tempfile.TemporaryDirectory(prefix="elastic-inference-") as folder:
        # By this name `ei model list` and errors call it.
        path = Path(folder, re.sub(r"\W", "_", type(module).__name__)[:100] + ".pt2")
        _save(exported, inspect.signature(module.forward), [i.name for i in inputs], len(outputs), path)
        predictor = EIPredictor(path, accelerator=accelerator, load=load, **options)
    return AttachedModule(predictor, structure, fixed, outputs)


class AttachedModule(torch.nn.Module):  # type: ignore[misc]  # mypy runs without PyTorch
    """A module that computes on an accelerator; made by `attach`. Safe for several threads.

    It has no parameters here, and no gradient passes through it.

    Attributes:
        predictor: The EIPredictor behind it.
    """

    def __init__(
        self,
        predictor: EIPredictor,
        structure: _Structure,
        fixed: Mapping[int, Any],
        outputs: Sequence[_Output],
    ) -> None:
        super().__init__()
        self.training = False
        self.predictor = predictor
        self._structure = structure
        self._fixed = fixed
        self._outputs = outputs
        self._aliases = list(predictor.feed_tensors)
        self._results = list(predictor.fetch_tensors)

    @property
    def report(self) -> PredictorReport:
        """What is in force: engine, device, precision, transport."""
        return self.predictor.report

    def extra_repr(self) -> str:
        """Return what stands between the brackets of its repr."""
        return self.report.summary()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute on the accelerator.

        Returns:
            What the module returns, with tensors on the CPU.

        Raises:
            InvalidInput: The arguments differ from the examples in structure, in what is no tensor, or in a size that
                is not dynamic. Nothing was sent. Another dtype is cast, as EIPredictor casts arrays.
            ElasticInferenceError: What EIPredictor raises.
        """
        leaves = self._structure.flatten(args, kwargs)
        for position, value in self._fixed.items():
            if leaves[position] != value:
                raise InvalidInput(
                    f"argument {position} was exported as {value!r}, and now is {leaves[position]!r:.100}; attach the "
                    "module again with an example of it"
                )
        fed = [leaf for position, leaf in enumerate(leaves) if position not in self._fixed]
        if any(leaf is None for leaf in fed):
            raise InvalidInput(
                "an argument is None that was a tensor in the examples; attach the module again without it"
            )
        if torch.is_grad_enabled() and any(getattr(leaf, "requires_grad", False) for leaf in fed):
            warnings.warn(
                "an argument requires a gradient, and none passes through an accelerator: the results have none",
                stacklevel=4,  # of forward, in whoever calls the module
            )
        feeds = {alias: _to_array(alias, leaf) for alias, leaf in zip(self._aliases, fed, strict=True)}
        results = self.predictor(feeds)
        found = iter(results[alias] for alias in self._results)
        return self._structure.results([output.take(found) for output in self._outputs])

    def close(self) -> None:
        """End what it started; closing twice is fine."""
        self.predictor.close()

    def __enter__(self) -> AttachedModule:
        return self

    def __exit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Structure:
    """How arguments nest, and results."""

    def __init__(self, signature: inspect.Signature, inputs: Any, outputs: Any) -> None:
        self._signature = signature
        self._inputs = inputs
        self._outputs = outputs

    def flatten(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """Return the leaves of a call's arguments, in the order of the export."""
        leaves: list[Any]
        leaves, spec = pytree.tree_flatten((args, dict(kwargs)))
        if spec != self._inputs:
            leaves, spec = pytree.tree_flatten(self._as_exported(args, kwargs))
        if spec != self._inputs:
            raise InvalidInput(f"{self._difference(args, kwargs)}; * is a tensor, number or text")
        return leaves

    def _difference(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Say which argument nests otherwise than in the examples."""
        positional, by_name = self._as_exported(args, kwargs)
        example_args, example_kwargs = pytree.tree_unflatten([0] * self._inputs.num_leaves, self._inputs)
        names = [*self._signature.parameters]
        given = dict(zip(names, positional, strict=False)) | by_name
        exported = dict(zip(names, example_args, strict=False)) | example_kwargs
        for name in given.keys() & exported.keys():
            if pytree.tree_structure(given[name]) != pytree.tree_structure(exported[name]):
                found, wanted = _nested(given[name]), _nested(exported[name])
                return f"argument {name!r} is {found}, and was exported as {wanted}"
        examples = _nested((example_args, example_kwargs))
        return f"the arguments are {_nested((args, kwargs))}, and were exported as {examples}"

    def _as_exported(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the same arguments, each by position or by name as in the examples."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInput(f"the module cannot be called so: {error}") from error
        example_args, example_kwargs = pytree.tree_unflatten(range(self._inputs.num_leaves), self._inputs)
        bound.apply_defaults()
        values = dict(bound.arguments)
        positional = [values.pop(name) for name in list(values)[: len(example_args)]]
        by_name = {name: values.pop(name) for name in example_kwargs if name in values}
        for name, value in values.items():
            default = self._signature.parameters[name].default
            if value is not default and value != default:
                raise InvalidInput(
                    f"argument {name!r} was exported with its default {default!r:.100}, and now is given; attach the "
                    "module again with an example of it"
                )
        return tuple(positional), by_name

    def results(self, values: Sequence[Any]) -> Any:
        """Return the module's own results."""
        return pytree.tree_unflatten(values, self._outputs)


def _export(module: torch.nn.Module, example: Any, dynamic_shapes: Any, is_strict: bool) -> Any:
    args, kwargs = example
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of features to come
            return torch.export.export(
                module, args, kwargs or None, dynamic_shapes=dynamic_shapes, strict=is_strict
            )
    except MemoryError:
        raise
    except Exception as error:  # export raises nearly every class, from the module's own code too
        text = str(error).strip() or type(error).__name__
        hint = "\ntorch.export takes a size of 1 in the examples for one that never changes: give 2 or more."
        raise UnsupportedModel(
            f"torch.export cannot export this module: {text:.2000}{hint if 'be a constant (1)' in text else ''}"
        ) from error


def _save(
    exported: Any, signature: inspect.Signature, names: list[str], num_outputs: int, path: Path
) -> None:
    """Write the program with its arguments and results flat: their classes may be known on this side alone.

    Args:
        names: Of the flat arguments, as the graph calls them.
    """
    _leave_out_texts(exported)
    flat = copy.copy(exported)
    entry, *others = exported.module_call_graph
    call = replace(
        entry.signature,
        in_spec=pytree.tree_structure((tuple(range(len(names))), {})),
        out_spec=pytree.tree_structure(list(range(num_outputs))),
        forward_arg_names=names,
    )
    flat._module_call_graph = [replace(entry, signature=call), *others]
    leaves, _ = pytree.tree_flatten(exported.example_inputs)
    flat._example_inputs = (tuple(leaves), {})
    args, kwargs = exported.example_inputs
    paths, _ = pytree.tree_flatten_with_path(dict(signature.bind(*args, **kwargs).arguments))
    flat._guards_code = [
        _renamed(guard, [pytree.keystr(path) for path, _ in paths], names)
        for guard in getattr(exported, "_guards_code", [])
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(flat, path)


def _leave_out_texts(exported: Any) -> None:
    """Put a number where the program returns a text: torch writes texts and cannot read them, and they stay here."""
    for spec in exported.graph_signature.output_specs:
        if isinstance(getattr(spec.arg, "value", None), str):
            spec.arg = replace(spec.arg, value=0)
    output = next(iter(reversed(exported.graph.nodes)))
    output.args = (tuple(0 if isinstance(value, str) else value for value in output.args[0]),)


def _renamed(guard: str, paths: list[str], names: list[str]) -> str:
    """Return a guard on nested arguments (`L['batch']['ids'].size()[0] > 1`) as one on flat ones."""
    for path, name in sorted(zip(paths, names, strict=True), reverse=True):  # `['x'][0]` before `['x']`
        guard = guard.replace(f"L{path}", f"L['{name}']")
    return guard


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _nested(value: Any) -> str:
    """Return a value with a star for each tensor, number or text in it: `{'ids': *, 'mask': *}`."""

    class Star:
        def __repr__(self) -> str:
            return "*"

    text = repr(pytree.tree_map(lambda _: Star(), value))
    return text if len(text) <= 200 else f"{text[:200]}..."


def _to_array(alias: str, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    try:
        tensor = value.detach().cpu().contiguous().resolve_conj().resolve_neg()
        return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # NotImplementedError among them: of meta tensors
        raise InvalidInput(
            f"argument {alias!r} cannot be sent as a tensor of {value.dtype}, {value.layout}, {value.device}: {error}"
        ) from error


@dataclass(frozen=True)
class _Output:
    """One leaf of the results: a tensor of a dtype, a number where that is None, or what the module always returns."""

    dtype: torch.dtype | None
    is_constant: bool = False
    constant: Any = None

    def take(self, found: Iterator[Any]) -> Any:
        """Return the value, from the next of those that came; None is not sent."""
        if self.is_constant and self.constant is None:
            return None
        value = next(found)
        if self.is_constant:
            return self.constant
        if self.dtype is None:
            return value.item()
        return _to_tensor(value).to(self.dtype)


def _outputs(exported: Any) -> list[_Output]:
    values = {node.name: node.meta.get("val") for node in exported.graph.nodes}
    arguments = [
        spec.arg for spec in exported.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"
    ]
    return [
        _Output(None, True, argument.value)
        if type(argument).__name__ == "ConstantArgument"
        else _Output(getattr(values.get(argument.name), "dtype", None))
        for argument in arguments
    ]


def _to_tensor(value: Any) -> torch.Tensor:
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view("uint16")).view(torch.bfloat16)
    return torch.from_numpy(value) if value.ndim else torch.tensor(value)
