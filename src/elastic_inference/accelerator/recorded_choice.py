"""Choosing a model's precision by requests that were recorded, where its client gave no samples."""

from __future__ import annotations

import logging

import psutil

from elastic_inference.accelerator.recording import Recordings
from elastic_inference.engines import choices
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.choosing import Sample, Samples, Task, choose
from elastic_inference.engines.stages import Stage, begin
from elastic_inference.errors import ElasticInferenceError, UnsupportedModel
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

log = logging.getLogger(__name__)
FEWEST_REQUESTS = 6  # four calibrate, two judge


def is_enough(recordings: Recordings, package: ModelPackage, request: SignatureRequest) -> bool:
    """Whether so many requests of a model are recorded that a precision can be chosen by them."""
    recording = recordings.find(package, request)
    return recording is not None and recording.num_kept >= FEWEST_REQUESTS


def prepare(
    recordings: Recordings,
    package: ModelPackage,
    request: SignatureRequest,
    options: EngineOptions,
    memory_limit_bytes: int | None,
) -> str:
    """Choose and prove by recorded requests what a load asks for, unless that was chosen before or is not asked for.

    Args:
        memory_limit_bytes: Of the accelerator, which this process and the candidates share; None: no limit.

    Returns:
        Why nothing was chosen, in a sentence; "" where it was, or need not be.

    Raises:
        UnsupportedModel: int8 was asked for by name, and its answers do not agree.
    """
    if options.precision not in ("auto", "int8"):
        return ""
    if options.store is None:
        return "Recorded requests were not used: there is no store that could hold a choice."
    if choices.find(package, request, options) is not None:
        return ""
    recording = recordings.find(package, request)
    try:
        samples = [] if recording is None else recording.samples()
    except (OSError, ValueError) as error:
        return f"Recorded requests were not used: {error}."
    if len(samples) < FEWEST_REQUESTS:
        return (
            f"Of this model {len(samples)} requests are recorded here, and {FEWEST_REQUESTS} are needed to choose a "
            "precision by them: call it more often, then load it again beside the one that is called."
        )
    room = None if memory_limit_bytes is None else memory_limit_bytes - psutil.Process().memory_info().rss
    # In the folder that goes with what is recorded, however this process ends.
    scratch = recordings.folder
    return _chosen(
        Task(package, request, options, lambda _: _split(samples), scratch=scratch, memory_limit_bytes=room)
    )


def _split(samples: list[Sample]) -> Samples:
    return Samples.of(samples, are_recorded=True)


def _chosen(task: Task) -> str:
    begin(Stage.CHOOSING)
    try:
        choice = choose(task)
    except ElasticInferenceError as error:
        return f"Recorded requests were not used: {error}."
    log.info("precision chosen by recorded requests", extra={"reason": choice.reason})
    if not choice.is_as_wanted:
        raise UnsupportedModel(
            f"precision {choice.wanted_precision!r} was refused by {choice.num_recorded} recorded requests: "
            f"{choice.reason}"
        )
    return ""
