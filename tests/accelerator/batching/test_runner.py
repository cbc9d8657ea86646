"""Requests in their turn, together and apart: failing batches, no memory, engines that answer otherwise than alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from elastic_inference.accelerator.batching.model import ModelBatching, ShapeBatching
from elastic_inference.accelerator.batching.runner import Runner
from elastic_inference.accelerator.batching.trials import Trials
from elastic_inference.accelerator.model_entry import ModelEntry
from elastic_inference.accelerator.model_statistics import Timing
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.engines.base import Arrays, EngineReport, LoadedModel
from elastic_inference.engines.guarded import GuardedModel
from elastic_inference.engines.registry import reference_of
from elastic_inference.errors import (
    ElasticInferenceError,
    InvalidArgumentError,
    MemoryQuotaExceeded,
    ModelNotFound,
    NotAsWritten,
    RequestCancelled,
)
from elastic_inference.models.package import ModelFormat
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from tests.waiting import wait_until

SPEC = TensorSpec("x:0", "float32", (None, None))
FLAT = {1: 1e-3, 2: 1e-3, 4: 1e-3, 8: 1e-3}
BAD = 13.0
Compute = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]


class Model(LoadedModel):
    """Computes y of x; `sizes` are the rows of its runs."""

    def __init__(self, compute: Compute = lambda x: 2 * x, engine: str = "quick") -> None:
        self.signature = Signature({"x": SPEC}, {"y": SPEC})
        self.report = EngineReport(engine, "1", "cpu:0", "fp32", 1, 0.0)
        self.sizes: list[int] = []
        self._compute = compute

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        self.sizes.append(len(inputs["x"]))
        return {"y": self._compute(inputs["x"])}

    def close(self) -> None:
        pass


class Line:
    """Requests for one model, which wait until all are there."""

    def __init__(self, model: LoadedModel) -> None:
        self.queue = RequestQueue(limit=100)
        self.entry = ModelEntry("m", {}, "")
        self.entry.model = model
        self.entry.batching = ModelBatching(model.signature, engine=model.report.engine)
        self.runner = Runner(self.queue, Trials(self.queue, None))
        self.timings: list[Timing] = []

    def shape(self, num_columns: int = 3) -> ShapeBatching:
        assert self.entry.model is not None
        inputs = {"x": np.ones((1, num_columns), np.float32)}
        shape = self.entry.batching.shape(inputs, self.entry.model.report.engine)
        assert shape is not None
        return shape

    def proved(self) -> ShapeBatching:
        """As if a trial had found that rows cost nothing."""
        shape = self.shape()
        shape.adopt({size: seconds for size, seconds in FLAT.items() if size <= 2})
        for size in (4, 8):
            shape.adopt({known: seconds for known, seconds in FLAT.items() if known <= size})
        return shape

    def request(self, value: float, is_wanted: Callable[[], bool] | None = None) -> float:
        """Run one row of this value; the first number of its answer."""
        timing = Timing()
        self.timings.append(timing)
        inputs = {"x": np.full((1, 3), value, np.float32)}
        answer = self.runner.run(self.entry, inputs, 1e4, timing, is_wanted)["y"]
        assert answer.shape == (1, 3)
        assert len(set(answer.reshape(-1).tolist())) == 1
        return float(answer[0, 0])

    def run_now(self, value: float) -> Future[float]:
        """Run one request that meets no other."""
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(self.request, value)

    def run(self, *values: float, is_wanted: Callable[[], bool] | None = None) -> list[Future[float]]:
        """Let one request for each value wait, then run; each gives the first number of its answer."""

        with ThreadPoolExecutor(len(values)) as threads:
            with self.queue.turn(None):
                futures = []
                for number, value in enumerate(values, 1):
                    futures.append(threads.submit(self.request, value, is_wanted))
                    wait_until(lambda n=number: self.queue.statistics().num_waiting == n)  # type: ignore[misc]
            for future in futures:
                future.exception(60)
        return futures


def refusing(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if (x == BAD).any():
        raise InvalidArgumentError("bad")
    return 2 * x


def test_requests_that_wait_run_as_one() -> None:
    model = Model()
    line = Line(model)
    line.proved()
    assert [future.result(60) for future in line.run(1, 2, 3, 4)] == [2, 4, 6, 8]
    assert model.sizes == [4]
    assert [timing.num_rows_run for timing in line.timings] == [4, 0, 0, 0]
    assert (
        len({timing.service_seconds for timing in line.timings}) <= 2
    )  # its own, and one for all that came along
    assert all(timing.ended and timing.queue_seconds > 0 for timing in line.timings)


def test_nothing_runs_together_before_a_trial() -> None:
    model = Model()
    line = Line(model)
    assert [future.result(60) for future in line.run(1, 2, 3)] == [2, 4, 6]
    wait_until(lambda: line.shape().outcome is not None, "the trial that they began")
    assert model.sizes[:2] == [1, 1]
    assert max(model.sizes) > 1


def test_a_request_of_bad_values_fails_alone_and_batches_pause() -> None:
    model = Model(refusing)
    line = Line(model)
    line.proved()
    good, bad, other = line.run(1, BAD, 3)
    assert (good.result(60), other.result(60)) == (2, 6)
    with pytest.raises(InvalidArgumentError, match="bad"):
        bad.result(60)
    assert model.sizes == [4, 1, 1, 1]  # filled up to a size that was tried
    model.sizes.clear()
    assert [future.result(60) for future in line.run(1, 2)] == [2, 4]
    assert model.sizes == [1, 1]


@pytest.mark.parametrize("error", [MemoryError("full"), MemoryQuotaExceeded("full")])
def test_without_memory_they_run_apart_and_in_smaller_batches_from_then_on(error: MemoryError) -> None:
    def compute(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if len(x) > 2:
            raise error
        return 2 * x

    model = Model(compute)
    line = Line(model)
    shape = line.proved()
    assert [future.result(60) for future in line.run(1, 2, 3, 4)] == [2, 4, 6, 8]
    assert shape.costs is not None
    assert shape.costs.sizes() == [2]
    model.sizes.clear()
    assert [future.result(60) for future in line.run(1, 2, 3, 4)] == [2, 4, 6, 8]
    assert model.sizes == [2, 2]


def test_an_answer_without_rows_ends_batches_of_this_shape() -> None:
    model = Model(lambda x: 2 * x[:1])
    line = Line(model)
    shape = line.proved()
    assert [future.result(60) for future in line.run(1, 2)] == [2, 4]
    assert shape.costs is None
    assert line.entry.batching.summary() == "not batched: output 'y' of 2 rows has shape [1, 3]"


def test_an_answer_in_the_memory_of_the_inputs_is_copied_before_that_is_used_again() -> None:
    line = Line(Model(lambda x: x))
    line.proved()
    kept: list[npt.NDArray[Any]] = []
    original = line.runner.run

    def keeping(*arguments: Any) -> dict[str, npt.NDArray[Any]]:
        outputs = original(*arguments)
        kept.append(outputs["y"])
        return outputs

    line.runner.run = keeping  # type: ignore[method-assign,assignment]
    line.run(1, 2)
    line.run(3, 4)
    assert sorted(float(array[0, 0]) for array in kept) == [1, 2, 3, 4]


def test_an_engine_that_took_over_is_tried_anew() -> None:
    line = Line(Model())
    line.proved()
    other = Model(engine="reference")
    line.entry.model = other
    assert [future.result(60) for future in line.run(1, 2)] == [2, 4]
    assert other.sizes[:2] == [1, 1]


def test_values_for_the_reference_do_not_take_others_there() -> None:
    def quick(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if (x == BAD).any():
            raise NotAsWritten("bad")
        return 2 * x

    engine = reference_of(ModelFormat.ONNX)
    assert engine is not None
    reference = Model(lambda x: 3 * x, "reference")
    line = Line(GuardedModel(Model(quick), engine, lambda: reference))
    line.proved()
    assert [future.result(60) for future in line.run(1, BAD, 3)] == [2, 3 * BAD, 6]


def test_requests_of_a_model_that_was_unloaded_are_told() -> None:
    line = Line(Model())
    line.proved()
    line.entry.model = None
    for future in line.run(1, 2):
        with pytest.raises(ModelNotFound):
            future.result(60)


def test_requests_that_nobody_wants_any_more_do_not_lead() -> None:
    model = Model()
    line = Line(model)
    line.proved()
    futures = line.run(1, 2, is_wanted=lambda: False)
    assert [type(future.exception()) for future in futures] == [RequestCancelled] * 2
    assert model.sizes == []
    assert issubclass(RequestCancelled, ElasticInferenceError)


def test_a_lone_request_is_not_told_of_any_of_this() -> None:
    line = Line(Model())
    line.proved()
    timing = Timing()
    answer = line.runner.run(line.entry, {"x": np.ones((5, 3), np.float32)}, None, timing)
    assert np.array_equal(answer["y"], np.full((5, 3), 2))
    assert (timing.num_rows, timing.num_rows_run) == (5, 5)
    assert line.queue.statistics().num_executions == 1


def expecting(line: Line, num_rows: int, max_delay_seconds: float) -> None:
    """As if so many rows had run together just now."""
    costs = line.proved().costs
    assert costs is not None
    costs.num_rows_last = num_rows
    line.entry.batching.expects_until = time.monotonic() + 600
    line.entry.batching.options = SimpleNamespace(max_delay_seconds=max_delay_seconds)  # type: ignore[assignment]


def test_who_has_the_turn_waits_for_as_many_as_ran_together_just_before() -> None:
    model = Model()
    line = Line(model)
    expecting(line, num_rows=3, max_delay_seconds=600)
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(line.request, 1.0)]
        wait_until(lambda: line.queue.statistics().num_running == 1)
        futures.append(threads.submit(line.request, 2.0))
        wait_until(lambda: line.queue.statistics().num_waiting == 1)
        assert model.sizes == []
        futures.append(threads.submit(line.request, 3.0))
        assert [future.result(60) for future in futures] == [2, 4, 6]
    assert model.sizes == [4]


def test_a_wait_for_others_ends_with_its_time_and_the_next_does_not_wait() -> None:
    model = Model()
    line = Line(model)
    expecting(line, num_rows=4, max_delay_seconds=1e-3)
    assert line.run_now(1).result(60) == 2
    assert line.timings[-1].queue_seconds >= 1e-3
    line.entry.batching.options = SimpleNamespace(max_delay_seconds=600.0)  # type: ignore[assignment]
    assert line.run_now(2).result(60) == 4
    assert model.sizes == [1, 1]


def test_others_are_expected_for_a_while_after_they_ran_together() -> None:
    line = Line(Model())
    line.proved()
    assert line.entry.batching.expects_until == 0.0
    began = time.monotonic()
    line.run(1, 2, 3)
    assert began + FLAT[1] <= line.entry.batching.expects_until <= time.monotonic() + FLAT[1]
    line.entry.batching.options = SimpleNamespace(max_delay_seconds=600.0)  # type: ignore[assignment]
    wait_until(lambda: time.monotonic() >= line.entry.batching.expects_until)
    assert line.run_now(1).result(60) == 2  # nobody is expected any more
