"""Measuring one cell: a real accelerator process, a measuring process of its own, and the ways it can end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, LoadOptions
from elastic_inference.client import graph_view
from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.arrivals import OpenLoopRun
from elastic_inference.explorer.measuring.in_process import run_in_process
from elastic_inference.explorer.measuring.task import Outcome, Task, read_input
from elastic_inference.explorer.measuring.worker import client_problems, run_task
from elastic_inference.explorer.space import Cell
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from elastic_inference.testing import RunningAccelerator, write_model
from tests.explorer.conftest import TESTING_WORKER

CELL = Cell("here", "test")
INPUT = "float32:1,4"


def local(model: str, **changes: object) -> Task:
    return Task(CELL, model, INPUT, load=LoadOptions("testing"), max_runs=20, **changes)  # type: ignore[arg-type]


def test_measurement_of_an_accelerator(quick_model: str, accelerator: RunningAccelerator) -> None:
    place = Accelerator.at(accelerator.address, token=accelerator.token)
    task = Task(CELL, quick_model, INPUT, place, percentile=0.9, target_seconds=5.0, max_seconds=20)
    outcome = run_task(task)
    detail, seen = outcome.detail, outcome.observation
    assert seen.problem == "" or "client is the limit" in seen.problem  # on a busy machine that is true
    assert seen.latency_seconds is not None
    assert detail.queue_seconds is not None
    assert detail.service_seconds is not None
    assert detail.service_seconds >= 0.002
    assert detail.wire_seconds is not None
    parts = detail.queue_seconds + detail.service_seconds + detail.wire_seconds
    assert parts == pytest.approx(seen.latency_seconds)
    assert seen.interval is not None
    assert seen.interval.low < seen.latency_seconds < seen.interval.high
    assert seen.target_latency_seconds == detail.percentiles["p90"]
    assert detail.load_seconds is not None
    assert detail.schedule_delay_seconds is not None
    assert outcome.report["accelerator_id"] == accelerator.config.accelerator_id
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_hopeless_target_stops_early(tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "slow.testing", inputs={"inputs": ("float32", (None, 4))}, wait_seconds=0.02
    )
    outcome = run_task(local(str(model), percentile=0.99, target_seconds=0.001))
    # p99 would take 662 requests to prove; every one is late, and a few show it.
    assert outcome.observation.target_latency_seconds is not None
    assert outcome.observation.target_latency_seconds > 0.001
    assert not any("would prove" in note for note in outcome.detail.notes)


def test_throughput_curve(quick_model: str) -> None:
    outcome = run_task(local(quick_model, loads=(0.2, 0.4), max_seconds=20))
    low, high = outcome.detail.curve
    assert low.throughput_per_second < high.throughput_per_second


def test_failing_model_is_an_outcome_without_measurement(tmp_path: Path) -> None:
    model = write_model(tmp_path / "bad.testing", inputs={"inputs": ("float32", (None, 4))}, fail="no memory")
    outcome = run_task(local(str(model)))
    assert outcome.observation.latency_seconds is None
    assert "ModelError: no memory" in outcome.observation.problem


def test_unreachable_host_is_an_outcome_without_measurement(quick_model: str) -> None:
    place = Accelerator.attach("cpu.half", host="http://127.0.0.1:9", token="t")
    outcome = run_task(Task(CELL, quick_model, INPUT, place))
    assert "ConnectError" in outcome.observation.problem


def test_process_of_its_own_bound_to_one_core(quick_model: str, tmp_path: Path) -> None:
    core = sorted(os.sched_getaffinity(0))[-1]
    report = tmp_path / "affinity"
    end = f"code = main(); open({str(report)!r}, 'w').write(str(sorted(os.sched_getaffinity(0)))); sys.exit(code)"
    command = (*TESTING_WORKER[:2], "import os; " + TESTING_WORKER[2].replace("sys.exit(main())", end))
    outcome = run_in_process(local(quick_model, cores=(core,)), command)
    assert outcome.observation.problem == ""
    assert outcome.report["engine"] == "testing"
    assert report.read_text() == str([core])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
        ("raise SystemExit('out of luck')", "code 1: out of luck"),
        ("print('{}')", "no outcome"),
        ("pass", "code 0"),
    ],
)
def test_process_that_ends_badly_marks_its_cell(quick_model: str, code: str, problem: str) -> None:
    # Read the task first: a process that ends before it is another failure, of the pipe.
    command = (sys.executable, "-c", f"import sys; sys.stdin.read(); {code}")
    outcome = run_in_process(local(quick_model), command)
    assert outcome.observation.latency_seconds is None
    assert problem in outcome.observation.problem


def test_client_at_its_limit_is_named() -> None:
    free = OpenLoopRun([0.1] * 100, [0.0001] * 100, [], elapsed_seconds=10.0, client_seconds=1.0)
    busy = OpenLoopRun([0.1] * 100, [0.0001] * 100, [], elapsed_seconds=10.0, client_seconds=9.5)
    late = OpenLoopRun([0.1] * 100, [0.05] * 100, [], elapsed_seconds=10.0, client_seconds=1.0)
    assert client_problems(free, 10, 1) == []
    assert "processors are 95% busy" in client_problems(busy, 10, 1)[0]
    assert client_problems(busy, 10, 2) == []
    assert "50 ms late" in client_problems(late, 10, 1)[0]
    assert client_problems(late, 10, 1, target_seconds=0.6) == []


def inputs_of(**specs: TensorSpec) -> dict[str, graph_view.Tensor]:
    """A predictor's `feed_tensors`."""
    return graph_view.tensors(specs, graph_view.Graph(Signature(specs, {})))


def test_input_made_up_and_read(tmp_path: Path) -> None:
    picture = inputs_of(image=TensorSpec("image:0", "uint8", (None, None, None, 3)))
    for text in ("uint8:1,4,5,3", "1,4,5,3", "image=uint8:1,4,5,3"):
        array = read_input(text, picture)["image"]
        assert (array.shape, array.dtype) == ((1, 4, 5, 3), np.uint8)
    two = inputs_of(x=TensorSpec("x:0", "float32", None), y=TensorSpec("y:0", "int64_ref", None))
    made = read_input("y=int64: x=2,3", two)
    assert {alias: (array.shape, array.dtype.name) for alias, array in made.items()} == {
        "x": ((2, 3), "float32"),
        "y": ((), "int64"),
    }
    np.save(tmp_path / "a.npy", np.arange(3))
    assert read_input(str(tmp_path / "a.npy"), {"x": None})["x"].tolist() == [0, 1, 2]
    np.savez(tmp_path / "a.npz", x=np.zeros(2), y=np.ones(1))
    assert set(read_input(str(tmp_path / "a.npz"), {"x": None, "y": None})) == {"x", "y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uint8:1,a", "sizes such as"),
        ("uint8:0", "sizes of 1 or more"),
        ("string:1", "needs numbers"),
        ("float64:100000,100000,100", "more than"),
        ("absent.npy", "nor a file"),
        ("float32:1", "shape 'float32:1' is float32, and input 'x' takes float64"),
        ("z=1", "--shape names z, and the inputs are x"),
        ("1 1", "given twice for input x"),
        ("300000000", "more than"),  # bytes, at the eight of the model's own dtype
    ],
)
def test_input_that_cannot_be_made(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_input(text, inputs_of(x=TensorSpec("x:0", "float64", None)))


def test_several_inputs_need_a_file_of_several() -> None:
    with pytest.raises(InvalidInput, match="npz"):
        read_input("a.npy", {"x": None, "y": None})
    two = inputs_of(x=TensorSpec("x:0", "uint8", None), y=TensorSpec("y:0", "uint8", None))
    with pytest.raises(InvalidInput, match="give --shape for y too"):
        read_input("x=uint8:1", two)
