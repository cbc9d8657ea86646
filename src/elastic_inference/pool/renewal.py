"""A pool service that hands over to one with the code that is installed now: its successor is renewed, then it ends.

So the successor has everything loaded when its turn comes, and a successor that cannot start leaves all as it was.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from elastic_inference.errors import StartFailed
from elastic_inference.pool.supervision import end_process, is_held, remembered_processes

logger = logging.getLogger(__name__)

WAITING = "waiting.lock"  # held by a process that waits for its turn
LOADED_SECONDS = 60.0
_END_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 0.5
_renewing = threading.Lock()


def renew_service(state_dir: Path, save: Callable[[], None]) -> None:
    """Renew whoever waits for this process's turn, and then end it, a moment after this returns.

    It ends at once, as by a death that its successor is there for: to end in order takes as long as the slowest
    connection, and no host may report meanwhile. What is under way then is asked again by who asked.

    Args:
        save: Called just before the end.

    Raises:
        StartFailed: No successor was ready in `LOADED_SECONDS`; this process goes on.
    """
    if not _renewing.acquire(blocking=False):
        raise StartFailed("the pool service is being renewed already")
    try:
        for identity in remembered_processes(state_dir):
            if identity.pid != os.getpid():
                end_process(identity, _END_SECONDS)
        deadline = time.monotonic() + LOADED_SECONDS
        while not is_held(state_dir / WAITING):
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"no successor of the pool service was ready in {LOADED_SECONDS:.0f} s, so this one continues; "
                    "see pool.log"
                )
            time.sleep(_LOOK_SECONDS)
        logger.warning("hands over to a successor, as an operator asked")
        threading.Timer(_ANSWER_SECONDS, _end, (save,)).start()
    finally:
        _renewing.release()


def _end(save: Callable[[], None]) -> None:
    try:
        save()
    finally:
        os._exit(0)
