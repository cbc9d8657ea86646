"""The article's model at 1080p: TensorFlow in this process beside an accelerator in float32 and in bfloat16.

`python -m benchmarks.dataplane.faster_rcnn`: ten frames, the three taking turns at each. The weights are random
numbers, so the detections mean nothing; times and the agreement of the engines do.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Row, Summary, describe_machine, shared_asset, table, write_json
from elastic_inference import EIPredictor

_MODEL = "assets/models/faster_rcnn_resnet50_random.pb"
_CLIP = "assets/video/dog_1080p.mp4"
_OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
_REFERENCE = "--no-ei, TensorFlow, fp32"
_CONTESTANTS: dict[str, dict[str, Any]] = {
    _REFERENCE: {"use_ei": False, "engine": "tensorflow"},
    "accelerator, OpenVINO, fp32": {"use_ei": True, "engine": "openvino"},
    "accelerator, OpenVINO, bf16": {"use_ei": True, "engine": "openvino", "precision": "bf16"},
}


def read_frames(path: Path, count: int) -> list[Any]:
    """The first frames as uint8[1, H, W, 3], RGB."""
    import av

    frames: list[Any] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(frame.to_ndarray(format="rgb24")[np.newaxis])
            if len(frames) == count:
                break
    return frames


def faster_rcnn_rows(model: Path, clip: Path, count: int) -> list[Row]:
    """One row a contestant: milliseconds a frame over TensorFlow's, load time, and how far the scores differ."""
    frames = read_frames(clip, count)
    seconds: dict[str, list[float]] = {name: [] for name in _CONTESTANTS}
    scores: dict[str, list[Any]] = {name: [] for name in _CONTESTANTS}
    loads: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        predictors = {}
        for name, options in _CONTESTANTS.items():
            start = time.perf_counter()
            predictors[name] = stack.enter_context(
                EIPredictor(
                    str(model),
                    input_names={"inputs": "image_tensor:0"},
                    output_names={alias: f"{alias}:0" for alias in _OUTPUTS},
                    warm_up={"inputs": frames[0].shape},
                    **options,
                )
            )
            loads[name] = time.perf_counter() - start
            print(f"{name}: loaded in {loads[name]:.1f} s", file=sys.stderr)
        for index, frame in enumerate(frames):
            for name, predictor in predictors.items():
                start = time.perf_counter()
                outputs = predictor({"inputs": frame})
                seconds[name].append(time.perf_counter() - start)
                scores[name].append(outputs["detection_scores"])
            print(f"frame {index + 1} of {len(frames)}", file=sys.stderr)
        precisions = {name: predictor.report.precision for name, predictor in predictors.items()}
    reference = Summary.of(seconds[_REFERENCE])
    rows = []
    for name, taken in seconds.items():
        summary = Summary.of(taken)
        apart = max(float(np.abs(a - b).max()) for a, b in zip(scores[name], scores[_REFERENCE], strict=True))
        rows.append(
            Row(
                f"Faster R-CNN, 1080p, {len(frames)} frames: {name} (loaded in {loads[name]:.1f} s, "
                f"scores differ by at most {apart:.2g})",
                f"{summary.median:.3f} s ({summary.p10:.3f}-{summary.p90:.3f})",
                f"{reference.median:.3f} s",
                summary.median / reference.median,
                detail={"precision": precisions[name], "seconds": taken, "load_seconds": loads[name]},
            )
        )
    return rows


def main() -> int:
    """Print the table, and write it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    model, clip = shared_asset(_MODEL), shared_asset(_CLIP)
    if model is None or clip is None:
        print(f"needs the shared assets {_MODEL} and {_CLIP} (set EI_SHARED)", file=sys.stderr)
        return 1
    rows = faster_rcnn_rows(model, clip, arguments.frames)
    print(table(rows))
    if arguments.json:
        write_json(arguments.json, rows, describe_machine(("openvino", "tensorflow-cpu")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
