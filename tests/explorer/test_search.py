"""The search: the article's winners, the proof, bad measurements, budget, ties, and random grids with known truth."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.article import article_rows
from elastic_inference.explorer.cost import sequential_usd
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.prices import PriceTable, parse_prices, shipped_prices
from elastic_inference.explorer.search import find_cheapest, rank
from elastic_inference.explorer.search_result import CellState, SearchOptions
from elastic_inference.explorer.space import Cell, Space, machine_is_at_least, space_of
from elastic_inference.explorer.walk_back import walk_back

ROWS = article_rows()
LATENCY = {Cell(row.client, row.accelerator): float(row.latency_seconds) for row in ROWS}
CLIENTS = ["m5.large", "m5.xlarge", "m5.2xlarge", "m5.4xlarge"]
ACCELERATORS = ["eia1.medium", "eia1.large", "eia1.xlarge"]


def article_space() -> Space:
    return space_of(list(LATENCY), shipped_prices())


def recall(cell: Cell) -> Observation:
    return Observation(LATENCY[cell])


@pytest.mark.parametrize("exhaustive", [True, False])
@pytest.mark.parametrize(
    ("target_ms", "winner", "usd"),
    [
        (223, "m5.large + eia1.large", "2.2030"),
        (222, "m5.large + eia1.xlarge", "2.4120"),
        (145, "m5.large + eia1.xlarge", "2.4120"),
        (141, "m5.large + eia1.xlarge", "2.4120"),
        (100, "p3.2xlarge", "5.1884"),
        (62, "p3.2xlarge", "5.1884"),
    ],
)
def test_winner_on_the_articles_data(target_ms: float, winner: str, usd: str, exhaustive: bool) -> None:
    options = SearchOptions(target_latency_seconds=target_ms / 1000, exhaustive=exhaustive, repeats=1)
    result = find_cheapest(article_space(), recall, options)
    assert result.winner is not None
    assert result.winner.name == winner
    assert result.cells[result.winner].usd_per_100k is not None
    assert f"{result.cells[result.winner].usd_per_100k:.4f}" == usd
    assert result.is_complete
    assert result.num_measured == 16 if exhaustive else result.num_measured <= 11


@pytest.mark.parametrize("free", [{"m5.large"}, {"p3.2xlarge"}, {"m5.large", "eia1.medium"}, None])
@pytest.mark.parametrize("target_seconds", [None, 0.5])
def test_a_machine_of_ones_own_that_costs_nothing_wins_and_every_other_has_its_reason(
    free: set[str] | None, target_seconds: float | None
) -> None:
    """`free` None: everything costs nothing."""
    rows = [
        replace(row, usd_per_hour=Decimal(0)) if free is None or row.name in free else row
        for row in shipped_prices()
    ]
    space = space_of(list(LATENCY), PriceTable(rows))
    result = find_cheapest(space, recall, SearchOptions(target_latency_seconds=target_seconds))
    assert result.winner is not None
    costs_nothing = [c for c, usd in space.usd_per_hour.items() if usd == 0]
    if any(target_seconds is None or LATENCY[c] <= target_seconds for c in costs_nothing):
        assert result.cells[result.winner].usd_per_100k == 0
    assert all(each.reason for each in result.cells.values())
    assert result.is_complete


def test_target_that_nothing_meets_has_no_winner_but_the_closest() -> None:
    result = find_cheapest(article_space(), recall, SearchOptions(target_latency_seconds=0.061, repeats=1))
    assert result.winner is None
    assert result.closest == Cell("p3.2xlarge")
    assert result.is_complete
    assert "meet the target" in result.proof


def test_walk_back_wrongly_finds_nothing_at_145_ms() -> None:
    result = walk_back(article_space(), CLIENTS, ACCELERATORS, recall, 0.145)
    assert result.winner is None
    assert result.measured == (Cell("m5.4xlarge", "eia1.xlarge"),)
    assert walk_back(article_space(), CLIENTS, ACCELERATORS, recall, 0.223).winner == Cell(
        "m5.large", "eia1.large"
    )


def test_every_skipped_cell_says_by_which_measured_cell() -> None:
    result = find_cheapest(article_space(), recall, SearchOptions(target_latency_seconds=0.145, repeats=1))
    skipped = [r for r in result.cells.values() if r.state in (CellState.TOO_SLOW, CellState.TOO_EXPENSIVE)]
    assert skipped
    for one in skipped:
        assert one.bound_by is not None
        assert one.bound_by.name in one.reason
        assert result.cells[one.bound_by].state is CellState.MEASURED
        assert one.bound_seconds == pytest.approx(LATENCY[one.bound_by] / 1.08)


@pytest.mark.parametrize("latency", [0.0, -0.2, math.nan, math.inf])
def test_impossible_latency_marks_the_cell_and_never_wins(latency: float) -> None:
    def measure(cell: Cell) -> Observation:
        return Observation(latency if cell == Cell("m5.large", "eia1.large") else LATENCY[cell])

    result = find_cheapest(
        article_space(), measure, SearchOptions(target_latency_seconds=0.223, exhaustive=True)
    )
    assert result.winner == Cell("m5.large", "eia1.xlarge")
    bad = result.cells[Cell("m5.large", "eia1.large")]
    assert bad.state is CellState.FAILED
    assert "not a positive finite time" in bad.reason


def test_failed_cell_excludes_nothing() -> None:
    def measure(cell: Cell) -> Observation:
        if cell == Cell("m5.4xlarge", "eia1.xlarge"):
            return Observation(None, problem="the model does not fit: 5 GiB of 4 GiB")
        return recall(cell)

    result = find_cheapest(article_space(), measure, SearchOptions(target_latency_seconds=0.223, repeats=1))
    assert result.winner == Cell("m5.large", "eia1.large")
    assert "does not fit" in result.cells[Cell("m5.4xlarge", "eia1.xlarge")].reason
    assert "1 could not be measured" in result.proof


def test_cell_without_price_is_marked_and_not_measured() -> None:
    measured = []
    unknown = Cell("m5.large", "eia9.huge")
    space = space_of([*LATENCY, unknown], shipped_prices())

    def measure(cell: Cell) -> Observation:
        measured.append(cell)
        return recall(cell)

    result = find_cheapest(space, measure, SearchOptions(exhaustive=True, repeats=1))
    assert result.cells[unknown].state is CellState.NO_PRICE
    assert "eia9.huge" in result.cells[unknown].reason
    assert unknown not in measured
    assert result.winner == Cell("m5.large", "eia1.large")


def test_budget_leaves_cells_open_and_says_so() -> None:
    result = find_cheapest(article_space(), recall, SearchOptions(budget=3, repeats=1))
    assert result.num_measured == 3
    assert not result.is_complete
    assert "undecided" in result.proof


def two_cells(usd: str = "0.20") -> Space:
    lines = [
        "vendor,name,kind,vcpu,usd_per_hour,region,as_of,source",
        "mine,s.one,client,1,0.10,here,2026-10,bill",
        f"mine,t.one,client,1,{usd},here,2026-10,bill",
    ]
    return space_of([Cell("s.one"), Cell("t.one")], PriceTable(parse_prices(lines, "x")))


def noisy(latency: dict[str, float], share: float, log: list[str]) -> Callable[[Cell], Observation]:
    chance = random.Random(3)

    def measure(cell: Cell) -> Observation:
        log.append(cell.client)
        return Observation(latency[cell.client] * chance.gauss(1, share))

    return measure


def test_equal_costs_are_repeated_interleaved_and_called_a_tie() -> None:
    log: list[str] = []
    result = find_cheapest(
        two_cells(), noisy({"s.one": 0.2, "t.one": 0.1}, 0.01, log), SearchOptions(repeats=5)
    )
    assert result.winner is not None
    assert len(result.ties) == 1
    assert log.count("s.one") == log.count("t.one") == 5
    assert all(set(log[i : i + 2]) == {"s.one", "t.one"} for i in range(0, 10, 2))


def test_costs_that_part_are_no_tie_and_not_repeated_to_the_end() -> None:
    log: list[str] = []
    result = find_cheapest(
        two_cells(), noisy({"s.one": 0.2, "t.one": 0.1065}, 0.001, log), SearchOptions(repeats=20)
    )
    assert result.winner == Cell("s.one")
    assert result.ties == ()
    assert len(log) < 20


def test_winner_too_near_its_target_is_called_doubtful() -> None:
    log: list[str] = []
    options = SearchOptions(target_latency_seconds=0.2, repeats=4)
    result = find_cheapest(two_cells(), noisy({"s.one": 0.1999, "t.one": 0.15}, 0.01, log), options)
    assert Cell("s.one") in result.doubtful


@pytest.mark.parametrize(
    "options", [{"target_latency_seconds": -1.0}, {"slack_share": 1.0}, {"repeats": 0}, {"budget": 0}]
)
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        SearchOptions(**options)  # type: ignore[arg-type]


def test_order_is_by_capability_and_never_by_price() -> None:
    prices = shipped_prices()
    half, whole = prices.get("g6f.4xlarge"), prices.get("g6.xlarge")
    assert half.usd_per_hour > whole.usd_per_hour
    assert not machine_is_at_least(half, whole)  # half a device
    assert not machine_is_at_least(whole, half)  # fewer cores
    assert machine_is_at_least(prices.get("g6.2xlarge"), prices.get("g6f.2xlarge"))
    assert machine_is_at_least(prices.get("m5.2xlarge"), prices.get("m5.large"))
    assert not machine_is_at_least(prices.get("c5.4xlarge"), prices.get("m5.4xlarge"))  # half the memory
    assert not machine_is_at_least(prices.get("p3.2xlarge"), prices.get("p2.xlarge"))  # other devices


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_without_noise_the_proof_never_excludes_the_true_winner(
    seed: int, num_clients: int, num_accelerators: int, has_target: bool
) -> None:
    chance = random.Random(seed)
    cells = [Cell(str(i), str(j)) for i in range(num_clients) for j in range(num_accelerators)]
    # Monotone by construction: each latency is a sum of parts that shrink with the index.
    client_part = sorted((chance.random() for _ in range(num_clients)), reverse=True)
    device_part = sorted((0.01 + chance.random() for _ in range(num_accelerators)), reverse=True)
    latency = {c: client_part[int(c.client)] + device_part[int(str(c.accelerator))] for c in cells}
    space = Space(
        tuple(cells),
        {c: Decimal(str(round(chance.uniform(0.1, 5), 3))) for c in cells},
        lambda a, b: int(a.client) >= int(b.client) and int(str(a.accelerator)) >= int(str(b.accelerator)),
        lambda c: (1.0, 1 / (1 + int(c.client)), 1 / (1 + int(str(c.accelerator)))),
    )
    target = chance.choice(list(latency.values())) if has_target else None
    options = SearchOptions(target_latency_seconds=target, repeats=1, slack_share=0.0)
    result = find_cheapest(space, lambda cell: Observation(latency[cell]), options)
    feasible = [c for c in cells if target is None or latency[c] <= target]
    best = min(float(space.usd_per_hour[c]) * latency[c] for c in feasible)
    assert result.winner is not None
    assert float(space.usd_per_hour[result.winner]) * latency[result.winner] == pytest.approx(best)
    assert result.is_complete


def test_the_state_of_a_skipped_cell_is_its_reason() -> None:
    result = find_cheapest(article_space(), recall, SearchOptions(target_latency_seconds=0.145, repeats=1))
    skipped = [r for r in result.cells.values() if r.bound_by is not None]
    assert {r.state for r in skipped} == {CellState.TOO_SLOW, CellState.TOO_EXPENSIVE}
    assert result.winner is not None
    least_usd = result.cells[result.winner].usd_per_100k
    for one in skipped:
        assert one.bound_seconds is not None
        assert one.usd_per_hour is not None
        if one.state is CellState.TOO_SLOW:
            assert one.bound_seconds > 0.145
            assert one.reason.startswith(
                f"at least {one.bound_seconds * 1e3:.4g} ms, over the target of 145 ms"
            )
        else:
            assert sequential_usd(one.usd_per_hour, one.bound_seconds) >= least_usd
            assert "USD per 100,000, over the winner's" in one.reason


def test_without_a_target_nothing_is_too_slow() -> None:
    result = find_cheapest(article_space(), recall, SearchOptions(repeats=1))
    assert {r.state for r in result.cells.values()} == {CellState.MEASURED, CellState.TOO_EXPENSIVE}


def test_a_client_and_an_accelerator_of_the_same_sizes_are_not_compared() -> None:
    lines = [
        "vendor,name,kind,vcpu,usd_per_hour,region,as_of,source",
        "mine,s.large,client,4,0.10,here,2026-10,bill",
        "mine,s.small,client,2,0.10,here,2026-10,bill",
        "mine,s.tiny,accelerator,1,0.10,here,2026-10,bill",
    ]
    large, small, accelerator = parse_prices(lines, "x")
    assert machine_is_at_least(large, small)
    assert not machine_is_at_least(small, large)
    assert not machine_is_at_least(large, accelerator)


def test_a_cell_whose_bound_is_just_the_target_is_measured() -> None:
    lines = [
        "vendor,name,kind,vcpu,usd_per_hour,region,as_of,source",
        "mine,m.large,client,4,0.40,here,2026-10,bill",
        "mine,m.small,client,2,0.10,here,2026-10,bill",
    ]
    latency = {"m.large": 0.25, "m.small": 0.25}
    space = space_of([Cell(name) for name in latency], PriceTable(parse_prices(lines, "x")))
    options = SearchOptions(target_latency_seconds=0.25, slack_share=0.0, repeats=1)
    result = find_cheapest(space, lambda cell: Observation(latency[cell.client]), options)
    assert result.winner == Cell("m.small")


def test_runs_of_cells_without_a_price_are_not_ranked() -> None:
    cheap, unknown = Cell("m5.large", "eia1.large"), Cell("m5.large", "eia9.huge")
    runs = {cheap: [Observation(0.2)], unknown: [Observation(0.1)]}
    result = rank(space_of(list(runs), shipped_prices()), runs, SearchOptions())
    assert (result.winner, result.num_runs) == (cheap, 1)
    assert result.cells[unknown].state is CellState.NO_PRICE
