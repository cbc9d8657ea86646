"""An operator's program that attaches, calls once and detaches, over and over: each step may fail, none may hang."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from benchmarks.storm.client import SLACK_SECONDS
from elastic_inference import EIPredictor
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.errors import ElasticInferenceError

LEASE_SECONDS = 15.0
"""Of an accelerator whose attach was answered to nobody: the host takes it back by itself."""
_PAUSE_SECONDS = 1.0


class Churn:
    """The program in a thread.

    Args:
        timeout_seconds: Of each step.
    """

    def __init__(
        self, session: HostSession, accelerator_type: str, model: str, timeout_seconds: float
    ) -> None:
        self._session = session
        self._type = accelerator_type
        self._model = model
        self._timeout_seconds = timeout_seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn")
        self.num_done = self.num_wrong = 0
        self.late: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.texts: set[str] = set()

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            with contextlib.suppress(_Refused):
                with self._step("attach"):
                    attached = self._session.attach(
                        self._type, lease_seconds=LEASE_SECONDS, timeout_seconds=self._timeout_seconds
                    )
                with contextlib.suppress(_Refused), self._step("call"):
                    self._call(attached)
                with self._step("detach"):
                    self._session.detach(attached.accelerator_id, drain_seconds=0)
                self.num_done += 1

    def _call(self, attached: Attachment) -> None:
        x = np.arange(10, dtype=np.int32)
        with EIPredictor(
            self._model,
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            address=attached.usable_endpoints()[0],
            token=attached.token,
            timeout_seconds=self._timeout_seconds,
        ) as predictor:
            self.num_wrong += not np.array_equal(predictor({"x": x})["y"], 2 * x)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        started_at = time.monotonic()
        try:
            yield
        except ElasticInferenceError as error:
            self.refusals[f"{name}: {type(error).__name__}"] += 1
            self.texts.add(f"{name}: {error}"[:300])
            raise _Refused from error
        finally:
            if time.monotonic() - started_at > self._timeout_seconds + SLACK_SECONDS:
                self.late.append(f"{name}: {time.monotonic() - started_at:.1f} s")


class _Refused(Exception):
    pass
