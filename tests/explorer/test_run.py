"""Whole explorations: interrupted, killed and resumed; core limits, hosts, prices; clients elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from elastic_inference import LoadOptions
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.errors import ConnectError, InvalidInput, PermissionDenied
from elastic_inference.explorer.grid import Client, host_types, make_grid, parse_clients
from elastic_inference.explorer.measuring.coordinator import Coordinator
from elastic_inference.explorer.measuring.in_process import RunTask
from elastic_inference.explorer.measuring.remote_client import RemoteClient
from elastic_inference.explorer.measuring.task import Outcome, Task
from elastic_inference.explorer.measuring.worker import run_task
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.prices import PriceRow, PriceTable, shipped_prices
from elastic_inference.explorer.reporting.result import verdict
from elastic_inference.explorer.run import Plan, explore, journal_result
from elastic_inference.explorer.search_result import CellState, SearchOptions
from elastic_inference.explorer.space import Cell
from tests.waiting import read_line

CLIENTS = (Client("m5.large", (0,)), Client("m5.xlarge", (0,)), Client("m5.2xlarge", (0,)))
SECONDS = {"m5.large": 0.4, "m5.xlarge": 0.25, "m5.2xlarge": 0.2}


def plan_of(model: str, **changes: object) -> Plan:
    grid = make_grid(CLIENTS, [], ["fp32"], shipped_prices())
    options = SearchOptions(exhaustive=True, repeats=1)
    return Plan(model, "float32:1,4", grid, options, **{"has_curves": False, **changes})  # type: ignore[arg-type]


def known(task: Task) -> Outcome:
    """Measures nothing: the latency is known."""
    return Outcome(Observation(SECONDS[task.cell.client]))


def noting(cells: list[Cell]) -> RunTask:
    """As `known`, and notes which cells it was asked for."""

    def run(task: Task) -> Outcome:
        cells.append(task.cell)
        return known(task)

    return run


def test_interrupted_exploration_goes_on_and_measures_no_cell_again(quick_model: str, tmp_path: Path) -> None:
    measured = []

    def interrupted(task: Task) -> Outcome:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(task.cell)
        return known(task)

    with pytest.raises(KeyboardInterrupt):
        explore(plan_of(quick_model), tmp_path, interrupted)
    partial = journal_result(plan_of(quick_model), tmp_path)
    assert partial.result.num_measured == 2
    assert partial.result.cells[Cell("m5.2xlarge")].state is CellState.LEFT_OUT

    again: list[Cell] = []
    exploration = explore(plan_of(quick_model), tmp_path, noting(again))
    assert again == [Cell("m5.2xlarge")]
    assert exploration.result.num_measured == 3
    assert verdict(exploration).startswith("m5.large is the cheapest")


KILLED = """
import sys
from pathlib import Path
from tests.explorer.test_run import known, plan_of

def slow(task):
    if task.cell.client == "m5.2xlarge":
        print("measuring the last", flush=True)
        sys.stdin.read()  # until it is killed
    return known(task)

from elastic_inference.explorer.run import explore
explore(plan_of(sys.argv[1]), Path(sys.argv[2]), slow)
"""


def test_killed_exploration_loses_no_measured_cell(quick_model: str, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, quick_model, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert read_line(process) == "measuring the last"
    process.kill()
    process.communicate(timeout=60)
    kept = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    assert [line["cell"]["client"] for line in kept] == ["m5.large", "m5.xlarge"]

    again: list[Cell] = []
    explore(plan_of(quick_model), tmp_path, noting(again))
    assert again == [Cell("m5.2xlarge")]


def test_search_measures_less_than_everything_and_agrees(quick_model: str, tmp_path: Path) -> None:
    plan = plan_of(quick_model)
    searched = Plan(**{**vars(plan), "options": SearchOptions(repeats=1)})
    full, quick = (explore(p, tmp_path / str(i), known) for i, p in enumerate((plan, searched)))
    assert quick.result.winner == full.result.winner
    assert quick.result.num_measured <= full.result.num_measured


def test_journal_of_other_input_is_refused(quick_model: str, tmp_path: Path) -> None:
    explore(plan_of(quick_model), tmp_path, known)
    with pytest.raises(InvalidInput, match="input differ"):
        explore(Plan(**{**vars(plan_of(quick_model)), "input": "float32:2,4"}), tmp_path, known)


def test_cell_that_fails_is_marked_and_the_rest_goes_on(quick_model: str, tmp_path: Path) -> None:
    def partly(task: Task) -> Outcome:
        return Outcome.failed("does not fit") if task.cell.client == "m5.large" else known(task)

    exploration = explore(plan_of(quick_model), tmp_path, partly)
    assert exploration.result.cells[Cell("m5.large")].reason == "does not fit"
    assert exploration.result.winner == Cell("m5.xlarge")


def test_invalid_measurement_is_made_once_more_and_then_marked(quick_model: str, tmp_path: Path) -> None:
    tried: list[str] = []

    def busy_at_first(task: Task) -> Outcome:
        name = task.cell.client
        tried.append(name)
        if name == "m5.large" or (name == "m5.xlarge" and tried.count(name) == 1):
            return Outcome.failed("invalid: the client is the limit")
        return known(task)

    exploration = explore(plan_of(quick_model), tmp_path, busy_at_first)
    assert [tried.count(name) for name in SECONDS] == [2, 2, 1]
    assert exploration.result.cells[Cell("m5.large")].state is CellState.FAILED
    assert exploration.result.winner == Cell("m5.xlarge")


def test_clients_by_cores_and_by_name() -> None:
    assert parse_clients("cores=1,2,mybox", usable=[3, 4, 5]) == (
        Client("cores=1", (5,)),
        Client("cores=2", (4, 5)),
        Client("mybox", None),
    )
    for wrong in ("cores=4", "cores=0", "cores=x", "a,,b"):
        with pytest.raises(InvalidInput):
            parse_clients(wrong, usable=[3, 4, 5])


def offered(name: str, share: float, usd: str) -> PriceRow:
    return PriceRow(
        "host", name, "accelerator", Decimal(usd), "http://h", "2026-11-01", "catalogue",
        accelerator="device of the host", accelerator_fraction=share,
    )  # fmt: skip


def test_grid_prices_cores_and_host_types_and_says_so() -> None:
    rows = [offered("cpu.half", 0.5, "0.05"), offered("cpu.free", 0.5, "NaN")]
    grid = make_grid((Client("cores=2", (0, 1)),), ["all"], ["fp32", "bf16"], shipped_prices(), rows)
    assert len(grid.cells) == 6
    assert grid.prices.usd_per_hour("cores=2", "cpu.half") == Decimal("0.146")
    text = " ".join(grid.warnings)
    assert "0.048 USD per core and hour" in text
    assert "no price for cpu.free" in text
    assert "are this machine limited to N of its cores" in text
    assert "change the answers" in text
    with pytest.raises(InvalidInput, match=r"cpu\.huge are not offered; the host offers cpu\.half"):
        make_grid((Client("cores=2", (0, 1)),), ["cpu.huge"], ["fp32"], shipped_prices(), rows)


def test_the_users_own_price_goes_before_the_hosts_and_a_shipped_one_does_not() -> None:
    rows = [offered("eia1.medium", 0.5, "0.05"), offered("cpu.half", 0.5, "0.02")]

    def price(prices: PriceTable, name: str) -> Decimal:
        grid = make_grid((Client("m5.large", None),), ["all"], ["fp32"], prices, rows)
        return grid.prices.usd_per_hour("m5.large", name) - prices.usd_per_hour("m5.large", None)

    assert price(shipped_prices(), "eia1.medium") == Decimal("0.05")  # shipped with 0.13
    mine = PriceRow("mine", "cpu.half", "accelerator", Decimal("0.01"), "here", "2026-11-01", "bill")
    own = shipped_prices().with_own_rows([mine])
    assert price(own, "cpu.half") == Decimal("0.01")
    assert price(own, "eia1.medium") == Decimal("0.05")


def test_walk_back_measures_its_own_way_only(quick_model: str, tmp_path: Path) -> None:
    rows = [offered("share.25", 0.25, "0.02"), offered("share.50", 0.5, "0.05")]
    grid = make_grid(CLIENTS, ["all"], ["fp32"], shipped_prices(), rows)
    options = SearchOptions(target_latency_seconds=0.3, repeats=1)
    plan = Plan(quick_model, "float32:1,4", grid, options, has_curves=False, is_walk_back=True)
    exploration = explore(plan, tmp_path, known)
    assert exploration.result.winner == Cell("m5.xlarge", "share.25")
    assert exploration.result.num_measured == 4
    assert not exploration.result.is_complete


def test_client_elsewhere_joins_fetches_the_model_and_measures(quick_model: str, tmp_path: Path) -> None:
    grid = make_grid((Client("mybox", None),), [], ["fp32"], _priced("mybox"))
    plan = Plan(
        quick_model, "float32:1,4", grid, SearchOptions(repeats=1), LoadOptions("testing"), has_curves=False
    )
    counts = []
    with Coordinator("127.0.0.1:0", quick_model, ["mybox"]) as coordinator:
        client = RemoteClient(coordinator.url, "mybox", coordinator.token, run_task)
        thread = threading.Thread(target=lambda: counts.append(client.run()))
        thread.start()
        exploration = explore(plan, tmp_path / "out", coordinator.run_task)
    thread.join(30)
    assert counts == [1]
    assert exploration.result.winner == Cell("mybox")
    assert exploration.details[Cell("mybox")].num_samples > 0


def _priced(name: str) -> PriceTable:
    row = PriceRow("mine", name, "client", Decimal("0.1"), "here", "2026-11-01", "bill", vcpu=2)
    return shipped_prices().with_rows([row])


def test_client_elsewhere_needs_the_token_and_a_name_that_is_asked_for(quick_model: str) -> None:
    with Coordinator("127.0.0.1:0", quick_model, ["mybox"]) as coordinator:
        with pytest.raises(PermissionDenied):
            RemoteClient(coordinator.url, "mybox", "wrong").run()
        with pytest.raises(InvalidInput, match="'other'"):
            RemoteClient(coordinator.url, "other", coordinator.token).run()


def test_client_that_never_joins_marks_its_cell(quick_model: str) -> None:
    with Coordinator("127.0.0.1:0", quick_model, ["mybox"], wait_seconds=0.05) as coordinator:
        outcome = coordinator.run_task(Task(Cell("mybox"), quick_model, "float32:1,4"))
    assert "did not answer" in outcome.observation.problem


def test_host_that_cannot_be_reached_is_one_clear_line(
    quick_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["explore", "--model", quick_model, "--shape", "float32:1,4", "--host", "http://127.0.0.1:9"]
    assert main([*arguments, "--token", "t", "-o", str(tmp_path)]) == ExitCode.UNREACHABLE
    assert "127.0.0.1:9" in capsys.readouterr().err
    from elastic_inference.client.host_session import HostSession

    with pytest.raises(ConnectError):
        host_types(HostSession("http://127.0.0.1:9", "t"))
