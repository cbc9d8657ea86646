"""The three stages: order, bounded buffers, and an orderly end after errors and interrupts at each of them."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.video.pipeline import Picture, Pipeline, Prediction
from elastic_inference.video.source import Pixels, VideoInfo
from tests.waiting import wait_until


class CountingSource:
    """Pictures whose first value is their index; fails at `fail_at`."""

    def __init__(self, num_frames: int, fail_at: int | None = None) -> None:
        self.info = VideoInfo(Path("in"), 8, 8, Fraction(25), Fraction(1, 25), num_frames, Fraction(1), False)
        self.buffers: set[int] = set()
        self._left = iter(range(num_frames))
        self._fail_at = fail_at

    def read_into(self, pixels: Pixels) -> int | None:
        self.buffers.add(pixels.__array_interface__["data"][0])
        index = next(self._left, None)
        if index is not None and index == self._fail_at:
            raise InvalidInput("the source broke")
        if index is not None:
            pixels[0, 0] = index % 256, index // 256, 0
        return index


class ListingSink:
    """Remembers what it was given; fails at `fail_at`."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.written: list[tuple[int, int]] = []
        self.is_closed = False
        self._fail_at = fail_at

    def write(self, pixels: Pixels, time: int) -> None:
        if len(self.written) == self._fail_at:
            raise InvalidInput("the sink broke")
        self.written.append((_index(pixels), time))

    def close(self) -> None:
        self.is_closed = True


def _index(pixels: Pixels) -> int:
    return int(pixels[0, 0, 0]) + 256 * int(pixels[0, 0, 1])


def _echo(pixels: Pixels) -> Prediction[int]:
    return Prediction(_index(pixels[0]), 0.5)


def _no_drawing(picture: Picture, outputs: int) -> None:
    assert picture.index == outputs == _index(picture.pixels)


@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_every_picture_passes_once_in_order(in_flight: int) -> None:
    source, sink = CountingSource(600), ListingSink()
    seen: list[int] = []
    result = Pipeline(source, sink, _echo, _no_drawing, in_flight=in_flight, on_progress=seen.append).run()
    assert sink.written == [(index, index) for index in range(600)]
    assert seen == list(range(1, 601))
    assert (result.num_frames, list(result.inference_seconds)) == (600, [0.5] * 600)
    assert not result.is_interrupted
    assert sink.is_closed


def test_answers_that_come_in_another_order_are_written_in_order() -> None:
    second_is_done = threading.Event()

    def predict(pixels: Pixels) -> Prediction[int]:
        prediction = _echo(pixels)
        if prediction.outputs == 0:
            assert second_is_done.wait(30)
        second_is_done.set()
        return prediction

    sink = ListingSink()
    Pipeline(CountingSource(20), sink, predict, _no_drawing, in_flight=2).run()
    assert [index for index, _ in sink.written] == list(range(20))


def test_memory_is_the_buffers_however_long_the_video_and_whichever_stage_is_slow() -> None:
    """The writer waits until the reader can go no further, so the reader is as far ahead as it ever gets."""
    source, sink = CountingSource(600), ListingSink()
    pipeline: Pipeline[int]
    ahead: list[int] = []

    def annotate(picture: Picture, outputs: int) -> None:
        if picture.index == 0:
            wait_until(lambda: pipeline.statistics().num_read >= pipeline.statistics().num_buffers)
        statistics = pipeline.statistics()
        ahead.append(statistics.num_read - statistics.num_written)
        _no_drawing(picture, outputs)

    pipeline = Pipeline(source, sink, _echo, annotate, in_flight=2)
    pipeline.run()
    statistics = pipeline.statistics()
    assert (statistics.num_read, statistics.num_predicted, statistics.num_written) == (600, 600, 600)
    assert statistics.num_buffers == 6
    assert statistics.buffer_bytes == 6 * 8 * 8 * 3
    assert ahead[0] == 6
    assert max(ahead) <= 6
    assert len(source.buffers) == 6


@pytest.mark.parametrize("in_flight", [1, 3])
def test_an_error_of_any_stage_is_raised_and_leaves_what_was_done(in_flight: int) -> None:
    sink = ListingSink()
    with pytest.raises(InvalidInput, match="the source broke"):
        Pipeline(CountingSource(100, fail_at=40), sink, _echo, _no_drawing, in_flight=in_flight).run()
    assert [index for index, _ in sink.written] == list(range(40))
    assert sink.is_closed

    def predict(pixels: Pixels) -> Prediction[int]:
        prediction = _echo(pixels)
        if prediction.outputs == 40:
            raise InvalidInput("the model broke")
        return prediction

    sink = ListingSink()
    with pytest.raises(InvalidInput, match="the model broke"):
        Pipeline(CountingSource(100), sink, predict, _no_drawing, in_flight=in_flight).run()
    assert [index for index, _ in sink.written] == list(range(40))
    assert sink.is_closed

    sink = ListingSink(fail_at=40)
    with pytest.raises(InvalidInput, match="the sink broke"):
        Pipeline(CountingSource(10_000), sink, _echo, _no_drawing, in_flight=in_flight).run()
    assert len(sink.written) == 40
    assert sink.is_closed


def test_an_interrupt_keeps_what_was_predicted() -> None:
    def predict(pixels: Pixels) -> Prediction[int]:
        prediction = _echo(pixels)
        if prediction.outputs == 40:
            raise KeyboardInterrupt
        return prediction

    sink = ListingSink()
    result = Pipeline(CountingSource(10_000), sink, predict, _no_drawing).run()
    assert result.is_interrupted
    assert result.num_frames == 40
    assert [index for index, _ in sink.written] == list(range(40))
    assert sink.is_closed


def test_only_the_first_frames_are_read() -> None:
    source, sink = CountingSource(100), ListingSink()
    result = Pipeline(source, sink, _echo, _no_drawing, num_frames=7).run()
    assert result.num_frames == len(sink.written) == 7


@pytest.mark.parametrize(("in_flight", "num_frames"), [(0, None), (1, 0)])
def test_a_pipeline_of_nothing_is_refused(in_flight: int, num_frames: int | None) -> None:
    with pytest.raises(InvalidInput, match="must be 1 or more"):
        Pipeline(
            CountingSource(1), ListingSink(), _echo, _no_drawing, in_flight=in_flight, num_frames=num_frames
        )


def test_predictions_are_fed_one_picture_with_a_batch_axis() -> None:
    shapes: set[tuple[int, ...]] = set()

    def predict(pixels: Pixels) -> Prediction[int]:
        shapes.add(pixels.shape)
        assert pixels.dtype == np.uint8
        return _echo(pixels)

    Pipeline(CountingSource(3), ListingSink(), predict, _no_drawing).run()
    assert shapes == {(1, 8, 8, 3)}
