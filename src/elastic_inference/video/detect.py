"""Detection on a video from end to end: check, load, run the pipeline, report. Uses public names only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elastic_inference import Accelerator, EIPredictor, LoadOptions, PredictorReport
from elastic_inference.client.accelerator import Local
from elastic_inference.client.predictor import DEFAULT_TIMEOUT_SECONDS
from elastic_inference.client.upload import Progress
from elastic_inference.errors import InvalidInput
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest
from elastic_inference.video.detections import Detections
from elastic_inference.video.draw import Painter
from elastic_inference.video.pipeline import Picture, Pipeline, PipelineResult, Prediction
from elastic_inference.video.prepare import Preparation, embedded_to_choose_for, store_folder
from elastic_inference.video.report import InferenceTimes, RunReport
from elastic_inference.video.sink import VideoSink, check_output
from elastic_inference.video.source import Pixels, VideoInfo, VideoSource
from elastic_inference.zoo import DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES, ResolvedModel, read_labels

DEFAULT_SCORE = 0.5
# With one picture on the wire while another computes, the accelerator never waits for the client. Without an
# accelerator there is no wire, and two at once would only take turns on the same cores.
_IN_FLIGHT_WITH_EI = 2
_IN_FLIGHT_WITHOUT_EI = 1

_NO_WARM_UP = "no warm-up was asked for"  # the predictor's words; the warm-up here is on the video's own size


@dataclass(frozen=True)
class DetectionJob:
    """What is to be done.

    Attributes:
        num_frames: The first so many pictures; None for all.
        score: Objects below it, 0..1, are not drawn.
        labels: Class id -> name; None takes the model's own, or COCO's.
        in_flight: Pictures at the predictor at once; None: 2 with an accelerator, 1 without.
        accelerator: Where to compute; `Accelerator.local()`: in this process.
        load: How to load; the warm-up is made on the video's own size, whatever it says.
        timeout_seconds: Of one picture.
        on_upload: Called with (bytes sent, bytes in all) while the model is sent.

    With precision "auto" on an embedded accelerator, pictures of the video itself calibrate and judge, once a model.
    """

    video: Path
    model: ResolvedModel
    output: Path
    accelerator: Accelerator = field(default_factory=Accelerator.from_environment)
    num_frames: int | None = None
    score: float = DEFAULT_SCORE
    labels: Mapping[int, str] | None = None
    in_flight: int | None = None
    load: LoadOptions = field(default_factory=LoadOptions)
    timeout_seconds: float | None = DEFAULT_TIMEOUT_SECONDS
    on_upload: Progress | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise InvalidInput(f"score {self.score} is not between 0 and 1")
        if self.num_frames is not None and self.num_frames < 1:
            raise InvalidInput(f"frames {self.num_frames} must be 1 or more")
        if self.in_flight is not None and not 1 <= self.in_flight <= 64:
            raise InvalidInput(f"in_flight {self.in_flight} is not between 1 and 64")

    @property
    def use_ei(self) -> bool:
        """Whether an accelerator computes."""
        return not isinstance(self.accelerator, Local)


@dataclass(frozen=True)
class Listener:
    """Who is told of what, as it happens; each may be left out.

    Attributes:
        on_loading: Before the model is loaded, with the video's figures.
        on_stage: While the model is loaded, with what that does now, such as "compiling"; from another thread too.
        on_choosing: While precision "auto" is chosen, with a sentence for each step.
        on_progress: Pictures written so far and in all (None: unknown); from another thread.
        on_picture: Each annotated picture in order with all its detections; from another thread. The pixels
            are only valid during the call.
    """

    on_loading: Callable[[VideoInfo], None] | None = None
    on_stage: Callable[[str], None] | None = None
    on_choosing: Callable[[str], None] | None = None
    on_progress: Callable[[int, int | None], None] | None = None
    on_picture: Callable[[Picture, Detections], None] | None = None


def check_paths(video: Path, output: Path, num_frames: int | None = None) -> None:
    """Refuse a video that cannot be read or an output that cannot be written, before a model is even fetched.

    Raises:
        InvalidInput: Says which and why.
    """
    check_output(output, video)
    VideoSource(video, num_frames).close()


def detect(job: DetectionJob, listener: Listener | None = None) -> RunReport:
    """Find objects in every picture, and write the video with boxes, names and scores.

    Returns:
        Also when the user interrupts; the output then holds what was done until then.

    Raises:
        InvalidInput: The video cannot be read or the output not be written; before any model is loaded.
        ElasticInferenceError: What the predictor raises, or a failure on the way; the output then holds what
            was done before it.
    """
    listener = listener or Listener()
    check_output(job.output, job.video)
    with VideoSource(job.video, job.num_frames) as source:
        painter = _painter(job, source.info)
        if listener.on_loading is not None:
            listener.on_loading(source.info)
        with store_folder(job.accelerator, job.load) as folder:
            loaded = _load(job, source.info, listener, folder)
            with loaded.predictor:
                result = _run(job, listener, source, painter, loaded)
                return _report(job, source, loaded, result)


def _painter(job: DetectionJob, info: VideoInfo) -> Painter:
    labels = job.labels if job.labels is not None else read_labels(job.model.labels or "coco90")
    return Painter(info.width, info.height, labels)


@dataclass(frozen=True)
class _Loaded:
    predictor: EIPredictor
    alias: str
    load_seconds: float
    warm_up_seconds: float


def _load(
    job: DetectionJob, info: VideoInfo, listener: Listener, folder: str | Literal[False] | None
) -> _Loaded:
    """Make the predictor and warm it up on the video's size: engines prepare for a shape when they first see it."""
    inputs, outputs = job.model.input_names, job.model.output_names
    package = ModelPackage.read(job.model.path)
    if inputs is None and package.format is ModelFormat.FROZEN_GRAPH:
        inputs, outputs = DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES
    chosen_for = embedded_to_choose_for(job.accelerator, job.load)
    if chosen_for is not None and folder:
        request = SignatureRequest(None, inputs, outputs)
        tell = listener.on_choosing or (lambda _: None)
        Preparation(
            job.video, package, request, chosen_for, job.load.engine, folder, job.num_frames, tell
        ).run()
    start = time.perf_counter()
    predictor = EIPredictor(
        str(job.model.path),
        input_names=None if inputs is None else dict(inputs),
        output_names=None if outputs is None else dict(outputs),
        accelerator=job.accelerator,
        load=replace(job.load, warm_up=False, cache_dir=folder),
        timeout_seconds=job.timeout_seconds,
        progress=job.on_upload,
        on_stage=listener.on_stage,
    )
    try:
        alias = _picture_alias(list(predictor.feed_tensors))
        start_warm_up = time.perf_counter()
        Detections.from_outputs(predictor({alias: np.zeros((1, info.height, info.width, 3), np.uint8)}))
    except BaseException:
        predictor.close()
        raise
    now = time.perf_counter()
    return _Loaded(predictor, alias, now - start, now - start_warm_up)


def _picture_alias(aliases: list[str]) -> str:
    if len(aliases) != 1:
        raise InvalidInput(f"the model has {len(aliases)} inputs ({', '.join(aliases)}); a detector has one")
    return aliases[0]


def _run(
    job: DetectionJob,
    listener: Listener,
    source: VideoSource,
    painter: Painter,
    loaded: _Loaded,
) -> PipelineResult:
    total = source.info.num_frames
    if job.num_frames is not None:
        total = job.num_frames if total is None else min(total, job.num_frames)

    def predict(pixels: Pixels) -> Prediction[dict[str, npt.NDArray[Any]]]:
        outputs, timing = loaded.predictor.predict_timed({loaded.alias: pixels})
        return Prediction(outputs, timing.latency_seconds - timing.queue_seconds)

    def annotate(picture: Picture, outputs: dict[str, npt.NDArray[Any]]) -> None:
        detections = Detections.from_outputs(outputs)
        painter.draw(picture.pixels, detections.above(job.score))
        if listener.on_picture is not None:
            listener.on_picture(picture, detections)

    def on_progress(num_written: int) -> None:
        if listener.on_progress is not None:
            listener.on_progress(num_written, total)

    sink = VideoSink(job.output, source.info)
    return Pipeline(
        source,
        sink,
        predict,
        annotate,
        in_flight=_in_flight(job),
        num_frames=job.num_frames,
        on_progress=on_progress,
    ).run()


def _in_flight(job: DetectionJob) -> int:
    return job.in_flight or (_IN_FLIGHT_WITH_EI if job.use_ei else _IN_FLIGHT_WITHOUT_EI)


def _report(job: DetectionJob, source: VideoSource, loaded: _Loaded, result: PipelineResult) -> RunReport:
    in_force = loaded.predictor.report
    times = InferenceTimes.of(result.inference_seconds)
    notes = [note for note in in_force.notes if note != _NO_WARM_UP]
    if not job.use_ei:
        notes.append(
            "Without accelerator the model runs inside the client, so its CPU time is in the client's."
        )
    if source.info.has_audio:
        notes.append("The sound of the video is left out.")
    if source.info.width % 2 or source.info.height % 2:
        notes.append(
            f"The output is {source.info.width & ~1}x{source.info.height & ~1}: H.264 needs even sizes, and the last "
            "column or row is left out."
        )
    shortfall = None if result.is_interrupted or job.num_frames is not None else source.shortfall()
    return RunReport(
        use_ei=job.use_ei,
        video=str(job.video),
        width=source.info.width,
        height=source.info.height,
        model=job.model.name,
        model_load_seconds=loaded.load_seconds,
        load_parts_seconds={
            "start": in_force.start_seconds,
            "upload": in_force.upload_seconds,
            "load": in_force.load_seconds,
            "warm_up": loaded.warm_up_seconds,
        },
        num_frames=result.num_frames,
        average_inference_seconds=times.average_seconds,
        total_inference_seconds=times.total_seconds,
        p50_inference_seconds=times.p50_seconds,
        p99_inference_seconds=times.p99_seconds,
        in_flight=_in_flight(job),
        wall_seconds=result.wall_seconds,
        client_cpu_seconds_per_frame=result.cpu_seconds / max(1, result.num_frames),
        engine=in_force.engine,
        engine_version=in_force.engine_version,
        device=in_force.device,
        precision=in_force.precision,
        num_threads=in_force.num_threads,
        transport=in_force.transport,
        accelerator_id=in_force.accelerator_id,
        accelerator_type=in_force.accelerator_type,
        limits=in_force.limits,
        is_same_machine_cpu=_is_same_machine_cpu(in_force),
        output=str(job.output),
        is_interrupted=result.is_interrupted,
        proof=loaded.predictor.report_now().proof,
        notes=tuple(notes if shortfall is None else [*notes, shortfall]),
    )


def _is_same_machine_cpu(in_force: PredictorReport) -> bool:
    if not in_force.device.startswith("cpu"):
        return False
    is_near = "shared memory" in in_force.transport or in_force.transport.startswith(("in process", "unix"))
    return is_near or any(name in in_force.address for name in ("127.0.0.1", "localhost", "[::1]"))
