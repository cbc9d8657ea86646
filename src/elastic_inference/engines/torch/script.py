"""Archives of TorchScript (.pt, .pth, .jit), which say neither shapes nor dtypes.

So inputs come from the request's specs, and what the outputs are is found by running the model on zeros. Inputs are
named after the arguments of `forward`, or `images.0` for an element and `batch.ids` for a key within one; names that
are no argument's take the arguments in their order. On a device that is shared by lease, programs are given points.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from elastic_inference.engines.preemption import is_preemptible
from elastic_inference.engines.torch import points
from elastic_inference.engines.torch.library import import_torchvision
from elastic_inference.engines.torch.program import OUTPUT, Program, path_name, spec_of_value
from elastic_inference.engines.torch.safety import check_script, uses_torchvision
from elastic_inference.errors import InvalidInput, InvalidModel, UnsupportedModel
from elastic_inference.tensors import TensorSpec

_SIZES_TRIED = (64, 224, 1)  # of open axes: a small image, the usual one, and what has no size to speak of
_OTHER_VERSION_TEXTS = (
    "version",
    "Unknown builtin op",
    "Unknown type",
    "schema",
    "No such operator",
    "expected at most",
)


def load_script(
    torch: ModuleType, path: Path, specs: Mapping[str, str] | None, device: str, *, is_trusted: bool
) -> Program:
    """Load an archive.

    Args:
        specs: alias -> `dtype:sizes`, see `TensorSpec.parse`.
        is_trusted: Whether to load it without looking for what is unsafe.

    Raises:
        UnsafeModel: Its code uses operations that are not known as harmless.
        InvalidInput: The specs are missing, or do not fit `forward`.
        InvalidModel: It is damaged.
        UnsupportedModel: Another torch wrote it, or it cannot be run on zeros of the specs.
    """
    if not is_trusted:
        check_script(path)
    if uses_torchvision(path):
        import_torchvision(str(path))
    module = _load(torch, path, device)
    arguments = _arguments(module)
    if specs is None:
        raise InvalidInput(
            f"{path} is TorchScript, which does not say what its inputs are: name them with "
            f"input_specs={{{', '.join(f'{name!r}: DTYPE:SIZES' for name in arguments)}}}, such as 'float32:3,-1,-1'"
        )
    parsed = {alias: TensorSpec.parse(alias, text) for alias, text in specs.items()}
    places = _places(arguments, list(parsed))
    # Elsewhere nobody would be let in, and the program stays as it is.
    num_points = points.add_to_script(torch, module) if is_preemptible() else 0
    return _Script(torch, module, arguments, parsed, places).program(path, device, num_points)


def _load(torch: ModuleType, path: Path, device: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.14 warns that TorchScript gets no new features
            module = torch.jit.load(str(path), map_location=device)
            return module.eval()
    except (RuntimeError, ValueError, AttributeError, UnicodeDecodeError) as error:
        text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        if any(part in text for part in _OTHER_VERSION_TEXTS):
            raise UnsupportedModel(f"torch {torch.__version__} cannot load {path}: {text:.500}") from error
        raise InvalidModel(f"{path} is a damaged archive of TorchScript: {text:.500}") from error


def _arguments(module: Any) -> dict[str, tuple[Any, bool]]:
    """Return the arguments of `forward` by name: their types, and whether they have a default."""
    if not hasattr(module, "forward"):
        raise UnsupportedModel("the archive of TorchScript has no method forward")
    arguments = module.forward.schema.arguments[1:]
    return {argument.name: (argument.type, argument.has_default_value()) for argument in arguments}


def _places(
    arguments: Mapping[str, tuple[Any, bool]], aliases: Sequence[str]
) -> dict[str, tuple[str | int, ...]]:
    """Where in the arguments each alias goes: the argument's name, then indices and keys."""
    places: dict[str, tuple[str | int, ...]] = {}
    for alias in aliases:
        root, *rest = alias.split(".")
        if root in arguments:
            steps = tuple(int(step) if step.isdigit() else step for step in rest)
            is_list = not rest and str(arguments[root][0]).startswith("List[")
            places[alias] = (root, 0) if is_list else (root, *steps)
    taken = {place[0] for place in places.values()}
    free = [name for name in arguments if name not in taken]
    for alias in aliases:
        if alias not in places:
            if not free:
                raise InvalidInput(
                    f"input_specs name {alias!r}, but forward has only {', '.join(arguments) or 'no arguments'}"
                )
            root = free.pop(0)
            places[alias] = (root, 0) if str(arguments[root][0]).startswith("List[") else (root,)
    taken = {place[0] for place in places.values()}
    missing = [name for name, (_, has_default) in arguments.items() if name not in taken and not has_default]
    if missing:
        raise InvalidInput(f"input_specs leave out {', '.join(missing)}, which forward needs")
    return places


class _Script:
    """A loaded module and how a flat list of tensors becomes its arguments."""

    def __init__(
        self,
        torch: ModuleType,
        module: Any,
        arguments: Mapping[str, tuple[Any, bool]],
        specs: Mapping[str, TensorSpec],
        places: Mapping[str, tuple[str | int, ...]],
    ) -> None:
        self._torch = torch
        self._module = module
        self._specs = specs
        self._places = [places[alias] for alias in specs]
        self._kinds = [self._kind(arguments, place) for place in self._places]

    @staticmethod
    def _kind(arguments: Mapping[str, tuple[Any, bool]], place: tuple[str | int, ...]) -> str:
        """int, float, bool or str where the argument is a number or text, else "" for a tensor."""
        text = str(arguments[str(place[0])][0]).removeprefix("Optional[").removesuffix("]")
        return text if len(place) == 1 and text in ("int", "float", "bool") else ""

    def program(self, path: Path, device: str, num_points: int) -> Program:
        """Return the flattened program; what its outputs are is found by running it."""
        flat = _flatten(self._tried(path, device))
        outputs = tuple(spec_of_value(name, value, is_open=True) for name, value in flat.items())
        names = tuple(flat)
        return Program(
            inputs=tuple(self._specs.values()),
            outputs=outputs,
            run=lambda tensors: self._values(self._call(tensors), names),
            module=self._module,
            num_points=num_points,
            is_input_kept=False,
        )

    def _tried(self, path: Path, device: str) -> Any:
        torch = self._torch
        problem = ""
        for size in _SIZES_TRIED:
            zeros = [_zeros(torch, spec, size, device) for spec in self._specs.values()]
            try:
                with torch.inference_mode():
                    return self._call(zeros)
            except MemoryError:
                raise
            except Exception as error:  # TorchScript hands on whatever the code raises
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                problem = lines[-1] if lines else type(error).__name__
        raise UnsupportedModel(
            f"{path} was run on zeros to find what its outputs are, and failed: {problem}. Name the shapes that it "
            "takes with input_specs, with as few open sizes (-1) as it needs"
        )

    def _call(self, tensors: Sequence[Any]) -> Any:
        arguments: dict[Any, Any] = {}
        for place, kind, tensor in zip(self._places, self._kinds, tensors, strict=True):
            inner = arguments
            for step in place[:-1]:
                inner = inner.setdefault(step, {})
            inner[place[-1]] = tensor.item() if kind else tensor
        try:
            return self._module(**{name: _as_lists(value) for name, value in arguments.items()})
        except Exception:
            own = points.take_raised()
            if own is None:
                raise
            raise own from None

    def _values(self, result: Any, names: tuple[str, ...]) -> list[Any]:
        flat = _flatten(result)
        if tuple(flat) != names:
            raise ValueError(
                f"the model gave {', '.join(flat) or 'nothing'}, but on zeros it gave {', '.join(names) or 'nothing'}; "
                "how many outputs a served model has cannot change from call to call"
            )
        return list(flat.values())


def _zeros(torch: ModuleType, spec: TensorSpec, open_size: int, device: str) -> Any:
    if spec.base_dtype == "string":
        raise InvalidInput(f"input {spec.name!r} is string, which PyTorch has no tensors of")
    sizes = [open_size if size is None else size for size in spec.shape or ()]
    if spec.shape and spec.shape[0] is None:
        sizes[0] = 1
    return torch.zeros(sizes, dtype=getattr(torch, spec.base_dtype), device=device)


def _as_lists(value: Any) -> Any:
    """Dictionaries whose keys are indices are lists."""
    if not isinstance(value, dict):
        return value
    inner = {key: _as_lists(item) for key, item in value.items()}
    return [inner[key] for key in sorted(inner)] if all(isinstance(key, int) for key in inner) else inner


def _flatten(value: Any, path: tuple[str | int, ...] = ()) -> dict[str, Any]:
    """Every tensor, number and text within a result by its path; None is left out."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value, strict=True)
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {path_name(OUTPUT, path): value}
    return {name: leaf for step, item in items for name, leaf in _flatten(item, (*path, step)).items()}
