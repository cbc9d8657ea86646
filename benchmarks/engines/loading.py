"""What a load costs: the second of a model, the first of one that is on the host, its memory, and its first call.

Each sample is a new program with a new accelerator; contestants take turns. "Bare" is OpenVINO in a process of its own
that imports the same compiled model.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Ratio, Row, interleave, shared_asset
from elastic_inference.models.artifacts.store import ArtifactStore, Kind

THREADS = 2
DETECTOR = {
    "input_names": {"inputs": "image_tensor:0"},
    "output_names": {
        name: f"{name}:0"
        for name in ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
    },
}
FASTER_RCNN = ("assets/models/faster_rcnn_resnet50_random.pb", (1, 1080, 1920, 3))
SSD = ("assets/models/ssd_mobilenet_v2_coco_2018_03_29.pb", (1, 720, 1280, 3))
# Times from the start of the interpreter; prints one JSON object.
PROGRAM = """
import json, os, sys, time
job = json.loads(sys.argv[1])
started = time.perf_counter()
import numpy as np
from elastic_inference import Accelerator, EIPredictor, LoadOptions
frame = np.zeros(job["shape"], np.uint8)
place = Accelerator.embedded(threads=job["threads"], cache_dir=job["store"])
load = LoadOptions(proof="off", batching="off")
with EIPredictor(job["model"], accelerator=place, load=load, **job["names"]) as predict:
    loaded = time.perf_counter() - started
    (pid,) = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    def processor_seconds():
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
        return time.process_time() + sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    calls, used = [], [0.0]
    for _ in range(job["num_calls"]):
        began = time.perf_counter()
        predict({"inputs": frame})
        calls.append(time.perf_counter() - began)
        used.append(processor_seconds())
    report = predict.report
    peak = int(open(f"/proc/{pid}/status").read().partition("VmHWM:")[2].split()[0]) << 10
print(json.dumps({"loaded": loaded, "calls": calls, "source": report.source, "start": report.start_seconds,
    "upload": report.upload_seconds, "load": report.load_seconds, "warm_up": report.warm_up_seconds, "peak": peak,
    "processor_seconds": [end - begin for begin, end in zip(used, used[1:])]}))
"""
BARE = """
import json, mmap, sys, time
import numpy as np
import openvino as ov
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.openvino.compile import core, properties_of
job = json.loads(sys.argv[1])
with open(job["compiled"], "rb") as file:
    content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
compiled = core().import_model(
    ov.Tensor(content, shared_memory=True), "CPU", properties_of(EngineOptions(num_threads=job["threads"])))
request = compiled.create_infer_request()
frame, calls = np.zeros(job["shape"], np.uint8), []
for _ in range(job["num_calls"]):
    began = time.perf_counter()
    request.set_input_tensor(0, ov.Tensor(frame, shared_memory=True))
    request.infer()
    calls.append(time.perf_counter() - began)
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) << 10
print(json.dumps({"calls": calls, "peak": peak}))
"""


ROUNDS = 5


def rows(is_quick: bool) -> list[Row]:
    """Measure; models that are absent give no rows."""
    rounds = 1 if is_quick else ROUNDS
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="ei-loading-") as folder:
        for (relative, shape), measure in ((FASTER_RCNN, _large_rows), (SSD, _small_rows)):
            model = shared_asset(relative)
            if model is None:
                print(f"without {relative}: it is not in EI_SHARED", file=sys.stderr)
                continue
            store = Path(folder, model.stem)
            job = {
                "model": str(model), "shape": shape, "threads": THREADS, "store": str(store), "names": DETECTOR,
                "num_calls": 2,
            }  # fmt: skip
            _run(PROGRAM, job)  # fills the store
            found += measure(store, job, rounds)
            shutil.rmtree(store)
    return found


def _large_rows(store: Path, job: Mapping[str, Any], rounds: int) -> list[Row]:
    compiled = next(found for found in ArtifactStore.at(store).artifacts() if found.kind is Kind.COMPILED)
    assert compiled.path is not None
    copy = store.with_suffix(".compiled")
    shutil.copyfile(compiled.path, copy)
    job = {**job, "num_calls": 4, "compiled": str(copy)}

    def never_compiled() -> dict[str, Any]:
        kept = ArtifactStore.at(store)
        kept.remove([found for found in kept.artifacts() if found.kind in (Kind.COMPILED, Kind.PLAN)])
        return _run(PROGRAM, job)

    # The second load comes after a first one, whichever way a round goes.
    contestants: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "bare": lambda: [_run(BARE, job)],
        "first and second": lambda: [never_compiled(), _run(PROGRAM, job)],
    }
    taken: Any = interleave(contestants, rounds, lambda line: print(line, file=sys.stderr))  # type: ignore[arg-type]
    bare = [one for (one,) in taken["bare"]]
    first, second = ([turn[number] for turn in taken["first and second"]] for number in range(2))
    assert all(one["source"].startswith("compiled here") for one in first)
    assert all(one["source"].startswith("from the store") for one in second)
    peaks = [[one["peak"] / 2**20 for one in side] for side in (second, bare)]
    calls = [one["calls"][0] for one in second], [statistics.median(one["calls"][1:]) for one in second]
    return [
        _seconds_row("second load, Faster R-CNN 1080p: seconds beyond one inference", second, 1.5, 1.0),
        _processor_row("the same in processor seconds of client and accelerator", second),
        _seconds_row("first load of it on a host that has its files: the same", first, 8.0, 5.0),
        _processor_row("the same in processor seconds", first),
        _ratio_row("peak memory of an accelerator : bare engine", *peaks, "MiB", 1.15, 1.05),
        _ratio_row("its first call : its later ones, without a warm-up because it takes long", *calls, "s"),
    ]


def _small_rows(_: Path, job: Mapping[str, Any], rounds: int) -> list[Row]:
    second = [_run(PROGRAM, {**job, "num_calls": 100}) for _ in range(rounds)]
    calls = [one["calls"][0] for one in second], [statistics.median(one["calls"][90:]) for one in second]
    return [
        _seconds_row("second load, ssd_mobilenet_v2 720p: seconds beyond one inference", second),
        _ratio_row("its first call : its 91st to 100th", *calls, "s", 1.2, 1.05),
    ]


def _processor_row(measure: str, samples: Sequence[Mapping[str, Any]]) -> Row:
    """What neighbours change less than the time on the clock."""
    used = [one["processor_seconds"] for one in samples]
    beyond = [one[0] - statistics.median(one[1:]) for one in used]
    one_call = statistics.median(statistics.median(one[1:]) for one in used)
    text = f"{statistics.median(beyond):.2f} s ({min(beyond):.2f}-{max(beyond):.2f})"
    return Row(measure, text, f"one inference {one_call:.2f} s", statistics.median(beyond))


def _seconds_row(
    measure: str, samples: Sequence[Mapping[str, Any]], must: float | None = None, aim: float | None = None
) -> Row:
    beyond = [one["loaded"] + one["calls"][0] - statistics.median(one["calls"][1:]) for one in samples]
    one_call = statistics.median(statistics.median(one["calls"][1:]) for one in samples)
    median, spread = statistics.median(beyond), (min(beyond), max(beyond))
    text = f"{median:.2f} s ({spread[0]:.2f}-{spread[1]:.2f})"
    return Row(
        measure,
        text,
        f"one inference {one_call:.2f} s",
        median,
        must,
        aim,
        spread=spread,
        detail={"samples": samples},
    )


def _ratio_row(
    measure: str,
    ours: Sequence[float],
    other: Sequence[float],
    unit: str,
    must: float | None = None,
    aim: float | None = None,
) -> Row:
    ratio = Ratio.of([[value] for value in ours], [[value] for value in other])
    texts = [f"{statistics.median(values):.4g} {unit}" for values in (ours, other)]
    spread = (ratio.lowest_round, ratio.highest_round)
    return Row(measure, *texts, ratio.median, must, aim, spread=spread)


def _run(program: str, job: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True, timeout=900,
        env=os.environ | {"EI_STORE_SIZE": "4GiB"},
    )  # fmt: skip
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value
