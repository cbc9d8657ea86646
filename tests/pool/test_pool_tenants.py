"""Tenants of a pool of real hosts: quotas and budgets over all of them, and nothing of anybody else anywhere."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import (
    AcceleratorNotFound,
    BudgetReached,
    CapacityExceeded,
    ComputeQuotaExceeded,
    InvalidInput,
    NameTaken,
    PermissionDenied,
    TenantQuotaExceeded,
)
from elastic_inference.host.doors.app import make_app
from elastic_inference.pool.config import PoolConfig
from elastic_inference.pool.doors import pool_doors
from elastic_inference.pool.pool import Pool
from tests.host import privacy
from tests.host.support import wait_for_host
from tests.host.tenants import take_in
from tests.pool.cluster import PoolCluster

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def operator(cluster: PoolCluster) -> Iterator[HostSession]:
    yield cluster.session
    cluster.empty()


def tenant(operator: HostSession, name: str, **body: object) -> HostSession:
    return HostSession(operator.url, take_in(operator, name, **body))


def caller(model: Path, url: str, token: str, accelerator_id: str) -> EIPredictor:
    return EIPredictor(
        str(model),
        input_names={"x": "x:0"},
        output_names={"y": "y:0"},
        accelerator=Accelerator.of_id(accelerator_id, host=url, token=token),
    )


@pytest.mark.usefixtures("operator")
def test_the_command_line_takes_tenants_in_at_a_pool(cluster: PoolCluster) -> None:
    where = ("--host", cluster.url, "--token", cluster.token)
    cluster.ei("tenant", "add", "vision", "--share", "150%", "--budget", "10", *where)
    made = json.loads(cluster.ei("tenant", "token", "add", "vision", "--label", "ci", "--json", *where))
    cluster.ei("tenant", "change", "vision", "--accelerators", "3", *where)
    shown = json.loads(
        cluster.ei("tenant", "show", "vision", "--json", "--host", cluster.url, "--token", made["token"])
    )
    assert (shown["quota"]["max_accelerators"], shown["quota"]["max_share"]) == (3, 1.5)
    assert "vision" in cluster.ei("tenant", "list", *where)
    cluster.ei("tenant", "remove", "vision", *where)
    with pytest.raises(PermissionDenied):
        HostSession(cluster.url, made["token"]).request("GET", "/v1/types")


def test_a_quota_holds_over_all_hosts_and_through_the_services_death(
    cluster: PoolCluster, operator: HostSession
) -> None:
    vision = tenant(operator, "vision", quota={"max_share": 2.05})
    own = operator.attach("small", name="same", lease_seconds=None)
    mine = [vision.attach("cpu.whole", name=name, lease_seconds=None) for name in ("same", "other")]
    assert len({cluster.holder(each.accelerator_id)["host_id"] for each in mine}) == 2
    with pytest.raises(NameTaken):
        vision.attach("small", name="same")
    cluster.kill_service()
    with pytest.raises(TenantQuotaExceeded, match=r"would have 210% of a device, and its quota is 205%"):
        vision.attach("small")
    with pytest.raises(TenantQuotaExceeded):
        operator.attach("small", tenant="vision")
    listed = [each["accelerator_id"] for each in vision.request("GET", "/v1/accelerators")]
    assert listed == [each.accelerator_id for each in mine]
    assert vision.request("GET", "/v1/tenants")[0]["now"]["num_accelerators"] == 2
    with pytest.raises(AcceleratorNotFound):
        vision.detach(own.accelerator_id)
    vision.detach(mine[0].accelerator_id, drain_seconds=0)
    small = vision.attach("small", lease_seconds=None)
    path = f"/v1/accelerators/{small.accelerator_id}"
    operator.request("PUT", "/v1/tenants/vision", {"quota": {"max_share": 1.5}})
    with pytest.raises(TenantQuotaExceeded, match="would have 160% of a device"):
        vision.request("PATCH", path, {"type": "dear"})
    assert vision.request("PATCH", path, {"type": "bursty"})["type"] == "bursty"
    operator.request("PUT", "/v1/tenants/vision", {})
    operator.attach("cpu.whole", lease_seconds=None)
    with pytest.raises(CapacityExceeded, match="does not fit now beside") as caught:
        vision.attach("cpu.whole", lease_seconds=None)
    assert "left" not in str(caught.value)
    audited = vision.request("GET", "/v1/audit")
    assert {entry["tenant"] for entry in audited} == {"vision"}
    sums = vision.request("GET", "/v1/usage/sums?by=tenant")
    assert [row["key"] for row in sums] == ["vision"]


def test_requests_a_second_hold_at_the_hosts_and_follow_a_move(
    cluster: PoolCluster, operator: HostSession, model: Path
) -> None:
    vision = tenant(operator, "vision", quota={"requests_per_second": 0.001})
    mine = vision.attach("small", lease_seconds=None)
    wanted = "0.001 a second of all accelerators of tenant vision together, by its quota"
    assert mine.limits["requests"] == wanted
    feed = {"x": np.ones(2, np.float32)}
    with caller(model, cluster.url, mine.token, mine.accelerator_id) as predict:

        def is_served() -> bool:
            with contextlib.suppress(ComputeQuotaExceeded):
                return bool(predict(feed)["y"][0] == 2)
            return False

        assert is_served()
        assert not is_served()
        operator.request("PUT", "/v1/tenants/vision", {})
        wait_for_host(is_served, "the quota to be taken away")
        assert "requests" not in vision.describe(mine.accelerator_id).limits
        operator.request("PUT", "/v1/tenants/vision", {"quota": {"requests_per_second": 0.002}})
        assert vision.describe(mine.accelerator_id).limits["requests"].startswith("0.002 a second")
        wait_for_host(lambda: not is_served(), "the new quota")
        before = cluster.holder(mine.accelerator_id)["host_id"]

        def has_moved() -> bool:  # no host has it for a moment
            ids = [each["accelerator_ids"] for each in cluster.hosts() if each["host_id"] != before]
            return any(mine.accelerator_id in each for each in ids)

        try:
            operator.request("POST", f"/v1/pool/hosts/{before}/drain", {"is_draining": True})
            wait_for_host(has_moved, "another host")
            wait_for_host(lambda: is_served() or not is_served(), "an answer there")
            assert not is_served()
        finally:
            operator.request("POST", f"/v1/pool/hosts/{before}/drain", {"is_draining": False})


def test_a_budget_is_spent_on_all_hosts_together(cluster: PoolCluster, operator: HostSession) -> None:
    """Two that cost a dollar a second each, on two hosts, of which one is begun before the service dies."""
    budget = {"usd_per_month": "40", "warn_share": 0.1, "at_limit": "detach", "grace_seconds": 1.0}
    vision = tenant(operator, "costly", budget=budget)
    vision.attach("dear", lease_seconds=None)
    cluster.kill_service()
    vision.attach("dear", lease_seconds=None)
    assert sum(len(host["accelerator_ids"]) == 1 for host in cluster.hosts()) == 2

    def now() -> dict[str, object]:
        return dict(vision.request("GET", "/v1/tenants/costly")["now"])

    wait_for_host(lambda: "has spent" in str(now()["warning"]), "the warning")
    wait_for_host(lambda: now()["budget"]["level"] in ("reached", "over"), "the budget to be spent")  # type: ignore[index]
    with pytest.raises(BudgetReached, match="its budget is 40 USD a month"):
        vision.attach("small")
    wait_for_host(lambda: now()["num_accelerators"] == 0, "both to be detached")
    with contextlib.closing(sqlite3.connect(cluster.folder / "p" / "state.db")) as db:
        rows = db.execute("SELECT started_at, ended_at FROM intervals WHERE tenant = 'costly'").fetchall()
    assert len(rows) == 2
    seconds = sum(round((end - start) * 1_000_000) for start, end in rows)
    (sums,) = vision.request("GET", "/v1/usage/sums?by=tenant")
    assert Decimal(sums["cost_usd"]) == Decimal(seconds) / 1_000_000
    reached_at = now()["budget"]["reached_at"]  # type: ignore[index]
    spent_then = sum(min(end, reached_at) - start for start, end in rows)
    assert spent_then == pytest.approx(40.0, abs=1e-3)
    told = [
        entry["method"] for entry in vision.request("GET", "/v1/audit?last=1000") if entry["who"] == "host"
    ]
    assert told.count("WARNED") == told.count("REACHED") == 1  # not again by the successor
    assert told.count("DELETE") == 2


def test_a_tenant_that_is_gone_leaves_no_store_on_any_host(
    cluster: PoolCluster, operator: HostSession, model: Path
) -> None:
    shop = tenant(operator, "shop")
    for _ in range(2):
        mine = shop.attach("dear", lease_seconds=None)
        with caller(model, cluster.url, mine.token, mine.accelerator_id) as predict:
            predict({"x": np.ones(2, np.float32)})

    def stores() -> list[Path]:
        return list((cluster.folder / "p" / "hosts").glob("*/tenants/shop"))

    assert len(stores()) == 2
    operator.request("DELETE", "/v1/tenants/shop?detach=true")
    assert operator.request("GET", "/v1/accelerators") == []
    another = tenant(operator, "shop")  # before the hosts know
    mine = another.attach("dear", lease_seconds=None)
    with caller(model, cluster.url, mine.token, mine.accelerator_id) as predict:
        assert predict({"x": np.ones(2, np.float32)})["y"][0] == 2
    wait_for_host(lambda: len(stores()) == 1, "those of the one before to be removed")


def test_no_path_of_a_pool_tells_or_lets_change_anything_of_others(
    cluster: PoolCluster, operator: HostSession, model: Path
) -> None:
    other = tenant(operator, "other-tenant", budget={"usd_per_month": "77.31"})
    gone = other.attach("small", name="other-gone")
    other.detach(gone.accelerator_id, drain_seconds=0)
    here = other.attach("small", name="other-name", lease_seconds=4321.125)
    with caller(model, cluster.url, here.token, here.accelerator_id) as predict:
        predict({"x": np.ones(2, np.float32)})
    with pytest.raises(InvalidInput):
        other.attach("other-type")
    operators = operator.attach("small", name="operators-name")
    for _ in cluster.hosts():
        operator.attach("dear", lease_seconds=None)
    asked = {"type": "all", "tenant": "other-tenant", "wait": True}
    assert "ticket" in operator.request("POST", "/v1/accelerators", asked)  # one host is kept for it
    words = [
        "other-tenant", "other-gone", "other-name", "other-type", "operators-name", "77.31", "4321.125",
        gone.accelerator_id, here.accelerator_id, operators.accelerator_id, here.token, "operator.token",
        "join.token", *here.endpoints, *(host["url"] for host in cluster.hosts()),
    ]  # fmt: skip
    mine = tenant(operator, "mine")
    mine.attach("small", name="own-name")
    theirs = {"accelerator_id": here.accelerator_id, "name": "other-tenant"}
    state = str(cluster.folder / "other")
    pool = Pool(PoolConfig("127.0.0.1:0", "http://127.0.0.1:0", state, f"{state}/hosts"))
    pool.wait_for_turn()
    pool.open()
    try:
        app = make_app(pool, addition=pool_doors(pool))  # with the same paths as the one that is asked
    finally:
        pool.close()
    privacy.look_everywhere(app, cluster.url, mine.token or "", theirs, words)
    assert operator.describe(here.accelerator_id).name == "other-name"
    assert {each["name"] for each in operator.request("GET", "/v1/tenants")} == {"mine", "other-tenant"}
