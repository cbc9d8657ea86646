"""The log and trace settings extensions, as far as they are true here: what is in force, and what may be changed."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from elastic_inference.errors import InvalidInput

_ROOT = logging.getLogger()
_VERBOSE = {0: logging.INFO, 1: logging.DEBUG}


class Switches(ABC):
    """Settings by name, of which most only say what is so."""

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """Return all settings as they are now."""

    def change(self, wanted: Mapping[str, Any]) -> None:
        """Put settings in force; raises InvalidInput, and changes none, where one of them cannot be changed here.

        What asks for the present value, or for None, which clears a setting, asks for nothing.
        """
        now = self.values()
        for name, value in wanted.items():
            if name not in now:
                raise InvalidInput(f"unknown setting {name!r:.80}; known are {', '.join(now)}")
            if value is not None and _plain(value) != _plain(now[name]) and not self._may_change(name, value):
                raise InvalidInput(f"setting {name} is {now[name]!r} here and cannot be made {value!r:.80}")
        for name, value in wanted.items():
            if value is not None and _plain(value) != _plain(now[name]):
                self._put(name, value)

    def _may_change(self, name: str, value: Any) -> bool:  # noqa: ARG002
        return False

    def _put(self, name: str, value: Any) -> None:
        raise NotImplementedError(name, value)


class LogSwitches(Switches):
    """How much the process logs."""

    def values(self) -> dict[str, Any]:
        """Return Triton's settings: what is logged, and how."""
        return {
            "log_file": "",
            "log_info": _ROOT.isEnabledFor(logging.INFO),
            "log_warning": _ROOT.isEnabledFor(logging.WARNING),
            "log_error": _ROOT.isEnabledFor(logging.ERROR),
            "log_verbose_level": int(_ROOT.isEnabledFor(logging.DEBUG)),
            "log_format": "default",
        }

    def _may_change(self, name: str, value: Any) -> bool:
        return (name == "log_verbose_level" and value in _VERBOSE) or (
            name == "log_info" and isinstance(value, bool)
        )

    def _put(self, name: str, value: Any) -> None:
        if name == "log_info":
            _ROOT.setLevel(logging.INFO if value else logging.WARNING)
        else:
            _ROOT.setLevel(_VERBOSE[value])


class TraceSwitches(Switches):
    """Whether spans of requests are made, which is decided when the process starts."""

    def __init__(self, is_on: bool) -> None:
        self._is_on = is_on

    def values(self) -> dict[str, Any]:
        """Return Triton's settings: each request is traced, or none."""
        return {
            "trace_level": ["TIMESTAMPS" if self._is_on else "OFF"],
            "trace_rate": "1",
            "trace_count": "-1",
            "log_frequency": "0",
            "trace_file": "",
            "trace_mode": "opentelemetry",
        }


def _plain(value: Any) -> Any:
    """Return a setting's value in one form: clients send a list of one as the one, and numbers as text."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, bool) else str(value)
