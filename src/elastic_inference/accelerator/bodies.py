"""JSON objects read as dataclasses: their annotations say what is allowed, and an error names field, value and type.

Small and of the standard library alone, because it runs at the start of every accelerator. pydantic, which the host
uses, was measured there: 90 ms of processor time on top of 190, and 9 MB of each accelerator's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from elastic_inference.errors import InvalidInput

T = TypeVar("T")

_CHECKS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    Any: ("anything", lambda _: True),
    NoneType: ("null", lambda value: value is None),
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", lambda value: _is_number(value)),
    str: ("a string", lambda value: isinstance(value, str)),
    tuple: ("a list", lambda value: isinstance(value, list | tuple)),
    Mapping: ("an object", lambda value: isinstance(value, Mapping)),
    dict: ("an object", lambda value: isinstance(value, Mapping)),
}


def read(cls: type[T], value: Any, what: str) -> T:
    """Make a dataclass of a JSON object.

    Args:
        cls: Its fields are annotated with bool, int, float, str, None, Any, tuple[X, ...], dict[str, X],
            Mapping[str, X], dataclasses of these and unions.
        what: What the object is, for errors, such as "accelerator configuration".

    Raises:
        InvalidInput: A field is unknown, missing or of another type, or `cls` itself refuses its value.
    """
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what} must be a JSON object, not {value!r:.80}")
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in known:
            raise InvalidInput(f"{what}: unknown field {name!r:.80}; known are {', '.join(known)}")
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise InvalidInput(f"{what}: field {name!r} is missing; it must be {_described(hints[name])}")
    return cls(**{name: _read(entry, hints[name], f"{what}: {name}") for name, entry in value.items()})


def _read(value: Any, hint: Any, where: str) -> Any:
    for alternative in _alternatives(hint):
        outer = get_origin(alternative) or alternative
        if is_dataclass(outer) and isinstance(outer, type) and isinstance(value, Mapping):
            return read(outer, value, where)
        if outer in _CHECKS and _CHECKS[outer][1](value):
            return _read_inside(value, outer, get_args(alternative), where)
    raise InvalidInput(f"{where} must be {_described(hint)}, not {value!r:.80}")


def _read_inside(value: Any, outer: Any, inner: tuple[Any, ...], where: str) -> Any:
    if outer is float:
        return float(value)
    if outer is tuple:
        return tuple(_read(entry, inner[0], f"{where}[{place}]") for place, entry in enumerate(value))
    if outer in (dict, Mapping):
        return {key: _read(entry, inner[1], f"{where}[{key!r:.80}]") for key, entry in value.items()}
    return value


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _described(hint: Any) -> str:
    each = [get_origin(alternative) or alternative for alternative in _alternatives(hint)]
    return " or ".join("an object" if is_dataclass(outer) else _CHECKS[outer][0] for outer in each)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
