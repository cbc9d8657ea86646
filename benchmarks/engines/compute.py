"""What a detector's frame costs: TensorFlow in this process, accelerators in float32 and bfloat16, and bare OpenVINO.

`python -m benchmarks.engines.compute [--quick] [--models NAME,...] [--real-time] [--json FILE]`; all with two threads,
taking turns. Bare OpenVINO runs the same graph as the accelerator, rewritten and with the same properties, beside it
the graph as it was. ONNX Runtime reads no TensorFlow graphs and has no row here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import psutil

from benchmarks.common import (
    Bystanders,
    Ratio,
    Row,
    describe_machine,
    flat,
    interleave,
    milliseconds,
    shared_asset,
    table,
    write_json,
)
from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.engines.openvino.rewrites.driver import install, rewrite
from elastic_inference.models.graph_pb2 import GraphDef
from elastic_inference.models.tensor_graph import TensorGraph

THREADS = 2
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
Turn = Callable[[], list[float]]


@dataclass(frozen=True)
class Subject:
    """A model, the picture it gets, how often a turn runs it, and what its speed is held to: precision -> must, aim."""

    name: str
    file: str
    shape: tuple[int, int]
    calls: int
    bounds: Mapping[str, tuple[float, float]]


_SSD_BOUNDS = {"fp32": (1.2, 2.0), "bf16": (1.5, 3.0)}
_SSD = "ssd_mobilenet_v2_coco_2018_03_29.pb"
SUBJECTS = (
    Subject(
        "Faster R-CNN 1080p", "faster_rcnn_resnet50_random.pb", (1080, 1920), 1,
        {"fp32": (1.05, 1.1), "bf16": (1.9, 2.1)},
    ),
    Subject("ssd_mobilenet_v2 720p", _SSD, (720, 1280), 8, _SSD_BOUNDS),
    Subject("ssd_mobilenet_v2 1080p", _SSD, (1080, 1920), 8, _SSD_BOUNDS),
    Subject("ssdlite_mobilenet_v2 720p", "ssdlite_mobilenet_v2_coco_tfjs.pb", (720, 1280), 8, _SSD_BOUNDS),
)  # fmt: skip


def rows(is_quick: bool, names: str = "", *, is_real_time: bool = False) -> list[Row]:
    """Rows for each model that is there."""
    found: list[Row] = []
    for subject in SUBJECTS:
        path = shared_asset(f"assets/models/{subject.file}")
        if path is None or (names and not any(name in subject.name for name in names.split(","))):
            continue
        found += _rows_of(subject, path, 2 if is_quick else 6, is_real_time)
        print(table(found), file=sys.stderr, flush=True)
    return found


def _rows_of(subject: Subject, path: Path, num_rounds: int, is_real_time: bool) -> list[Row]:
    frame = _frame(subject.shape)
    with ExitStack() as stack:
        turns: dict[str, Turn] = {}
        loads: dict[str, float] = {}
        for name, place, load in (
            ("TensorFlow", Accelerator.local(threads=THREADS), LoadOptions(engine="tensorflow")),
            *((f"accelerator {precision}", Accelerator.embedded(threads=THREADS), _load(precision, frame))
              for precision in PRECISIONS),
        ):  # fmt: skip
            began = time.perf_counter()
            predictor = EIPredictor(
                path, input_names={"inputs": "image_tensor:0"}, output_names={o: f"{o}:0" for o in OUTPUTS},
                accelerator=place, load=load,
            )  # fmt: skip
            stack.enter_context(predictor)
            turns[name] = partial(_turn, partial(predictor, {"inputs": frame}), subject.calls)
            loads[name] = time.perf_counter() - began
        for precision, hint in PRECISIONS.items():
            turns[f"bare {precision}"] = partial(
                _turn, _bare(path, frame, hint, is_rewritten=True), subject.calls
            )
        as_it_was = _bare(path, frame, "f32", is_rewritten=False)
        if as_it_was is not None:
            turns["bare as it was fp32"] = partial(_turn, as_it_was, subject.calls)
        for turn in turns.values():
            turn()
        if is_real_time:
            _take_the_machine()
        taken = interleave(turns, num_rounds, lambda line: print(line, file=sys.stderr))
    detail = {"nanoseconds": taken, "load_seconds": loads}
    found = [
        _row(
            f"{subject.name}: TensorFlow : accelerator {p}",
            taken,
            "TensorFlow",
            f"accelerator {p}",
            *bounds,
        )
        for p, bounds in subject.bounds.items()
    ]
    for p in PRECISIONS:
        what = f"{subject.name}: accelerator : bare OpenVINO, {p}"
        found.append(_row(what, taken, f"accelerator {p}", f"bare {p}", 1.02, 1.005, is_upper=True))
    if "bare as it was fp32" in taken:
        what = f"{subject.name}: bare OpenVINO, graph as it was : rewritten, fp32"
        found.append(_row(what, taken, "bare as it was fp32", "bare fp32"))
    return [Row(**{**vars(found[0]), "detail": detail}), *found[1:]]


def _row(
    measure: str,
    taken: Mapping[str, list[list[float]]],
    above: str,
    below: str,
    must: float | None = None,
    aim: float | None = None,
    is_upper: bool = False,
) -> Row:
    """Return one ratio; a speed-up has lower bounds, an overhead upper ones."""
    ratio = Ratio.of(taken[above], taken[below])
    texts = [f"{name} {milliseconds(flat(taken[name]))}" for name in (below, above)]
    spread = (ratio.lowest_round, ratio.highest_round)
    if is_upper:
        texts.reverse()
    return Row(measure, texts[0], texts[1], ratio.median, must, aim, is_upper=is_upper, spread=spread)


def _load(precision: str, frame: Any) -> LoadOptions:
    return LoadOptions(engine="openvino", precision=precision, warm_up={"inputs": frame.shape}, proof="off")


def _take_the_machine() -> None:
    """Let this process and its accelerators go before all others.

    Engines that give each thread an equal part, as OpenVINO does, suffer more from others than those that do not.
    """
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        subprocess.run(["chrt", "--all-tasks", "--fifo", "--pid", "5", str(process.pid)], check=True)


def _turn(call: Callable[[], Any], calls: int) -> list[float]:
    """Nanoseconds of each of some calls."""
    taken = []
    for _ in range(calls):
        began = time.perf_counter_ns()
        call()
        taken.append(float(time.perf_counter_ns() - began))
    return taken


def _bare(path: Path, frame: Any, hint: str, *, is_rewritten: bool) -> Callable[[], Any] | None:
    """Return a call of OpenVINO alone; None where it cannot read the graph."""
    core = ov.Core()
    graph_def = GraphDef.FromString(path.read_bytes())
    reach = TensorGraph(graph_def).reach([f"{name}:0" for name in OUTPUTS], ())
    kept = [node for node in graph_def.node if node.name in reach.nodes]
    del graph_def.node[:]
    graph_def.node.extend(kept)
    if is_rewritten:
        install(core)
        rewrite(core, graph_def, OUTPUTS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "graph.pb")
        file.write_bytes(graph_def.SerializeToString())
        try:
            model = core.read_model(file)
        except RuntimeError as error:
            print(f"bare OpenVINO does not read it: {str(error).strip().splitlines()[-2:]}", file=sys.stderr)
            return None
    properties = {
        "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": THREADS,
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    tensor = ov.Tensor(frame, shared_memory=True)

    def call() -> Any:
        request.infer([tensor])
        return [output.data.copy() for output in request.output_tensors]

    return call


def _frame(shape: tuple[int, int]) -> Any:
    """Return a frame of a real clip where it is there, else noise; uint8[1, H, W, 3]."""
    clip = shared_asset(f"assets/video/dog_{shape[0]}p.mp4")
    if clip is None:
        return np.random.default_rng(0).integers(0, 256, (1, *shape, 3)).astype(np.uint8)
    import av

    with av.open(str(clip)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")[np.newaxis]


def cpu_features() -> list[str]:
    """Those of the CPU's features that decide about a precision's speed."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return [name for name in FEATURES if name in line.split()]
    return []


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works")
    parser.add_argument("--models", default="", help="parts of names, of those of SUBJECTS")
    parser.add_argument("--json", help="write rows and machine to this file")
    parser.add_argument(
        "--real-time", action="store_true", help="go before all other processes while measuring (root)"
    )
    options = parser.parse_args()
    bystanders = Bystanders()
    found = rows(options.quick, options.models, is_real_time=options.real_time)
    print(table(found))
    print(
        f"CPU features: {', '.join(cpu_features())}. Other processes used {bystanders.share():.0%} of the cores."
    )
    if options.json:
        machine = {**describe_machine(["openvino", "tensorflow-cpu"]), "cpu_features": cpu_features()}
        write_json(options.json, found, machine, bystanders_share=bystanders.share())


if __name__ == "__main__":
    main()
