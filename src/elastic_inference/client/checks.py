"""Checks that value objects make of their fields: what is refused is named with its value and its limit."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np

from elastic_inference.client.waiting import MAX_PRIORITY
from elastic_inference.errors import InvalidInput

MAX_THREADS = 1024  # of an engine, as engines have it
_SHOWN_CHARACTERS = 80


def text(name: str, value: Any) -> None:
    """Refuse what is neither None nor text of at least one character."""
    if value is not None and (not isinstance(value, str) or not value):
        raise InvalidInput(f"{name} must be text that is not empty, or None, not {shown(value)}")


def token(value: Any) -> None:
    """Refuse what cannot stand in a header; the value is not shown."""
    if value is not None and (not isinstance(value, str) or not value.isascii() or not value.isprintable()):
        raise InvalidInput("token must be printable ASCII, or None")


def path(name: str, value: Any) -> str | None:
    """Return a path as text; None stays None."""
    if value is None:
        return None
    try:
        found = os.fspath(value)
    except TypeError:
        found = None
    if not isinstance(found, str) or not found:
        raise InvalidInput(f"{name} must be a path, or None, not {shown(value)}")
    return found


def cache_dir(value: Any) -> str | Literal[False] | None:
    """Return where things are kept as text; None and False stay what they are."""
    return False if value is False else path("cache_dir", value)


def flag(name: str, value: Any) -> None:
    """Refuse what is not True or False: the text "no" would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name} must be True or False, not {shown(value)}")


def threads(name: str, value: Any) -> None:
    """Refuse what is neither None nor a number of threads."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_THREADS:
        raise InvalidInput(f"{name} must be 1 to {MAX_THREADS}, or None, not {shown(value)}")


def ordinal(name: str, value: Any) -> None:
    """Refuse what is neither None nor a whole number; whether there are so many shows later."""
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise InvalidInput(f"{name} must be a whole number, 0 or more, or None, not {shown(value)}")


def seconds(name: str, value: Any) -> None:
    """Refuse what is neither None nor a number of seconds above 0."""
    if value is None:
        return
    is_number = isinstance(value, int | float) or hasattr(value, "__float__")
    if isinstance(value, bool | str) or not is_number or not float(value) > 0:
        raise InvalidInput(f"{name} {shown(value)} must be above 0, or None")


def priority(value: Any) -> None:
    """Refuse what is not a place in a line."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_PRIORITY:
        raise InvalidInput(f"priority must be a whole number, 0 to {MAX_PRIORITY}, not {shown(value)}")


def shown(value: Any) -> str:
    """Return a value for a message, cut where it is long."""
    return f"{value!r:.{_SHOWN_CHARACTERS}}"
