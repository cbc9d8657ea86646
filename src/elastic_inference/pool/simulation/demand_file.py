"""A TOML file that describes demand."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.simulation.demand_model import DemandModel

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_MAX_WHOLE = 10**15  # what a float holds exactly, and more than any field may be


def read_demand_model(path: str | Path) -> DemandModel:
    """Read a description of demand: the fields of DemandModel, of which those that are absent have its defaults.

    Raises:
        InvalidInput: The file cannot be read, or a field is unknown, of another type or beyond its limit.
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(f"demand file {path}: {error.strerror or error}") from error
    except ValueError as error:  # of TOML, of UTF-8, or of a number with more digits than Python reads
        raise InvalidInput(f"demand file {path} is not TOML: {error}") from error
    known = {field.name: field.type for field in dataclasses.fields(DemandModel)}
    for name, value in table.items():
        if name not in known:
            raise InvalidInput(f"demand file {path}: unknown field {name!r}; known are {', '.join(known)}")
        if name == "types" and not isinstance(value, dict):
            raise InvalidInput(f"demand file {path}, field types: {value!r} is not a table such as [types]")
        parts = value.items() if name == "types" else [(name, value)]
        for part, number in parts:
            _check_number(number, part, known[name] == "int", path)
    try:
        return DemandModel(**table)
    except InvalidInput as error:
        raise InvalidInput(f"demand file {path}: {error}") from error


def _check_number(value: Any, name: str, is_whole: bool, path: str | Path) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"demand file {path}, field {name}: {value!r} is not a number")
    if isinstance(value, int) and abs(value) > _MAX_WHOLE:
        raise InvalidInput(
            f"demand file {path}, field {name} is a number of {value.bit_length()} bits, which is beyond any limit"
        )
    if is_whole and not isinstance(value, int):
        raise InvalidInput(f"demand file {path}, field {name}: {value!r} is not a whole number")
