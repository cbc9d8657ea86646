"""What an accelerator has loaded, written down so that a restart loads it again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class LoadRecords:
    """One file for each loaded model; a crash leaves the old one or the new one, never half of one.

    Args:
        directory: Where they lie; made if absent.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def write(self, key: str, load: Mapping[str, Any]) -> None:
        """Write a model's down; where that cannot be done, the log says so."""
        partial = self._directory / f".{key}"
        try:
            partial.write_text(json.dumps(load))
            partial.replace(self._directory / key)
        except OSError as error:
            log.warning("a restart will not know this model", extra={"model": key, "error": str(error)})

    def remove(self, key: str) -> None:
        """Forget a model; fine where there is none of that key."""
        (self._directory / key).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, Any]]:
        """Yield key and content of each; what cannot be read is left out, and the log says so."""
        for path in sorted(self._directory.iterdir()):
            if path.name.startswith("."):
                continue
            try:
                yield path.name, json.loads(path.read_text())
            except (OSError, ValueError) as error:
                forget(path.name, error)


def forget(key: str, error: Exception) -> None:
    """Say that a record is of no use: the model's client loads again."""
    log.warning("a model is forgotten", extra={"record": key, "error": str(error)})
