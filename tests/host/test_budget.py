"""A budget that is reached on a real host: warnings, refusals, an end, and a bill that is exact."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import AcceleratorNotFound, BudgetReached
from tests.host.conftest import HostProcess
from tests.host.support import wait_for_host, wait_until


def test_warned_refused_and_ended_and_billed_exactly(
    state_dir: Path, start_host: Callable[..., HostProcess], model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    types = state_dir.parent / "types.toml"
    types.write_text('["dear"]\nmemory = "256MiB"\ndevice_share = 0.25\nusd_per_hour = "3600"\n')
    host = start_host("--types", str(types))
    operator = host.session()
    budget = {"usd_per_month": "60", "warn_share": 0.1, "at_limit": "detach", "grace_seconds": 3.0}
    operator.request("POST", "/v1/tenants", {"name": "vision", "budget": budget})
    token = operator.request("POST", "/v1/tenants/vision/tokens", {})["token"]
    vision = HostSession(host.url, token)
    vision.attach("dear", name="forever", lease_seconds=None)
    accelerator = Accelerator.attach("dear", host=host.url, token=token, lease_seconds=9.0)
    with EIPredictor(
        str(model), input_names={"x": "x:0"}, output_names={"y": "y:0"}, accelerator=accelerator
    ) as predictor:
        assert predictor({"x": [2.0]})["y"][0] == 4.0
        wait_until(lambda: "has spent 10% of its budget of 60 USD" in caplog.text, "the client's warning")

        def level() -> str:
            return str(vision.request("GET", "/v1/tenants/vision")["now"]["budget"]["level"])

        wait_for_host(lambda: level() in ("reached", "over"), "the budget to be spent")
        with pytest.raises(BudgetReached, match="its budget is 60 USD a month"):
            vision.attach("dear")
        wait_for_host(
            lambda: vision.request("GET", "/v1/accelerators") == [], "the accelerators to be detached"
        )
        with pytest.raises(AcceleratorNotFound, match="no longer attached"):
            predictor({"x": [2.0]})
    show = lambda: vision.request("GET", "/v1/tenants/vision")  # noqa: E731
    wait_for_host(lambda: show()["now"]["num_accelerators"] == 0, "what they held to be free")
    shown = show()
    assert shown["now"]["budget"]["level"] == "over"
    assert "has spent its budget of 60 USD" in shown["now"]["warning"]
    kinds = [
        event["text"] for event in vision.request("GET", "/v1/board")["events"] if event["kind"] == "budget"
    ]
    assert sum("spent 10%" in text for text in kinds) == 1
    assert sum(text.startswith("detached: the budget") for text in kinds) == 2
    audited = [entry for entry in vision.request("GET", "/v1/audit?last=1000") if entry["who"] == "host"]
    assert [entry["method"] for entry in audited[:2]] == ["WARNED", "REACHED"]
    assert {entry["method"] for entry in audited[2:]} == {"OVER", "DELETE"}

    with closing(sqlite3.connect(host.state_dir / "state.db")) as db:
        rows = db.execute("SELECT started_at, ended_at FROM intervals WHERE tenant = 'vision'").fetchall()
    seconds = sum(round((end - start) * 1_000_000) for start, end in rows)
    (sums,) = vision.request("GET", "/v1/usage/sums?by=tenant")
    assert Decimal(sums["cost_usd"]) == Decimal(seconds) / 1_000_000  # a dollar a second
    assert Decimal(shown["now"]["spent_usd"]) == round(Decimal(seconds) / 1_000_000, 4)
    reached_at = shown["now"]["budget"]["reached_at"]
    spent_then = sum(min(end, reached_at) - start for start, end in rows if start < reached_at)
    assert spent_then == pytest.approx(60.0, abs=1e-3)
    assert min(end for start, end in rows if end > reached_at) >= reached_at + 3.0
