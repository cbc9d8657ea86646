"""Does something for each of some keys until it succeeds: a try a look, several at once, and nobody waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from elastic_inference.errors import ElasticInferenceError

logger = logging.getLogger(__name__)

_MAX_AT_ONCE = 4
K = TypeVar("K")


class Retries(Generic[K]):
    """Any thread may add; one looks.

    Args:
        what: That is to be done, for the log.
        work: Does it; False, or an ElasticInferenceError, where it is to be tried again.
    """

    def __init__(self, what: str, work: Callable[[K], bool]) -> None:
        self._what = what
        self._work = work
        self._due: set[K] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_MAX_AT_ONCE, "retry")

    def add(self, keys: Iterable[K]) -> None:
        """Let it be done for these from the next look on."""
        with self._lock:
            self._due.update(keys)

    def look(self) -> None:
        """Begin what is due; waits for nothing."""
        with self._lock:
            due, self._due = self._due, set()
        for key in due:
            self._pool.submit(self._try, key)

    def close(self) -> None:
        """Wait for what is under way, and begin nothing more."""
        self._pool.shutdown(cancel_futures=True)

    def _try(self, key: K) -> None:
        try:
            is_done = self._work(key)
        except ElasticInferenceError as error:
            is_done = False
            logger.warning("not done yet", extra={"what": self._what, "for": str(key), "why": str(error)})
        except Exception:  # such as a database that is away
            is_done = False
            logger.exception("not done yet", extra={"what": self._what, "for": str(key)})
        if not is_done:
            self.add([key])
