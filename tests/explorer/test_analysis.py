"""Given measurements: the verdict in words, marked rows, the three costs, text and JSON of the result."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.analysis import (
    MeasuredRow,
    analyse,
    parse_measurements,
    read_measurements,
    walk_back_of,
)
from elastic_inference.explorer.article import article_path
from elastic_inference.explorer.prices import shipped_prices
from elastic_inference.explorer.reporting.html import render_csv
from elastic_inference.explorer.reporting.result import Exploration, rows, to_json, verdict
from elastic_inference.explorer.search_result import CellState, SearchOptions
from elastic_inference.explorer.space import Cell

HEAD = "client,accelerator,latency_ms,target_latency_ms,throughput_per_second"


def article() -> list[MeasuredRow]:
    return read_measurements(article_path())


def explore(
    lines: list[str], target_seconds: float | None = None, demand: float | None = None
) -> Exploration:
    options = SearchOptions(target_latency_seconds=target_seconds)
    return analyse(parse_measurements(lines, "x.csv"), shipped_prices(), options, demand_per_second=demand)


@pytest.mark.parametrize(
    ("target_ms", "sentence"),
    [
        (223, "m5.large + eia1.large is the cheapest combination with latency within 223 ms: 2.2030 USD"),
        (145, "m5.large + eia1.xlarge is the cheapest combination with latency within 145 ms: 2.4120 USD"),
        (62, "p3.2xlarge is the cheapest combination with latency within 62 ms: 5.1884 USD"),
        (61, "No combination has latency within 61 ms. The closest is p3.2xlarge with 61.04 ms, 0.1% over"),
    ],
)
def test_verdict_on_the_article(target_ms: float, sentence: str) -> None:
    options = SearchOptions(target_latency_seconds=target_ms / 1000)
    assert verdict(analyse(article(), shipped_prices(), options)).startswith(sentence)


def test_walk_back_in_words() -> None:
    way = walk_back_of(article(), shipped_prices(), 0.145)
    assert way.sentence() == "Walk-back finds nothing; its way: m5.4xlarge + eia1.xlarge."


def test_walk_back_without_an_accelerator_is_refused() -> None:
    rows = parse_measurements([HEAD, "m5.large,,200,,"], "x.csv")
    with pytest.raises(InvalidInput, match="a client with an accelerator; there are none"):
        walk_back_of(rows, shipped_prices(), None)


@pytest.mark.parametrize("latency", ["0", "-3", "nan", "inf"])
def test_impossible_latency_marks_its_row_and_cannot_win(latency: str) -> None:
    exploration = explore([HEAD, f"m5.large,,{latency},,", "m5.xlarge,,200,,"])
    assert exploration.result.winner == Cell("m5.xlarge")
    marked = exploration.result.cells[Cell("m5.large")]
    assert marked.state is CellState.FAILED
    assert f"x.csv, line 2, field latency_ms: {latency} ms" in marked.reason


def test_unknown_machine_is_marked_and_cannot_win() -> None:
    exploration = explore([HEAD, "m5.tiny,,1,,", "m5.xlarge,,200,,"])
    assert exploration.result.winner == Cell("m5.xlarge")
    assert "'m5.tiny'" in exploration.result.cells[Cell("m5.tiny")].reason


def test_nothing_that_can_be_ranked_is_said_so() -> None:
    exploration = explore([HEAD, "m5.tiny,,1,,"])
    assert exploration.result.winner is None
    assert "none could be measured and priced" in verdict(exploration)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["client,latency_ms", "a,1"], "columns missing: accelerator"),
        ([HEAD], "holds no measurement"),
        ([HEAD, "m5.large,,fast,,"], "line 2, field latency_ms: 'fast' is not a number"),
        ([HEAD, "m5.large,,,,"], "line 2, field latency_ms: is empty"),
        ([HEAD, ",,5,,"], "line 2, field client: is empty"),
        ([HEAD, "m5.large,,5"], "line 2: does not have as many fields"),
    ],
)
def test_unreadable_measurements_are_an_error(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_measurements(lines, "x.csv")


def test_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_measurements(tmp_path / "none.csv")


def test_several_rows_of_a_cell_are_several_runs_and_overlapping_costs_a_tie() -> None:
    # m5.xlarge costs twice as much and is about twice as fast.
    lines = [
        HEAD,
        *(f"m5.large,,{ms},," for ms in (200, 204, 196)),
        *(f"m5.xlarge,,{ms},," for ms in (101, 99, 102)),
    ]
    exploration = explore(lines)
    assert exploration.result.ties
    assert "It is a tie with" in verdict(exploration)
    assert rows(exploration)[0].interval_usd is not None


def test_target_is_about_the_tail_where_one_is_given() -> None:
    lines = [HEAD, "m5.large,,100,300,", "m5.xlarge,,90,150,"]
    assert explore(lines).result.winner == Cell("m5.large")
    assert explore(lines, target_seconds=0.2).result.winner == Cell("m5.xlarge")


def test_three_costs_can_name_different_winners() -> None:
    # One after another the small one is cheaper; the large one serves many more at once.
    exploration = explore([HEAD, "m5.large,,200,,5", "m5.xlarge,,150,,20"], demand=18)
    small, large = rows(exploration)
    assert small.result.cell == Cell("m5.large")
    assert small.throughput_usd is not None
    assert large.throughput_usd is not None
    assert large.throughput_usd < small.throughput_usd
    assert (small.demand_count, large.demand_count) == (4, 1)


def test_old_prices_are_warned_of() -> None:
    fresh = analyse(article(), shipped_prices(), SearchOptions(), today=date(2019, 7, 1))
    old = analyse(article(), shipped_prices(), SearchOptions(), today=date(2026, 1, 1))
    assert not any("older" in text for text in fresh.warnings)
    assert any("m5.large (2019-06)" in text for text in old.warnings)


def test_json_and_csv_hold_every_combination_exactly() -> None:
    exploration = analyse(article(), shipped_prices(), SearchOptions(target_latency_seconds=0.223))
    record = json.loads(json.dumps(to_json(exploration)))
    assert len(record["combinations"]) == 16
    assert record["winner"] == {"client": "m5.large", "accelerator": "eia1.large", "precision": "fp32"}
    best = next(csv.DictReader(io.StringIO(render_csv(exploration))))
    assert best["client"] == "m5.large"
    assert best["sequential_usd_per_100k"].startswith("2.20304666666")
    assert record["combinations"][0]["sequential_usd_per_100k"] == best["sequential_usd_per_100k"]
