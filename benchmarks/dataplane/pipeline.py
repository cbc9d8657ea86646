"""The row on the whole pipeline: read, predict, draw and write, with an engine that only waits 50 ms a frame."""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import ROOT, Row, shared_asset
from benchmarks.dataplane.loopback import Effort

WAIT_SECONDS = 0.050
_NUM_FRAMES = 200
_LONG_CLIP = "assets/video/dog_720p.mp4"
_SHIPPED_CLIP = ROOT / "src" / "elastic_inference" / "data" / "highway_720p.mp4"
_OUTPUTS = {
    "detection_boxes": ("float32", (1, 100, 4)),
    "detection_scores": ("float32", (1, 100)),
    "detection_classes": ("float32", (1, 100)),
    "num_detections": ("float32", (1,)),
}


def pipeline_rows(effort: Effort) -> list[Row]:
    """Wall time of the pipeline over what the engine alone would take; median of three runs."""
    from elastic_inference import Accelerator
    from elastic_inference.testing import start_accelerator, write_model
    from elastic_inference.video.detect import DetectionJob, detect
    from elastic_inference.zoo import ResolvedModel

    clip = shared_asset(_LONG_CLIP) or _SHIPPED_CLIP
    walls, num_frames = [], 0
    with tempfile.TemporaryDirectory() as folder, start_accelerator() as accelerator:
        inputs = {"inputs": ("uint8", (None, None, None, 3))}
        model = write_model(Path(folder) / "waits.testing", inputs, _OUTPUTS, wait_seconds=WAIT_SECONDS)
        for run in range(3 if effort.share == 1 else 1):
            job = DetectionJob(
                video=clip,
                model=ResolvedModel("waits", model, labels="coco90"),
                output=Path(folder) / f"out{run}.mp4",
                num_frames=effort.count(_NUM_FRAMES),
                accelerator=Accelerator.at(accelerator.address, token=accelerator.token),
            )
            report = detect(job)
            walls.append(report.wall_seconds)
            num_frames = report.num_frames
            print(f"pipeline: {num_frames} frames in {report.wall_seconds:.2f} s", file=sys.stderr)
    wall, least = statistics.median(walls), num_frames * WAIT_SECONDS
    return [
        Row(
            f"pipeline on {clip.name}, {num_frames} frames, engine waits 50 ms: wall : frames x 50 ms",
            f"{wall:.2f} s",
            f"{least:.2f} s",
            wall / least,
            1.10,
            1.03,
            spread=(min(walls) / least, max(walls) / least),
        )
    ]
