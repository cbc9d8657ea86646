"""Other names of models: what a client asks for by one name is answered by the model that another one means."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path

log = logging.getLogger(__name__)
MAX_ALIASES = 1024


class Aliases:
    """Names by alias, kept in a file so that a restart knows them. Safe for several threads.

    Args:
        path: The file; absent where there is none yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._targets: dict[str, str] = {}
        try:
            if path.exists():
                self._targets = {str(k): str(v) for k, v in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError) as error:
            log.warning("aliases are forgotten", extra={"error": str(error)})

    def target(self, name: str) -> str | None:
        """Return the name that an alias stands for, None where it is no alias."""
        return self._targets.get(name)

    def all(self) -> dict[str, str]:
        """Return the target of each alias."""
        with self._lock:
            return dict(self._targets)

    def set(self, alias: str, target: str) -> bool:
        """Let an alias stand for a name from now on; False where there are too many."""
        with self._lock:
            if alias not in self._targets and len(self._targets) >= MAX_ALIASES:
                return False
            self._write({**self._targets, alias: target})
            return True

    def remove(self, alias: str) -> bool:
        """Forget an alias; False where it was none."""
        with self._lock:
            if alias not in self._targets:
                return False
            self._write({name: target for name, target in self._targets.items() if name != alias})
            return True

    def _write(self, targets: dict[str, str]) -> None:
        self._targets = targets
        partial = self._path.with_name(f"{self._path.name}.partial")
        try:
            partial.write_text(json.dumps(targets))
            partial.replace(self._path)
        except OSError as error:
            log.warning("a restart will not know these aliases", extra={"error": str(error)})
