"""Tenants on a real host: tokens that end, quotas that hold, and nothing of anybody else anywhere."""

from __future__ import annotations

import http.client
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    AcceleratorNotFound,
    BudgetReached,
    CapacityExceeded,
    ComputeQuotaExceeded,
    ElasticInferenceError,
    InvalidInput,
    NameTaken,
    PermissionDenied,
    TenantNotFound,
    TenantQuotaExceeded,
)
from elastic_inference.host.doors.app import make_app
from elastic_inference.host.host import Host
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from tests.host import privacy, tenants
from tests.host.conftest import HostProcess
from tests.host.support import predictor, wait_for_host, wait_until

TYPES = """
["small"]
memory = "256MiB"
device_share = 0.1
usd_per_hour = "0.13"
["bursty"]
memory = "256MiB"
device_share = 0.1
may_burst = true
["large"]
memory = "512MiB"
device_share = 0.3
"""


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with tenants.host_with_types(TYPES) as host:
        yield host


@pytest.fixture
def operator(host: HostProcess) -> Iterator[HostSession]:
    session = host.session()
    yield session
    tenants.take_all_away(session)


def take_in(operator: HostSession, name: str, **body: Any) -> HostSession:
    """A session of a new tenant."""
    return HostSession(operator.url, tenants.take_in(operator, name, **body))


def test_a_tenant_attaches_for_itself_and_sees_itself(operator: HostSession) -> None:
    vision = take_in(operator, "vision")
    own = operator.attach("small", name="same")
    mine = vision.attach("small", name="same")  # names are each tenant's own
    with pytest.raises(NameTaken):
        vision.attach("small", name="same")
    assert [a["accelerator_id"] for a in vision.request("GET", "/v1/accelerators")] == [mine.accelerator_id]
    assert vision.find_id("same") == mine.accelerator_id
    assert {a["name"]: a["tenant"] for a in operator.request("GET", "/v1/accelerators") if a["tenant"]} == {
        "same": "vision"
    }
    with pytest.raises(InvalidInput, match="means 2 accelerators"):
        operator.find_id("same")
    for_it = operator.attach("small", tenant="vision")
    assert len(vision.request("GET", "/v1/accelerators")) == 2
    with pytest.raises(TenantNotFound):
        operator.attach("small", tenant="nobody")
    with pytest.raises(PermissionDenied, match="for itself"):
        vision.attach("small", tenant="another")
    assert (
        vision.request("PATCH", f"/v1/accelerators/{for_it.accelerator_id}", {"type": "bursty"})["type"]
        == "bursty"
    )
    vision.detach(for_it.accelerator_id, drain_seconds=0)
    with pytest.raises(AcceleratorNotFound):
        vision.detach(own.accelerator_id)
    (audited,) = [e for e in vision.request("GET", "/v1/audit") if e["method"] == "PATCH"]
    assert (audited["who"], audited["tenant"]) == ("tenant vision", "vision")
    holder = HostSession(operator.url, mine.token)  # an accelerator's token attaches nothing, as before
    with pytest.raises(PermissionDenied, match="only the operator or a tenant"):
        holder.attach("small")


def test_tokens_are_several_end_and_are_kept_as_hashes(host: HostProcess, operator: HostSession) -> None:
    first = take_in(operator, "vision")
    made = operator.request("POST", "/v1/tenants/vision/tokens", {"label": "short", "lifetime_seconds": 0.5})
    second = operator.request("POST", "/v1/tenants/vision/tokens", {})
    listed = operator.request("GET", "/v1/tenants/vision/tokens")
    assert [(t["label"], t["is_in_force"]) for t in listed][::2] == [("of vision", True), ("", True)]
    assert not any("token" in t or "sha256" in json.dumps(t) for t in listed)

    def is_refused() -> bool:
        try:
            HostSession(host.url, made["token"]).request("GET", "/v1/types")
        except PermissionDenied:
            return True
        return False

    wait_for_host(is_refused, "the end of a token")
    assert first.request("GET", "/v1/tenants")[0]["name"] == "vision"
    operator.request("DELETE", f"/v1/tenants/vision/tokens/{second['token_id']}")
    with pytest.raises(PermissionDenied):
        HostSession(host.url, second["token"]).request("GET", "/v1/types")
    with pytest.raises(TenantNotFound):
        operator.request("DELETE", f"/v1/tenants/vision/tokens/{second['token_id']}")
    kept = b"".join(path.read_bytes() for path in host.state_dir.rglob("*") if path.is_file())
    for text in (first.token, made["token"], second["token"]):
        assert str(text).encode() not in kept
    with closing(sqlite3.connect(host.state_dir / "state.db")) as db:
        assert len(db.execute("SELECT token_sha256 FROM tenant_tokens").fetchall()) == 2
    operator.request("DELETE", "/v1/tenants/vision")
    with pytest.raises(PermissionDenied):
        first.request("GET", "/v1/types")


@pytest.mark.parametrize(
    ("quota", "what"),
    [
        ({"max_accelerators": 1}, "would have 2 accelerators, and its quota is 1 accelerator;"),
        ({"max_share": 0.15}, "would have 20% of a device, and its quota is 15% of a device;"),
        ({"max_memory_bytes": 400 << 20}, "would have 512.0 MiB, and its quota is 400.0 MiB;"),
        ({"types": ["big*", "small"]}, "may not have type 'bursty', only big\\*, small"),
    ],
)
def test_a_quota_holds_at_attach_and_at_resize(
    operator: HostSession, quota: dict[str, Any], what: str
) -> None:
    vision = take_in(operator, "vision", quota=quota)
    first = vision.attach("small")
    with pytest.raises(TenantQuotaExceeded, match=f"tenant 'vision' {what}") as caught:
        vision.attach("bursty")
    assert caught.value.tenant == "vision"
    with pytest.raises(TenantQuotaExceeded):  # for whom, and not who asks
        operator.attach("bursty", tenant="vision")
    if "max_accelerators" not in quota:
        with pytest.raises(TenantQuotaExceeded):
            vision.request("PATCH", f"/v1/accelerators/{first.accelerator_id}", {"type": "large"})
    refused = [e for e in vision.request("GET", "/v1/board")["events"] if e["kind"] == "refused"]
    assert [e["tenant"] for e in refused] == ["vision"] * len(refused)
    assert refused
    operator.request("PUT", "/v1/tenants/vision", {})
    assert vision.attach("bursty").accelerator_type == "bursty"


def test_a_spent_budget_refuses_attaches_and_resizes_and_says_so(operator: HostSession) -> None:
    vision = take_in(operator, "vision")
    mine = vision.attach("small")
    operator.request("PUT", "/v1/tenants/vision", {"budget": {"usd_per_month": "0.000001"}})
    wait_for_host(
        lambda: (
            operator.request("GET", "/v1/tenants/vision")["now"]["budget"]["level"] in ("reached", "over")
        ),
        "the budget to be spent",
    )
    with pytest.raises(
        BudgetReached, match=r"tenant 'vision' has spent 0\.0\d+ USD in .*, and its budget is 0.000001 USD"
    ):
        vision.attach("small")
    with pytest.raises(BudgetReached):
        operator.attach("small", tenant="vision")
    with pytest.raises(BudgetReached):
        vision.request("PATCH", f"/v1/accelerators/{mine.accelerator_id}", {"type": "bursty"})
    assert operator.attach("small").accelerator_type == "small"
    wait_for_host(lambda: vision.describe(mine.accelerator_id).warning, "the warning")
    shown = vision.describe(mine.accelerator_id).warning
    assert shown.startswith("tenant vision has spent its budget of 0.000001 USD")
    assert "what is attached continues and costs more" in shown
    assert HostSession(operator.url, mine.token).beat(mine.accelerator_id)[1] == shown


def test_what_is_left_is_not_told_to_a_tenant(operator: HostSession) -> None:
    vision = take_in(operator, "vision")
    for _ in range(3):
        operator.attach("large")
    with pytest.raises(CapacityExceeded, match=r"does not fit now beside what is attached") as caught:
        vision.attach("large")
    assert "left" not in str(caught.value)
    assert caught.value.available == "not that much now"
    with pytest.raises(CapacityExceeded, match=r"cpu:0 has .* left"):
        operator.attach("large")
    mine = vision.attach("small")
    with pytest.raises(CapacityExceeded, match=r"no room for type 'large' now") as caught:
        vision.request("PATCH", f"/v1/accelerators/{mine.accelerator_id}", {"type": "large"})
    assert "left" not in str(caught.value)


def test_requests_a_second_hold_for_all_accelerators_together_and_change_while_they_run(
    operator: HostSession, model: Path
) -> None:
    vision = take_in(operator, "vision", quota={"requests_per_second": 0.001})
    first, second = vision.attach("small"), vision.attach("small")
    assert first.limits["requests"] == (
        "0.001 a second of all accelerators of tenant vision together, by its quota"
    )
    feed = {"x": np.ones(2, np.float32)}
    with (
        predictor(first.endpoints[0], first.token, model) as predict,
        predictor(second.endpoints[0], second.token, model) as predict_second,
    ):
        predict(feed)
        for each in (predict_second, predict):
            with pytest.raises(ComputeQuotaExceeded, match=r"the quota is 0.001 requests a second for all"):
                each(feed)
        vision.request("DELETE", f"/v1/accelerators/{second.accelerator_id}")
        third = vision.attach("small")
        with (
            predictor(third.endpoints[0], third.token, model) as predict_third,
            pytest.raises(ComputeQuotaExceeded),
        ):
            predict_third(feed)
        others = take_in(operator, "audio", quota={"requests_per_second": 0.001}).attach("small")
        with predictor(others.endpoints[0], others.token, model) as predict_others:
            assert predict_others(feed)["y"][0] == 2
        operator.request("PUT", "/v1/tenants/vision", {})
        assert [predict(feed)["y"][0] for _ in range(5)] == [2] * 5


def test_a_tenant_with_accelerators_is_not_removed_unless_with_them(operator: HostSession) -> None:
    vision = take_in(operator, "vision")
    mine = vision.attach("small")
    with pytest.raises(Exception, match="has 1 accelerators attached"):
        operator.request("DELETE", "/v1/tenants/vision")
    operator.request("DELETE", "/v1/tenants/vision?detach=true")
    assert operator.request("GET", "/v1/accelerators") == []
    with pytest.raises(PermissionDenied):
        HostSession(operator.url, mine.token).request("GET", "/v1/types")
    (row,) = [u for u in operator.request("GET", "/v1/usage") if u["accelerator_id"] == mine.accelerator_id]
    assert row["tenant"] == "vision"
    time.sleep(0.002)  # the audit log tells milliseconds apart
    budget = {"usd_per_month": "0.000000001"}  # the one before has spent more
    again = take_in(operator, "vision", budget=budget)  # the name is free again, and is nobody's who had it
    (shown,) = again.request("GET", "/v1/tenants")
    assert (shown["now"]["spent_usd"], shown["now"]["budget"]["level"]) == ("0.0000", "enough")
    assert again.request("GET", "/v1/usage") == []
    assert again.request("GET", "/v1/usage/sums?by=tenant") == []
    assert again.request("GET", "/v1/board")["events"] == []
    mine = again.request("GET", "/v1/audit")
    assert [(entry["method"], entry["path"]) for entry in mine] == [
        ("POST", "/v1/tenants"),
        ("POST", "/v1/tenants/vision/tokens"),
    ]
    assert again.attach("small").accelerator_type == "small"


def test_the_audit_log_says_which_tenant_and_what_of_it_was_changed_and_no_token(
    operator: HostSession,
) -> None:
    vision = take_in(operator, "vision", quota={"max_share": 0.5, "types": ["small"]})
    body = {"quota": {"max_share": 0.75}, "budget": {"usd_per_month": "20", "at_limit": "detach"}}
    operator.request("PUT", "/v1/tenants/vision", body)
    operator.request("PUT", "/v1/tenants/vision", body)
    with pytest.raises(NameTaken):
        operator.request("POST", "/v1/tenants", {"name": "vision", "quota": {"max_priority": 3}})
    (token,) = vision.request("GET", "/v1/tenants/vision/tokens")
    entries = operator.request("GET", "/v1/audit?last=5")
    assert [(entry["status"], entry["tenant"], entry["detail"]) for entry in entries] == [
        (201, "vision", "max_share none -> 0.5, types none -> small"),
        (201, "vision", f"token {token['token_id']} 'of vision', without end"),
        (
            200,
            "vision",
            "max_share 0.5 -> 0.75, types small -> none, usd_per_month none -> 20, warn_share none -> 0.8, "
            "at_limit none -> detach, grace_seconds none -> 600.0",
        ),
        (200, "vision", "nothing changed"),
        (409, "vision", "max_priority 0 -> 3"),
    ]
    assert vision.token not in json.dumps(entries)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"name": "Vision"}, "is not 1 to 63 characters"),
        ({"name": "operator"}, "'operator' is taken"),
        ({"name": "x", "quota": {"max_share": -1}}, "quota.max_share"),
        ({"name": "x", "quota": {"shares": 1}}, "quota.shares"),
        ({"name": "x", "budget": {"usd_per_month": "-1"}}, "budget.usd_per_month"),
        ({"name": "x", "budget": {"usd_per_month": "1", "at_limit": "kill"}}, "budget.at_limit"),
    ],
)
def test_bad_tenants_are_refused(operator: HostSession, body: dict[str, Any], what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        operator.request("POST", "/v1/tenants", body)
    assert operator.request("GET", "/v1/tenants") == []


@pytest.mark.parametrize("name", ["", "a/tokens/1f0af458", ".."])
def test_a_name_that_would_be_another_path_is_refused_before_it_is_sent(
    operator: HostSession, host: HostProcess, name: str
) -> None:
    """An empty one was redirected and reported as done; one with a slash revoked a token instead of a tenant."""
    take_in(operator, "vision")
    for path in (f"/v1/tenants/{quote(name, safe='')}", f"/v1/tenants/vision/tokens/{quote(name, safe='')}"):
        with pytest.raises(InvalidInput, match="is empty or has a slash"):
            operator.request("DELETE", path)
    with pytest.raises(
        ElasticInferenceError, match=r"404|Not Found|no such"
    ):  # whoever sends it all the same
        request_json(
            Endpoint.parse(host.url), "DELETE", "/v1/tenants/vision/tokens/", None, token=operator.token,
            deadline=Deadline(10.0),
        )  # fmt: skip


# Nothing of others


@pytest.fixture
def other(operator: HostSession, model: Path) -> tuple[Attachment, list[str]]:
    """Another tenant that does and has all that can be seen; and the words that would tell of it."""
    tenant = take_in(operator, "other-tenant", budget={"usd_per_month": "77.31"})
    gone = tenant.attach("small", name="other-gone")
    tenant.detach(gone.accelerator_id, drain_seconds=0)
    here = tenant.attach("small", name="other-name", lease_seconds=4321.125)
    with predictor(here.endpoints[0], here.token, model) as predict:
        predict({"x": np.ones(2, np.float32)})
    with pytest.raises(InvalidInput):
        tenant.attach("other-type")
    operators = operator.attach("small", name="operators-name")
    place = operator.request(
        "POST", "/v1/accelerators", {"type": "large", "tenant": "other-tenant", "wait": True}
    )
    assert "token" in place or "ticket" in place
    words = [
        "other-tenant", "other-gone", "other-name", "other-type", "operators-name", "77.31", "4321.125",
        gone.accelerator_id, here.accelerator_id, operators.accelerator_id, here.token, "operator.token",
        *here.endpoints,
    ]  # fmt: skip
    return here, words


def test_no_endpoint_tells_or_lets_change_anything_of_others(
    host: HostProcess,
    operator: HostSession,
    other: tuple[Attachment, list[str]],
    open_host: Callable[..., Host],
) -> None:
    here, words = other
    mine = take_in(operator, "mine")
    own = mine.attach("small", name="own-name")
    token = mine.token or ""
    before = operator.request("GET", f"/v1/accelerators/{here.accelerator_id}")
    theirs = {"accelerator_id": here.accelerator_id, "name": "other-tenant"}
    privacy.look_everywhere(make_app(open_host()), host.url, token, theirs, words)
    after = operator.request("GET", f"/v1/accelerators/{here.accelerator_id}")
    for told in (before, after):
        for name in ("lease_left_seconds", "memory_used_bytes", "utilisation_share", "is_healthy"):
            told.pop(name)
    assert after == before  # nothing was detached, resized or renamed
    assert operator.request("GET", "/v1/health")["status"] == "ok"
    assert {t["name"] for t in operator.request("GET", "/v1/tenants")} == {"mine", "other-tenant"}
    assert HostSession(host.url, here.token).heartbeat(here.accelerator_id) == 4321.125
    del own


def test_the_page_shows_a_tenant_itself_alone(
    host: HostProcess, operator: HostSession, other: tuple[Attachment, list[str]]
) -> None:
    _, words = other
    mine = take_in(operator, "looker", budget={"usd_per_month": "5"})
    own = mine.attach("small", name="own-name")
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=60)
    with closing(connection):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/page/sign-in", urlencode({"token": mine.token}), form)
        answer = connection.getresponse()
        answer.read()
        cookie = str(answer.headers["set-cookie"]).partition(";")[0]
        connection.request("GET", "/page/stream/events", headers={"Cookie": cookie})
        stream = connection.getresponse()
        told: dict[str, Any] = {}

        def shows_own() -> bool:
            nonlocal told
            line = stream.readline().decode()
            assert [word for word in words if word in line] == []
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
            return bool(told.get("accelerators")) and bool(told["tenants"][0]["spent_usd"])

        wait_until(shows_own, "the stream to show the tenant")
    assert [row["accelerator_id"] for row in told["accelerators"]] == [own.accelerator_id]
    assert [(t["name"], t["budget"]["usd_per_month"]) for t in told["tenants"]] == [("looker", "5")]
    assert (told["host"]["is_operator"], told["host"]["tenant"], told["devices"]) == (False, "looker", [])
