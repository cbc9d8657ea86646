"""Figures of runs: percentiles, speed-up and the remarks without which they would mislead."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from elastic_inference.proof.proof import Verdict
from elastic_inference.video.detections import Agreement, Detections
from elastic_inference.video.report import Comparison, Costs, InferenceTimes, PriceBasis, RunReport, prove

# The article's run without accelerator: 40 frames, 2.863 s each.
WITHOUT = RunReport(
    use_ei=False,
    video="in.mp4",
    width=1920,
    height=1080,
    model="faster_rcnn",
    model_load_seconds=8.37,
    load_parts_seconds={"load": 8.0},
    num_frames=40,
    average_inference_seconds=2.863,
    total_inference_seconds=114.5,
    p50_inference_seconds=2.8,
    p99_inference_seconds=3.0,
    in_flight=1,
    wall_seconds=120.0,
    client_cpu_seconds_per_frame=5.5,
    engine="tensorflow",
    engine_version="2.21",
    device="cpu:0",
    precision="fp32",
    num_threads=2,
    transport="in process",
    accelerator_id=None,
    accelerator_type=None,
    limits={},
    is_same_machine_cpu=True,
    output="out.mp4",
    is_interrupted=False,
    notes=(),
)
WITH = replace(
    WITHOUT,
    use_ei=True,
    average_inference_seconds=0.2377,
    engine="onnxruntime",
    device="cuda:0",
    in_flight=2,
    is_same_machine_cpu=False,
)
COSTS = Costs(
    PriceBasis("m5.large", Decimal("0.096"), "eia1.medium", Decimal("0.13")), Decimal("7.63"), Decimal("1.49")
)
AGREEMENT = Agreement(40, 100, 0, 1e-5, 1e-6)
DOG = Detections(np.float32([[0.1, 0.1, 0.5, 0.5]]), np.float32([0.9]), np.array([1]))
CAT = Detections(np.float32([[0.1, 0.1, 0.5, 0.5]]), np.float32([0.9]), np.array([2]))
PROOF = prove(WITHOUT, WITH, ([DOG], [DOG]))


def test_percentiles_are_values_that_occurred() -> None:
    times = InferenceTimes.of([float(value) for value in range(1, 101)])
    assert (times.p50_seconds, times.p99_seconds) == (50.0, 99.0)
    assert (times.average_seconds, times.total_seconds) == (50.5, 5050.0)
    assert InferenceTimes.of([2.0]) == InferenceTimes(2.0, 2.0, 2.0, 2.0)
    assert InferenceTimes.of([]) == InferenceTimes(0.0, 0.0, 0.0, 0.0)


def test_the_article_s_runs_give_its_speed_up() -> None:
    comparison = Comparison(WITHOUT, WITH, COSTS, AGREEMENT, PROOF)
    assert comparison.speed_up == pytest.approx(12.04, abs=0.01)


def test_an_accelerator_on_this_cpu_is_said_to_be_one() -> None:
    here = Comparison(
        WITHOUT, replace(WITH, is_same_machine_cpu=True, device="cpu:0"), COSTS, AGREEMENT, PROOF
    )
    assert "comes from the engine (tensorflow, onnxruntime)" in here.remarks[0]
    assert not any(
        "own CPU" in remark for remark in Comparison(WITHOUT, WITH, COSTS, AGREEMENT, PROOF).remarks
    )


def test_the_report_is_json_with_exact_money() -> None:
    value = json.loads(json.dumps(Comparison(WITHOUT, WITH, COSTS, AGREEMENT, PROOF).to_json()))
    assert value["costs"]["usd_per_100k_without"] == "7.63"
    assert value["costs"]["basis"]["client_usd_per_hour"] == "0.096"
    assert value["without_accelerator"]["frames_per_second"] == pytest.approx(1 / 3)
    assert value["agreement"]["is_same"] is True
    assert value["proof"]["verdict"] == "agrees"


def test_what_both_runs_found_is_judged_as_any_precision_is() -> None:
    assert PROOF.summary().startswith(
        "agrees: onnxruntime 2.21 fp32 against tensorflow 2.21 fp32 on 1 samples, 1 of 1"
    )
    differs = prove(WITHOUT, replace(WITH, precision="bf16"), ([DOG, DOG], [DOG, CAT]))
    assert differs.verdict is Verdict.DIFFERS
    assert differs.worst_sample == "picture 1"
