"""Service times from what `ei explore` wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer import analysis
from elastic_inference.explorer.article import article_path
from elastic_inference.explorer.prices import load_prices
from elastic_inference.explorer.reporting.html import write_report
from elastic_inference.explorer.reporting.result import SCHEMA as EXPLORER_SCHEMA
from elastic_inference.explorer.reporting.result import Detail
from elastic_inference.explorer.search_result import SearchOptions
from elastic_inference.pool.simulation.profile import EMPTY, SCHEMA, parse_service, read_profile
from elastic_inference.pool.simulation.service_time import ServiceTime


def written(folder: Path, **detail: Any) -> Path:
    path = folder / "measurements.json"
    rows = [
        {"client": "small", "accelerator": "cpu.half", "precision": "fp32", "state": "measured",
         "detail": {"service_seconds": 0.05, "wire_seconds": 0.002, "load_seconds": 1.5, **detail}},
        {"client": "large", "accelerator": "cpu.half", "precision": "bf16", "state": "measured",
         "detail": {"service_seconds": 0.03}},
        {"client": "large", "accelerator": "cpu.half", "precision": "fp32", "state": "too slow", "detail": {}},
        {"client": "large", "accelerator": None, "precision": "fp32", "state": "measured",
         "detail": {"service_seconds": 0.01}},
    ]  # fmt: skip
    path.write_text(json.dumps({"schema": SCHEMA, "combinations": rows}))
    return path


def test_the_explorer_writes_what_is_read_here(tmp_path: Path) -> None:
    assert SCHEMA == EXPLORER_SCHEMA
    measured = analysis.read_measurements(article_path())
    found = analysis.analyse(measured, load_prices(), SearchOptions(), subject="x", today=date(2026, 11, 1))
    detail = Detail(10, 0, load_seconds=2.0, service_seconds=0.25, wire_seconds=0.01)
    write_report(replace(found, details=dict.fromkeys(found.result.cells, detail)), tmp_path)
    profile = read_profile(tmp_path / "measurements.json")
    assert profile.times == dict.fromkeys(
        ("eia1.medium", "eia1.large", "eia1.xlarge"), ServiceTime(0.25, 0.0, 0.01, 2.0)
    )


def test_the_quickest_measurement_counts_unless_another_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert read_profile(path).of("cpu.half") == ServiceTime(0.03)
    assert read_profile(path, precision="fp32").of("cpu.half") == ServiceTime(0.05, 0.0, 0.002, 1.5)
    assert read_profile(path, client="small").times.keys() == {"cpu.half"}
    assert read_profile(path).notes == ["cpu.half: 30 ms of computation in bf16, as large measured it"]
    with pytest.raises(InvalidInput, match="measured, client 'small', precision 'int8'"):
        read_profile(path, "small", "int8")


def test_computations_are_as_those_that_came_with_pauses(tmp_path: Path) -> None:
    parts = [(0.05, 0.004), (0.06, 0.001), (0.06, 0.002), (0.07, 0.001), (0.2, 0.002)]
    path = written(tmp_path, call_parts=parts, first_call_seconds=0.5)
    found = read_profile(path, precision="fp32").of("cpu.half")
    assert (found.mean_seconds, found.wire_seconds) == (pytest.approx(0.088), pytest.approx(0.002))
    assert (found.load_seconds, found.first_seconds) == (1.5, (0.498,))
    assert found.least_seconds == pytest.approx(0.054)
    drawn = list(zip(*found.draw(np.random.default_rng(0), 10_000), strict=True))
    assert set(drawn) == set(parts)
    for one in parts:
        assert drawn.count(one) == pytest.approx(2000, abs=200)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cpu.half=40ms", (None, "cpu.half", ServiceTime(0.04))),
        ("m5:cpu.half=1s,0.5", ("m5", "cpu.half", ServiceTime(1.0, 0.5))),
    ],
)
def test_given_times(text: str, found: tuple[str | None, str, ServiceTime]) -> None:
    assert parse_service(text) == found


@pytest.mark.parametrize(
    "text", ["cpu.half", "=40ms", "cpu.half=", "cpu.half=40ms,x", "cpu.half=0ms", "a=fast"]
)
def test_wrong_given_times(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_service(text)


def test_a_type_without_a_time_says_what_to_do() -> None:
    with pytest.raises(
        InvalidInput, match=r"no service time of type 'x' in given; known are cpu\.half; measure"
    ):
        EMPTY.with_times({"cpu.half": ServiceTime(1.0)}).of("x")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("{", "is not JSON"), ("[]", "its schema is None"), ('{"schema": "x"}', "its schema is 'x'")],
)
def test_other_files_are_refused(tmp_path: Path, content: str, complaint: str) -> None:
    path = tmp_path / "m.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=complaint):
        read_profile(path)
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_profile(tmp_path / "none.json")
