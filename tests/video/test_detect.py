"""Detection from end to end: real accelerator processes, real clips, and the reference detector where it is here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator
from elastic_inference.errors import ElasticInferenceError, InvalidInput, ModelError
from elastic_inference.testing import start_accelerator, write_model
from elastic_inference.video.best_picture import Recorder
from elastic_inference.video.detect import DetectionJob, Listener, detect
from elastic_inference.video.detections import compare
from elastic_inference.zoo import ResolvedModel
from tests.shared import shared_path
from tests.video.clips import make_clip, read_all

OUTPUTS = {
    "detection_boxes": ("float32", (1, 100, 4)),
    "detection_scores": ("float32", (1, 100)),
    "detection_classes": ("float32", (1, 100)),
    "num_detections": ("float32", (1,)),
}
CLIP = resources.files("elastic_inference") / "data" / "highway_720p.mp4"


def test_a_video_goes_through_an_accelerator_frame_by_frame(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 30, audio=True)
    seen: list[tuple[int, int | None]] = []
    with start_accelerator() as accelerator:
        job = DetectionJob(
            video=clip,
            model=ResolvedModel("zeros", write_model(tmp_path / "zeros.testing", outputs=OUTPUTS)),
            output=tmp_path / "out.mp4",
            accelerator=Accelerator.at(accelerator.address, token=accelerator.token),
        )
        report = detect(job, Listener(on_progress=lambda done, total: seen.append((done, total))))
    pictures, times = read_all(tmp_path / "out.mp4")
    assert len(pictures) == report.num_frames == 30
    assert times == pytest.approx([index / 25 for index in range(30)], abs=1e-3)
    assert seen == [(index, 30) for index in range(1, 31)]
    assert (report.use_ei, report.engine, report.in_flight) == (True, "testing", 2)
    assert 0 < report.p50_inference_seconds <= report.p99_inference_seconds
    assert report.total_inference_seconds == pytest.approx(30 * report.average_inference_seconds)
    assert report.client_cpu_seconds_per_frame > 0
    assert report.notes == ("The sound of the video is left out.",)


def test_a_model_that_breaks_mid_way_leaves_no_file_of_nothing(tmp_path: Path) -> None:
    """The model fails at its first call, which is before the pipeline."""
    clip = make_clip(tmp_path / "in.mp4", 5)
    model = write_model(tmp_path / "bad.testing", outputs=OUTPUTS, fail="out of luck")
    with start_accelerator() as accelerator:
        place = Accelerator.at(accelerator.address, token=accelerator.token)
        job = DetectionJob(clip, ResolvedModel("bad", model), tmp_path / "out.mp4", accelerator=place)
        with pytest.raises(ModelError, match="out of luck"):
            detect(job)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.testing", "in.mp4"]


def test_an_accelerator_killed_mid_way_is_an_error_and_leaves_what_plays(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 400)
    model = write_model(tmp_path / "zeros.testing", outputs=OUTPUTS, wait_seconds=0.002)
    with start_accelerator() as accelerator:

        def on_progress(done: int, total: int | None) -> None:
            if done == 20 and total == 400:
                accelerator.process.kill()

        job = DetectionJob(
            clip,
            ResolvedModel("zeros", model),
            tmp_path / "out.mp4",
            accelerator=Accelerator.at(accelerator.address, token=accelerator.token),
            timeout_seconds=1.0,
        )
        with pytest.raises(ElasticInferenceError):
            detect(job, Listener(on_progress=on_progress))
    pictures, _ = read_all(tmp_path / "out.mp4")
    assert 20 <= len(pictures) < 400


def test_a_model_that_is_no_detector_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 5)
    model = write_model(tmp_path / "classes.testing")
    with start_accelerator() as accelerator:
        place = Accelerator.at(accelerator.address, token=accelerator.token)
        job = DetectionJob(clip, ResolvedModel("c", model), tmp_path / "out.mp4", accelerator=place)
        with pytest.raises(InvalidInput, match="no detector: it gives outputs and not detection_boxes"):
            detect(job)
    assert not (tmp_path / "out.mp4").exists()


def test_bad_paths_are_refused_before_the_model_is_looked_at(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", 5)
    model = ResolvedModel("none", tmp_path / "no-such-model")
    with pytest.raises(InvalidInput, match="there is no directory"):
        detect(DetectionJob(clip, model, tmp_path / "none" / "out.mp4"))
    with pytest.raises(InvalidInput, match="no such file"):
        detect(DetectionJob(tmp_path / "none.mp4", model, tmp_path / "out.mp4"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"score": 1.5}, "score 1.5"), ({"num_frames": 0}, "frames 0"), ({"in_flight": 0}, "in_flight 0")],
)
def test_values_out_of_range_are_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        DetectionJob(Path("in.mp4"), ResolvedModel("m", Path("m")), Path("out.mp4"), **changes)  # type: ignore[arg-type]


def _reference_model() -> ResolvedModel:
    path = shared_path("assets/models/ssd_mobilenet_v2_coco_2018_03_29.pb")
    return ResolvedModel("ssd_mobilenet_v2_coco", path, labels="coco90")


def test_the_reference_detector_finds_the_same_cars_with_and_without_accelerator(tmp_path: Path) -> None:
    """On the real clip: each way the same objects within 1e-3, cars in every picture, boxes drawn in the output."""
    model, num_frames = _reference_model(), 12
    runs = []
    with resources.as_file(CLIP) as clip:
        for use_ei in (False, True):
            recorder = Recorder(score=0.3)
            place = Accelerator.embedded() if use_ei else Accelerator.local()
            job = DetectionJob(clip, model, tmp_path / "out.mp4", place, num_frames, score=0.3)
            report = detect(job, Listener(on_picture=recorder.see))
            runs.append((report, recorder))
        source, _ = read_all(clip)
    (without, seen_without), (with_ei, seen_with) = runs
    agreement = compare(seen_without.detections, seen_with.detections)
    assert agreement.is_same, agreement
    assert agreement.num_compared >= num_frames
    assert all(len(found.above(0.3)) and found.classes[0] == 3 for found in seen_with.detections)
    assert max(found.scores[0] for found in seen_with.detections) > 0.5
    assert (without.precision, with_ei.precision) == ("fp32", "fp32")
    assert not without.use_ei
    assert with_ei.use_ei
    assert with_ei.is_same_machine_cpu

    pictures, _ = read_all(tmp_path / "out.mp4")
    assert len(pictures) == num_frames
    found = seen_with.detections[3]
    top, left, bottom, right = (found.boxes[0] * (720, 1280, 720, 1280)).round().astype(int)
    change = np.abs(pictures[3].astype(int) - source[3].astype(int)).max(axis=2)
    assert np.median(change[top + 10 : bottom - 10, left]) > 60  # the left edge of the best box
    assert np.median(change[top + 10 : bottom - 10, left + 10 : right - 10]) < 20  # not its inside

    seen_with.write_png(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_there_is_no_picture_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ElasticInferenceError, match="no picture to write"):
        Recorder(0.5).write_png(tmp_path / "one.png")
