"""Read, predict and write a video at the same time: three stages over one fixed set of picture buffers.

A reader thread fills free buffers, the calling thread keeps predictions in flight, a writer thread annotates and
encodes in order and gives buffers back. The buffers are the bound: a stage that is ahead waits for one, so memory
does not depend on the length of the video.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

import numpy as np

from elastic_inference.errors import InvalidInput
from elastic_inference.video.source import Pixels, VideoInfo

Outputs = TypeVar("Outputs")

# One buffer is being filled, one waits for the engine, one is being encoded, and one evens out the encoder, whose
# pictures take unequal time.
_SPARE_BUFFERS = 4


class Source(Protocol):
    """Where pictures come from; see `VideoSource`."""

    @property
    def info(self) -> VideoInfo: ...
    def read_into(self, pixels: Pixels) -> int | None: ...


class Sink(Protocol):
    """Where pictures go; see `VideoSink`."""

    def write(self, pixels: Pixels, time: int) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Prediction(Generic[Outputs]):
    """What the model gave for one picture, and how long a lone call would have taken.

    Attributes:
        inference_seconds: From call to answer, without the wait behind other pictures in flight.
    """

    outputs: Outputs
    inference_seconds: float


@dataclass
class Picture:
    """A picture on its way; `pixels` is uint8[H, W, 3] RGB in a buffer that is used again afterwards."""

    index: int
    time: int
    pixels: Pixels


@dataclass(frozen=True)
class PipelineStatistics:
    """What passed and how much memory pictures may take."""

    num_read: int
    num_predicted: int
    num_written: int
    num_buffers: int
    buffer_bytes: int


@dataclass(frozen=True)
class PipelineResult:
    """What a run of the pipeline came to.

    Attributes:
        num_frames: Pictures written.
        wall_seconds: From the first read to the finished file.
        cpu_seconds: CPU time of this process in that time, all threads.
        inference_seconds: Of each picture, in order; 8 bytes a picture.
        is_interrupted: Whether the user stopped it; the file holds what was done by then.
    """

    num_frames: int
    wall_seconds: float
    cpu_seconds: float
    inference_seconds: array[float] = field(repr=False)
    is_interrupted: bool


class Pipeline(Generic[Outputs]):
    """One run over one video.

    Args:
        predict: Called with uint8[1, H, W, 3]; from `in_flight` threads at once, or from the calling thread for 1.
        annotate: Called in order in the writer thread; draws into the picture's pixels.
        in_flight: Predictions on their way at once, 1 or more.
        num_frames: Pictures to process; None for all.
        on_progress: Called in order in the writer thread with the number of pictures written.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        predict: Callable[[Pixels], Prediction[Outputs]],
        annotate: Callable[[Picture, Outputs], None],
        *,
        in_flight: int = 1,
        num_frames: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        if in_flight < 1:
            raise InvalidInput(f"in_flight {in_flight} must be 1 or more")
        if num_frames is not None and num_frames < 1:
            raise InvalidInput(f"num_frames {num_frames} must be 1 or more")
        self._source, self._sink = source, sink
        self._predict, self._annotate, self._on_progress = predict, annotate, on_progress
        self._in_flight, self._num_frames = in_flight, num_frames
        self._num_buffers = in_flight + _SPARE_BUFFERS
        # None says: nothing more comes. Puts never wait, since no more pictures exist than there are buffers.
        self._free: SimpleQueue[Pixels | None] = SimpleQueue()
        self._ready: SimpleQueue[Picture | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[Picture, Prediction[Outputs]] | None] = SimpleQueue()
        self._stopping = threading.Event()
        self._errors: list[BaseException] = []
        self._num_read = self._num_predicted = self._num_written = 0
        self._inference_seconds = array("d")

    def run(self) -> PipelineResult:
        """Process the video and close the sink, whatever happens.

        Returns:
            Also when the user interrupts (`KeyboardInterrupt`), with what was done until then.

        Raises:
            ElasticInferenceError: The first failure of any stage; the sink holds what was written before it.
        """
        start, start_cpu = time.perf_counter(), time.process_time()
        reader = threading.Thread(target=self._guard, args=(self._read,), name="video-reader", daemon=True)
        writer = threading.Thread(target=self._guard, args=(self._write,), name="video-writer", daemon=True)
        info = self._source.info
        for _ in range(self._num_buffers):
            self._free.put(np.empty((info.height, info.width, 3), np.uint8))
        reader.start()
        writer.start()
        is_interrupted = False
        try:
            self._predict_all()
            self._drain(reader, writer)
        except KeyboardInterrupt:
            is_interrupted = True
        except BaseException as error:
            self._errors.append(error)
        self._drain(reader, writer)
        if self._errors:
            raise self._errors[0]
        return PipelineResult(
            num_frames=self._num_written,
            wall_seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - start_cpu,
            inference_seconds=self._inference_seconds,
            is_interrupted=is_interrupted,
        )

    def statistics(self) -> PipelineStatistics:
        """Return a snapshot; may be taken from any thread."""
        info = self._source.info
        return PipelineStatistics(
            num_read=self._num_read,
            num_predicted=self._num_predicted,
            num_written=self._num_written,
            num_buffers=self._num_buffers,
            buffer_bytes=self._num_buffers * info.height * info.width * 3,
        )

    def _drain(self, *threads: threading.Thread) -> None:
        """End both threads after what has been predicted is written; may be called again."""
        self._stop()
        self._done.put(None)
        for thread in threads:
            thread.join()

    def _guard(self, stage: Callable[[], None]) -> None:
        try:
            stage()
        except BaseException as error:  # raised again by run(), in the caller's thread
            self._errors.append(error)

    def _stop(self) -> None:
        self._stopping.set()
        self._free.put(None)

    def _read(self) -> None:
        try:
            while self._num_frames is None or self._num_read < self._num_frames:
                pixels = self._free.get()
                if pixels is None or self._stopping.is_set():
                    return
                picture_time = self._source.read_into(pixels)
                if picture_time is None:
                    return
                self._ready.put(Picture(self._num_read, picture_time, pixels))
                self._num_read += 1
        finally:
            self._ready.put(None)

    def _predict_all(self) -> None:
        if self._in_flight == 1:
            while (picture := self._ready.get()) is not None and not self._stopping.is_set():
                self._finish(picture, self._predict(picture.pixels[np.newaxis]))
            return
        pool = ThreadPoolExecutor(self._in_flight, thread_name_prefix="video-predict")
        waiting: deque[tuple[Picture, Future[Prediction[Outputs]]]] = deque()
        try:
            while (picture := self._ready.get()) is not None and not self._stopping.is_set():
                waiting.append((picture, pool.submit(self._predict, picture.pixels[np.newaxis])))
                if len(waiting) == self._in_flight:
                    self._finish_oldest(waiting)
            while waiting and not self._stopping.is_set():
                self._finish_oldest(waiting)
        finally:
            # After an interrupt nobody waits for an answer; buffers still being sent are not used again.
            pool.shutdown(wait=False, cancel_futures=True)

    def _finish_oldest(self, waiting: deque[tuple[Picture, Future[Prediction[Outputs]]]]) -> None:
        picture, future = waiting.popleft()
        self._finish(picture, future.result())

    def _finish(self, picture: Picture, prediction: Prediction[Outputs]) -> None:
        self._num_predicted += 1
        self._done.put((picture, prediction))

    def _write(self) -> None:
        try:
            self._write_all()
        finally:
            self._stop()  # after a failure nobody empties the queue of what is done
            self._sink.close()  # here, because an interrupt only reaches the main thread and cannot cut it short

    def _write_all(self) -> None:
        while (item := self._done.get()) is not None:
            picture, prediction = item
            self._annotate(picture, prediction.outputs)
            self._sink.write(picture.pixels, picture.time)
            self._free.put(picture.pixels)
            self._inference_seconds.append(prediction.inference_seconds)
            self._num_written += 1
            if self._on_progress is not None:
                self._on_progress(self._num_written)
