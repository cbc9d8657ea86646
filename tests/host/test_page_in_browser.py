"""The page in a real browser, on a real host under load, with an accelerator killed meanwhile: it shows what happens,
asks nothing of other machines, says when it hears nothing, and reads well on a phone, in the dark, on paper, with keys
and to a screen reader.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.client.host_session import Attachment, HostSession
from tests.host.conftest import HostProcess
from tests.host.support import predictor, wait_until
from tests.host.tenants import host_with_types, take_all_away, take_in
from tests.integration.tiny_model import write_doubling_graph

CHROMIUM = shutil.which("chromium")
SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
WAIT_MS = 60_000
SIZES = {"phone": (390, 844), "tablet": (820, 1180), "desk": (1440, 900)}
TYPES = (
    '["small"]\nmemory = "256MiB"\ndevice_share = 0.1\nusd_per_hour = "0.13"\n'
    '["large"]\nmemory = "512MiB"\ndevice_share = 0.2\n'
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium; there is none on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, which is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def host(browser: Any) -> Iterator[HostProcess]:  # noqa: ARG001  # which skips before a host is started
    with host_with_types(TYPES) as host:
        yield host


@pytest.fixture
def operator(host: HostProcess) -> Iterator[HostSession]:
    session = host.session()
    yield session
    take_all_away(session)


@pytest.fixture
def loaded(operator: HostSession, tmp_path: Path) -> Iterator[Attachment]:
    """An accelerator that answers requests all the time."""
    mine = operator.attach("small", name="camera <b>north<b>")
    is_over = threading.Event()

    def call() -> None:
        with predictor(mine.endpoints[0], mine.token, write_doubling_graph(tmp_path / "m.pb")) as predict:
            while not is_over.wait(0.02):
                with contextlib.suppress(Exception):  # its process is killed meanwhile
                    predict({"x": [1.0]})

    thread = threading.Thread(target=call)
    thread.start()
    yield mine
    is_over.set()
    thread.join(60)


class Opened:
    """A page that is signed in, and what it did that it should not."""

    def __init__(self, browser: Any, host: HostProcess, token: str | None = None, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("request", lambda request: self._note(request.url, host.url))
        self.page.goto(host.url)
        self.page.fill("#token", token or host.operator_token)
        self.page.click("button")
        self.wait(".state.live")

    def _note(self, url: str, own: str) -> None:
        if not url.startswith(f"{own}/"):
            self.trouble.append(url)

    def wait(self, selector: str, **options: Any) -> Any:
        found = self.page.locator(selector).first
        found.wait_for(timeout=WAIT_MS, **options)
        return found

    def cell(self, name: str, label: str) -> Any:
        """The text of a cell of the accelerator of this name."""
        row = self.page.locator("#accelerators tbody tr", has=self.page.get_by_role("button", name=name))
        return row.locator(f'[data-label="{label}"]')

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def open_page(browser: Any, host: HostProcess) -> Iterator[Callable[..., Opened]]:
    with contextlib.ExitStack() as stack:

        def open_one(**options: Any) -> Opened:
            return stack.enter_context(contextlib.closing(Opened(browser, host, **options)))

        yield open_one


def pid_of(host: HostProcess, accelerator_id: str) -> int:
    with contextlib.closing(sqlite3.connect(host.state_dir / "state.db")) as db:
        query = "SELECT process FROM accelerators WHERE accelerator_id = ?"
        return int(json.loads(db.execute(query, (accelerator_id,)).fetchone()[0])["pid"])


def test_it_shows_load_a_kill_and_its_end_as_they_happen(
    host: HostProcess, loaded: Attachment, open_page: Callable[..., Opened]
) -> None:
    opened = open_page()
    opened.page.locator("#accelerators tbody th", has_text="camera <b>north<b>").wait_for(timeout=WAIT_MS)
    wait_until(lambda: float(opened.cell("north", "Req/s").inner_text()) > 0, "requests")
    wait_until(lambda: "ms" in opened.cell("north", "p99").inner_text(), "a latency")
    assert "openvino fp32" in opened.cell("north", "Models").inner_text()
    os.kill(pid_of(host, loaded.accelerator_id), signal.SIGKILL)
    opened.wait("#events li:has-text('died'):has-text('SIGKILL')")
    opened.wait("#events li:has-text('serves again')")
    wait_until(lambda: opened.cell("north", "Restarts").inner_text() == "1", "the restart")
    wait_until(lambda: float(opened.cell("north", "Req/s").inner_text()) > 0, "requests again")
    assert opened.trouble == []


def test_attach_resize_and_detach_ask_first(operator: HostSession, open_page: Callable[..., Opened]) -> None:
    opened = open_page()
    page = opened.page
    page.click("#attach")
    page.select_option("#question select", "small")
    page.fill("#question input", "by hand")
    page.click("#question button.main")
    opened.wait("#question pre")
    token = page.locator("#question pre").inner_text().rpartition("token")[2].strip()
    (made,) = operator.request("GET", "/v1/accelerators")
    assert made["name"] == "by hand"
    assert HostSession(operator.url, token).describe(made["accelerator_id"]).name == "by hand"
    page.click("#question button.main")
    page.get_by_role("button", name="by hand").click()
    page.get_by_role("button", name="Resize").click()
    page.select_option("#question select", "large")
    page.click("#question button.main")
    opened.wait("#detail dd:has-text('large, no price')")
    page.get_by_role("button", name="Detach").click()
    page.click("#question button:has-text('Cancel')")
    assert len(operator.request("GET", "/v1/accelerators")) == 1
    page.get_by_role("button", name="Detach").click()
    page.fill("#question input", "0")
    page.click("#question button.danger")
    opened.wait("#detail .refused:has-text('not attached any more')")
    page.keyboard.press("Escape")
    opened.wait("#nothing:has-text('No accelerators are attached.')")
    assert operator.request("GET", "/v1/accelerators") == []
    # Its log may have been asked for once more before the page heard that it is gone.
    assert [text for text in opened.trouble if "404" not in text] == []


def test_what_the_host_refuses_is_shown_where_it_was_asked(
    operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    operator.attach("small", name="taken")
    opened = open_page()
    opened.page.click("#attach")
    opened.page.select_option("#question select", "small")
    opened.page.fill("#question input", "taken")
    opened.page.click("#question button.main")
    opened.wait("#question .refused:has-text('has the name')")
    assert opened.page.locator("#question button.main").is_enabled()


def test_drain_is_asked_and_taken_back(operator: HostSession, open_page: Callable[..., Opened]) -> None:
    opened = open_page()
    opened.page.click("#drain")
    opened.page.click("#question button.danger")
    opened.wait("#drain:has-text('Take new ones')")
    assert operator.request("GET", "/v1/host")["is_draining"]
    assert opened.page.locator("#attach").is_disabled()
    opened.page.click("#drain")
    opened.page.click("#question button.main")
    opened.wait("#drain:has-text('Drain')")
    assert not operator.request("GET", "/v1/host")["is_draining"]


def test_a_tenant_sees_its_own_accelerator_and_nothing_of_the_host(
    operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    mine = operator.attach("small", name="mine")
    operator.attach("small", name="of somebody else")
    opened = open_page(token=mine.token)
    wait_until(lambda: opened.page.locator("#accelerators tbody tr").count() == 1, "the one row")
    for hidden in ("#attach", "#drain", "#device-section"):
        assert opened.page.locator(hidden).is_hidden()
    opened.page.get_by_role("button", name="mine").click()
    assert opened.page.get_by_role("button", name="Resize").is_hidden()
    assert "somebody else" not in opened.page.content()
    operator.detach(mine.accelerator_id, drain_seconds=0)
    opened.wait("form[action='/page/sign-in']")  # the token is void, and so is the session


def test_tenants_stand_side_by_side_for_the_operator_and_alone_for_themselves(
    operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    quota = {"max_accelerators": 2, "max_share": 0.5}
    token = take_in(operator, "vision", quota=quota, budget={"usd_per_month": "1000"})
    take_in(operator, "audio")
    operator.attach("small", name="mine", tenant="vision")
    operator.attach("small", name="theirs", tenant="audio")
    opened = open_page()
    wait_until(lambda: opened.page.locator("#tenants .card").count() == 2, "both tenants")
    card = opened.page.locator("#tenants .card", has_text="vision")
    wait_until(lambda: "of 1000.00 USD this month" in card.inner_text(), "its budget")
    assert "1 of 2 accelerators" in card.inner_text()
    assert "10% of 50%" in card.inner_text()
    assert opened.cell("mine", "Tenant").inner_text() == "vision"
    operator.request("PUT", "/v1/tenants/vision", {"quota": quota, "budget": {"usd_per_month": "0.000001"}})
    wait_until(lambda: "nothing new is attached" in card.inner_text(), "its warning")
    own = open_page(token=token)
    wait_until(lambda: own.page.locator("#accelerators tbody tr").count() == 1, "the one row")
    wait_until(lambda: own.page.locator("#tenants .card").count() == 1, "its own card")
    assert "tenant vision" in own.page.locator("#host-id").inner_text()
    assert [own.page.locator(name).is_hidden() for name in ("#attach", "#drain", "#device-section")] == [
        False, True, True,
    ]  # fmt: skip
    assert not any(word in own.page.content() for word in ("audio", "theirs"))
    own.page.locator("#attach").click()
    own.page.locator("#question").get_by_role("button", name="Attach").click()
    own.wait("#question .refused")
    assert "has spent" in own.page.locator("#question .refused").inner_text()
    own.page.locator("#question").get_by_role("button", name="Cancel").click()
    own.page.get_by_role("button", name="mine").click()
    own.page.get_by_role("button", name="Detach").click()
    own.page.locator("#question").get_by_role("button", name="Detach").click()
    wait_until(lambda: own.page.locator("#accelerators tbody tr").count() == 0, "its end")


def test_a_host_that_says_nothing_is_seen_and_comes_back(
    host: HostProcess, operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    operator.attach("small", name="stays")
    opened = open_page()
    opened.wait("#accelerators tbody tr:has-text('stays')")
    os.kill(host.process.pid, signal.SIGSTOP)
    try:
        opened.wait("#connection.late:has-text('no news for')")
        assert opened.page.get_by_role("button", name="stays").is_visible()
    finally:
        os.kill(host.process.pid, signal.SIGCONT)
    opened.wait(".state.live")


def test_a_host_that_is_gone_is_tried_again(browser: Any, start_host: Callable[..., HostProcess]) -> None:
    host = start_host()
    with contextlib.closing(Opened(browser, host)) as opened:
        host.kill()
        opened.wait(".state.lost")
        port = host.url.rpartition(":")[2]
        again = start_host("--listen", f"127.0.0.1:{port}")
        assert again.url == host.url
        opened.wait("form[action='/page/sign-in']")  # sessions are in memory: it asks for the token again
        opened.page.fill("#token", again.operator_token)
        opened.page.click("button")
        opened.wait(".state.live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_every_screen(
    size: str, scheme: str, operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    take_in(
        operator, "a-name-so-long-that-it-does-not-fit-into-any-card-or-column", budget={"usd_per_month": "1"}
    )
    operator.attach(
        "small", name="a name that is so long that it does not fit into any column of a table at all"
    )
    width, height = SIZES[size]
    opened = open_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened.wait("#accelerators tbody tr")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 28)")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.page.locator("#attach").is_hidden()


def test_everything_is_reached_by_keys(operator: HostSession, open_page: Callable[..., Opened]) -> None:
    operator.attach("small", name="mine")
    opened = open_page()
    opened.wait("#accelerators tbody tr")
    page = opened.page
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.textContent.trim() || document.activeElement.id")
        )
        if reached[-1] == "mine":
            break
    assert {"Skip to the accelerators", "Attach", "Drain", "Sign out", "filter", "Name", "mine"} <= set(
        reached
    )
    page.keyboard.press("Enter")
    opened.wait("#detail[open]")
    page.keyboard.press("Escape")
    focused = "document.activeElement.textContent"
    wait_until(lambda: page.evaluate(focused) == "mine", "the focus to be back where it was opened")


def test_columns_sort_and_rows_are_filtered(operator: HostSession, open_page: Callable[..., Opened]) -> None:
    for name, kind in (("beta", "small"), ("alpha", "large"), ("gamma", "small")):
        operator.attach(kind, name=name)
    opened = open_page()
    rows = opened.page.locator("#accelerators tbody tr:visible th")
    wait_until(lambda: rows.all_inner_texts() == ["beta", "alpha", "gamma"], "the rows in order of attaching")
    opened.page.locator("#accelerators thead button", has_text="Name").click()
    assert rows.all_inner_texts() == ["alpha", "beta", "gamma"]
    opened.page.locator("#accelerators thead button", has_text="Type").click()
    opened.page.locator("#accelerators thead button", has_text="Type").click()
    assert rows.all_inner_texts()[-1] == "alpha"
    opened.page.fill("#filter", "LARGE")
    assert rows.all_inner_texts() == ["alpha"]
    opened.page.fill("#filter", "nothing like this")
    assert opened.page.locator("#nothing").inner_text() == "No accelerator matches the filter."


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desk"])
def test_axe_finds_nothing(
    size: str, scheme: str, operator: HostSession, open_page: Callable[..., Opened]
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    operator.attach("large")
    take_in(operator, "vision", quota={"max_share": 0.5}, budget={"usd_per_month": "0"})
    width, height = SIZES[size]
    opened = open_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened.wait("#accelerators tbody tr")
    wait_until(lambda: "openvino" in opened.cell("north", "Models").inner_text(), "its model")

    def violations() -> list[str]:
        found = axe.Axe().run(opened.page, options={"resultTypes": ["violations"]}).response["violations"]
        return [f"{each['impact']}: {each['id']}: {each['nodes'][0]['html']}" for each in found]

    assert violations() == []
    opened.page.get_by_role("button", name="north").click()
    opened.wait("#detail .charts svg")
    assert violations() == []
    opened.page.get_by_role("button", name="Detach").click()
    assert violations() == []


def test_axe_finds_nothing_at_the_sign_in(browser: Any, host: HostProcess) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    page = browser.new_page()
    page.goto(host.url)
    assert [each["id"] for each in axe.Axe().run(page).response["violations"]] == []
    page.close()
