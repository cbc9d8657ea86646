"""Sees to it that each accelerator takes the token that the host's database says, and no other for long.

A change that fails half-way is the trap: an accelerator that hangs may find the request in its socket when it wakes
up, long after the caller was told that it failed, and then take a token that nobody has.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.processes.context import HostContext

logger = logging.getLogger(__name__)

_CHANGE_SECONDS = 10.0
_REPAIR_SECONDS = 2.0
_MAX_REPAIRS = 8


class TokenKeeper:
    """Changes tokens, and repeats the one that counts until the accelerator has taken it."""

    def __init__(self, context: HostContext) -> None:
        self._context = context
        self._doubtful: set[str] = set()
        self._under_way: set[str] = set()
        self._turns: dict[
            str, threading.Lock
        ] = {}  # a repair must not put back what a change has just replaced
        self._generation = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_MAX_REPAIRS, "tokens")

    def change(self, record: AcceleratorRecord, token_sha256: str) -> None:
        """Give an accelerator another token, and write that down.

        Raises:
            ElasticInferenceError: It did not answer; the old token counts, and is put again until it is taken.
        """
        with self._turn(record.accelerator_id):
            try:
                self._put(record, token_sha256, _CHANGE_SECONDS)
                self._context.store.change(record.accelerator_id, token_sha256=token_sha256)
            except BaseException:
                self.put_again(record.accelerator_id)
                raise

    def put_again(self, accelerator_id: str) -> None:
        """Take note of an accelerator that may have another token than the database says."""
        with self._lock:
            self._doubtful.add(accelerator_id)

    def put_all(self) -> None:
        """Try with all that are in doubt, in the background."""
        with self._lock:
            todo = self._doubtful - self._under_way
            self._under_way |= todo
        for accelerator_id in todo:
            self._pool.submit(self._repair, accelerator_id)

    def close(self) -> None:
        """Try no more; twice is fine."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _repair(self, accelerator_id: str) -> None:
        try:
            with self._turn(accelerator_id):
                self._doubtful.discard(accelerator_id)
                record = self._context.store.get(accelerator_id)
                if record is not None:
                    self._put(record, record.token_sha256, _REPAIR_SECONDS)
        except ElasticInferenceError:
            self.put_again(accelerator_id)
        except Exception:  # such as a database that is away
            logger.exception("token is not put", extra={"accelerator_id": accelerator_id})
            self.put_again(accelerator_id)
        finally:
            with self._lock:
                self._under_way.discard(accelerator_id)

    def _turn(self, accelerator_id: str) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(accelerator_id, threading.Lock())

    def forget(self, accelerator_id: str) -> None:
        """Drop what is remembered of an accelerator."""
        with self._lock:
            self._doubtful.discard(accelerator_id)
            self._turns.pop(accelerator_id, None)

    def _put(self, record: AcceleratorRecord, token_sha256: str, timeout_seconds: float) -> None:
        body = {"token_sha256": token_sha256, "generation": self._next_generation()}
        self._context.control(record, "PUT", "/v2/accelerator/token", body, timeout_seconds=timeout_seconds)

    def _next_generation(self) -> int:
        """Return a number above all earlier ones, also of earlier runs of the host: processes end with the boot."""
        with self._lock:
            self._generation = max(self._generation + 1, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
            return self._generation
