"""When calls are recorded and replayed: the decision, on a device that only pretends to record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import settings
from elastic_inference.engines import preemption
from elastic_inference.engines.torch.device import PIECE_SECONDS, Cpu, Cuda
from elastic_inference.engines.torch.graphs import CALLS_BEFORE, LONGEST_SECONDS, MAX_FORMS, GraphedRun
from elastic_inference.errors import MemoryQuotaExceeded
from tests.torch.models import export, nn, torch


class Device:
    """Has a clock of its own, on which a plain call and a replay take what they are said to.

    A recording computes from places of its own, as one of CUDA does, so that whoever forgets to fill them is found out.
    """

    def __init__(self, plain: float = 0.003, replay: float = 0.001) -> None:
        self.now = 0.0
        self.num_recordings = 0
        self.num_replays = 0
        self.error: Exception | None = None
        self.wrong_by = 0.0
        self._seconds = {"plain": plain, "replay": replay}

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        self.now += self._seconds["plain"]
        return [tensors[0] * 2 + 1, 7]

    def record(self, run: Callable[..., list[Any]], tensors: Sequence[Any]) -> Any:
        self.num_recordings += 1
        if self.error is not None:
            raise self.error
        kept = [tensor.clone() for tensor in tensors]

        def replay(given: Sequence[Any]) -> list[Any]:
            self.num_replays += 1
            for own, tensor in zip(kept, given, strict=True):
                own.copy_(tensor)
            started = self.now
            answer = run(kept)
            self.now = started + self._seconds["replay"]
            return [answer[0] + self.wrong_by, *answer[1:]]

        return replay

    def timed(self, call: Callable[[], Any]) -> tuple[float, Any]:
        started = self.now
        value = call()
        return self.now - started, value


def answers(graphed: GraphedRun, num_calls: int, size: int = 3) -> None:
    """Call it and look at each answer."""
    for number in range(num_calls):
        x = torch.arange(size, dtype=torch.float32) + number
        found = graphed([x])
        torch.testing.assert_close(found[0], x * 2 + 1, rtol=0, atol=0)
        assert found[1] == 7


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_form_that_comes_often_is_replayed_where_that_is_equal_and_faster(said: list[str]) -> None:
    device = Device()
    graphed = GraphedRun(device.run, device, None, said.append)
    answers(graphed, CALLS_BEFORE)
    assert not device.num_recordings
    answers(graphed, 1)
    assert said == ["A CUDA graph answers calls of [3]."]
    before, now = device.num_replays, device.now
    answers(graphed, 5)
    assert device.num_replays == before + 5
    assert device.now - now == pytest.approx(5 * 0.001)
    answers(graphed, CALLS_BEFORE, size=4)  # another form is another recording
    assert device.num_recordings == 1


def spoil(device: Device, how: str) -> None:
    if how == "wrong":
        device.wrong_by = 0.01
    elif how == "error":
        device.error = RuntimeError("operation not permitted when stream is capturing\nCompile with ...")
    elif how == "slow":
        device._seconds["replay"] = 0.0029
    else:
        device._seconds |= {"plain": 0.009, "replay": 2.1 * PIECE_SECONDS}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("wrong", "its answers differ: output '0'"),
        ("error", "it cannot be recorded: operation not permitted when stream is capturing."),
        ("slow", "it is 1.03 times as fast, which is less than the 1.05 that would count."),
        ("long", "it takes 2.1 ms and is cut nowhere, on a device shared by lease (at most 2 ms)."),
    ],
)
def test_what_is_not_replayed_says_why_and_is_tried_once(said: list[str], how: str, reason: str) -> None:
    device = Device()
    spoil(device, how)
    graphed = GraphedRun(device.run, device, 2 * PIECE_SECONDS, said.append)
    answers(graphed, CALLS_BEFORE + 1)
    replays = device.num_replays
    answers(graphed, 2 * CALLS_BEFORE)
    assert (device.num_recordings, device.num_replays) == (1, replays)
    assert len(said) == 1
    assert said[0].startswith(f"No CUDA graph for [3]: {reason}")


def test_a_long_call_is_not_worth_a_recording(said: list[str]) -> None:
    device = Device(plain=2 * LONGEST_SECONDS)
    answers(GraphedRun(device.run, device, None, said.append), 3 * CALLS_BEFORE)
    assert not device.num_recordings
    assert not said


def test_recordings_are_few_and_given_back_where_memory_runs_short(said: list[str]) -> None:
    device = Device()
    graphed = GraphedRun(device.run, device, None, said.append)
    for size in range(1, MAX_FORMS + 3):
        answers(graphed, CALLS_BEFORE + 1, size)
    assert device.num_recordings == MAX_FORMS
    graphed.forget()
    replays = device.num_replays
    answers(graphed, 2 * CALLS_BEFORE, 1)
    assert (device.num_recordings, device.num_replays) == (MAX_FORMS, replays)


def test_they_are_tried_where_the_operator_says_so_and_inputs_are_kept(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    model = load(export(nn.ReLU(), tmp_path / "m.pt2", (torch.zeros(3),)))
    program = model._program
    cuda = Cuda.__new__(Cuda)  # whose constructor needs a GPU
    cuda._torch, cuda._stream = torch, None
    assert cuda.quickened(program, said.append) is program.run
    monkeypatch.setenv(settings.CUDA_GRAPHS.name, "on")
    graphed = cuda.quickened(program, said.append)
    assert isinstance(graphed, GraphedRun)
    assert graphed._longest_seconds is None
    monkeypatch.setattr(preemption, "_preemption", object())
    assert cuda.quickened(program, said.append)._longest_seconds == 2 * PIECE_SECONDS
    program.is_input_kept = False
    assert cuda.quickened(program, said.append) is program.run
    assert said == ["CUDA graphs are not tried for a model that may change its inputs, as TorchScript may."]


def test_the_engine_replays_tells_it_and_forgets_at_the_limit_of_memory(
    tmp_path: Path, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device()
    monkeypatch.setattr(
        Cpu, "quickened", lambda _self, _program, say: GraphedRun(device.run, device, None, say)
    )
    model = load(export(nn.ReLU(), tmp_path / "m.pt2", (torch.zeros(3),)))
    x = np.ones(3, np.float32)
    for _ in range(CALLS_BEFORE + 2):
        np.testing.assert_array_equal(model.predict({"input": x})["out"], 3)
    assert model.report.notes == ("A CUDA graph answers calls of [3].",)

    def breaks(_tensors: Sequence[Any]) -> list[Any]:
        raise MemoryError

    monkeypatch.setattr(device, "run", breaks)
    model._run._run = breaks
    model._run._replays = dict.fromkeys(model._run._replays, breaks)
    with pytest.raises(MemoryQuotaExceeded):
        model.predict({"input": x})
    assert not model._run._replays
