"""The report in a real browser: nothing leaves the page, no error, sorting works, small, and safe from its own data."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.analysis import analyse, parse_measurements, read_measurements
from elastic_inference.explorer.article import article_claims, article_path
from elastic_inference.explorer.cost import ThroughputPoint
from elastic_inference.explorer.observation import Observation
from elastic_inference.explorer.prices import shipped_prices
from elastic_inference.explorer.reporting.html import render_html, write_report
from elastic_inference.explorer.reporting.result import Detail, Exploration
from elastic_inference.explorer.search import find_cheapest
from elastic_inference.explorer.search_result import SearchOptions
from elastic_inference.explorer.space import Cell, space_of

CHROMIUM = shutil.which("chromium")
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
LIMIT_BYTES = 500_000


def searched() -> Exploration:
    """A search over the article's data, so that skipped cells, curves and timings are on the page."""
    measured = {row.cell: row.observation for row in read_measurements(article_path())}
    space = space_of(list(measured), shipped_prices())
    options = SearchOptions(target_latency_seconds=0.145, repeats=1)
    result = find_cheapest(space, lambda cell: Observation(measured[cell].latency_seconds), options)
    curve = (ThroughputPoint(2, 0.12), ThroughputPoint(6, 0.14), ThroughputPoint(7, 0.4))
    detail = Detail(
        num_samples=20, num_warm_up=2, load_seconds=3.0, first_call_seconds=0.4, queue_seconds=0.001,
        service_seconds=0.13, wire_seconds=0.01, percentiles={"p50": 0.13, "p95": 0.15}, curve=curve,
    )  # fmt: skip
    assert result.winner is not None
    details = {result.winner: detail, Cell("p3.2xlarge"): detail}
    return Exploration("<model> & input", result, (), details, demand_per_second=20.0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium; there is none on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


def open_page(browser: Any, path: Path, **options: Any) -> tuple[Any, list[str]]:
    context = browser.new_context(**options)
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda request: trouble.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, trouble


@pytest.fixture
def article_report(tmp_path: Path) -> Path:
    options = SearchOptions(target_latency_seconds=0.223)
    exploration = analyse(read_measurements(article_path()), shipped_prices(), options)
    return write_report(exploration, tmp_path, article_claims())[0]


def names_in(page: Any, table: str) -> list[str]:
    column = page.locator(f"table.{table} tbody tr > :first-child")
    found: list[str] = column.evaluate_all("cells => cells.map(cell => cell.dataset.value)")
    return found


def test_page_makes_no_request_and_no_error(browser: Any, article_report: Path) -> None:
    page, trouble = open_page(browser, article_report)
    assert page.locator("svg").count() == 2
    assert "m5.large + eia1.large is the cheapest" in page.locator(".verdict").inner_text()
    assert trouble == []


def test_columns_sort_both_ways_by_value(browser: Any, article_report: Path) -> None:
    page, trouble = open_page(browser, article_report)
    assert names_in(page, "costs")[0] == "m5.large + eia1.large"
    latency = page.locator("table.costs th button", has_text="Latency")
    latency.click()
    assert names_in(page, "costs")[0] == "p3.2xlarge"  # 61.04 ms; as text 140.96 would come first
    latency.click()
    assert names_in(page, "costs")[0] == "m5.4xlarge"
    page.locator("table.costs th button", has_text="Combination").click()
    assert names_in(page, "costs")[0] == "c5.4xlarge"
    assert trouble == []


def test_empty_cells_stay_last_whichever_way_it_is_sorted(browser: Any, tmp_path: Path) -> None:
    report = write_report(searched(), tmp_path)[0]
    page, trouble = open_page(browser, report)
    button = page.locator("table.costs th button", has_text="Rate /s")
    for _ in range(2):
        button.click()
        cells = page.locator("table.costs tbody tr td:nth-child(5)")
        rates = cells.evaluate_all("cells => cells.map(cell => cell.dataset.value)")
        num_empty = rates.count("")
        assert len(rates) - num_empty == 2
        assert all(rates[:2])
    assert trouble == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(browser: Any, article_report: Path, scheme: str) -> None:
    page, trouble = open_page(
        browser, article_report, viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 28)")
    assert trouble == []


def test_wide_table_fades_where_it_goes_on(browser: Any, article_report: Path) -> None:
    page, trouble = open_page(browser, article_report, viewport={"width": 360, "height": 740})
    box = page.locator(".scroll", has=page.locator("table.costs"))
    faded = page.locator(".scroll.has-more", has=page.locator("table.costs"))
    assert faded.count() == 1
    box.evaluate("box => box.scrollTo({left: box.scrollWidth, behavior: 'instant'})")
    faded.wait_for(state="detached", timeout=60_000)
    page.set_viewport_size({"width": 1400, "height": 740})
    page.locator(".has-more").first.wait_for(state="detached", timeout=60_000)
    assert trouble == []


def test_print_is_light_even_where_the_screen_is_dark(browser: Any, article_report: Path) -> None:
    page, _ = open_page(browser, article_report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_searched_page_shows_skipped_cells_curves_and_timings(browser: Any, tmp_path: Path) -> None:
    page, trouble = open_page(browser, write_report(searched(), tmp_path)[0])
    assert page.locator("svg").count() == 3
    assert page.locator("table.heat td.skipped").count() > 0
    assert "more capable, takes" in page.locator("table.skipped").inner_text()
    assert "(c) at 20/s" in page.locator("table.costs thead").inner_text()
    assert page.locator("table.timing").count() == 1
    assert trouble == []


def test_page_is_small(article_report: Path) -> None:
    assert article_report.stat().st_size < LIMIT_BYTES


def test_names_from_outside_cannot_become_markup() -> None:
    lines = ["client,accelerator,latency_ms", '"<script>alert(1)</script>",,5', "m5.large,,5"]
    page = render_html(
        analyse(parse_measurements(lines, "x"), shipped_prices(), SearchOptions(), subject="<b>x")
    )
    assert "<script>alert" not in page
    assert "<b>x" not in page


def test_report_without_any_measured_cell_still_says_why() -> None:
    lines = ["client,accelerator,latency_ms", "m5.huge,,5"]
    page = render_html(analyse(parse_measurements(lines, "x"), shipped_prices(), SearchOptions()))
    assert "none could be measured and priced" in page


def test_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InvalidInput, match="cannot be written"):
        write_report(searched(), blocked)
