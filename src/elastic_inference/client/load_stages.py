"""What an accelerator does while it loads a model; the answer to the load says nothing, so the index is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from elastic_inference.client.connection import ConnectionPool
from elastic_inference.deadline import Deadline
from elastic_inference.errors import ElasticInferenceError

OnStage = Callable[[str], object]
"""Called with what a load does now, such as "sending" or "compiling"; from another thread too."""

EVERY_SECONDS = 0.1
ANSWER_SECONDS = 5.0


@contextmanager
def watching(pool: ConnectionPool, name: str, tell: OnStage | None) -> Iterator[None]:
    """Tell what is done with the model of this name, each time that it is something else: first it is sent."""
    if tell is None:
        yield
        return
    tell("sending")
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(pool, name, tell, ended), name="load-stages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(pool: ConnectionPool, name: str, tell: OnStage, ended: threading.Event) -> None:
    last = ""
    with suppress(ElasticInferenceError):  # the load itself says what is wrong
        while not ended.wait(EVERY_SECONDS):
            with pool.connection(Deadline(ANSWER_SECONDS)) as connection:
                rows = connection.call("POST", "/v2/repository/index").get("value", [])
            stage = next(
                (_stage(row) for row in rows if isinstance(row, dict) and row.get("name") == name), ""
            )
            if stage and stage != last and not ended.is_set():
                last = stage
                tell(stage)


def _stage(row: Mapping[str, object]) -> str:
    """Return what a load does by the index's row: of a model that loads, or that answers while it is chosen for."""
    return str(row.get("reason", "") if row.get("state") == "LOADING" else row.get("stage", ""))
