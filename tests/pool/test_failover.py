"""A silent host has stopped before what it held starts elsewhere, whatever the network did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.failover import (
    Answer,
    FailoverRules,
    Standing,
    answer,
    lost_hosts,
    order_of_return,
)
from elastic_inference.pool.model import Request

RULES = FailoverRules(report_seconds=0.5, lease_seconds=2.0, margin_seconds=0.5)


def test_a_silent_host_is_lost_when_its_lease_and_the_margin_are_over() -> None:
    standings = [Standing("b", 10.0), Standing("a", 10.4), Standing("c", 12.0, is_known_dead=True)]
    assert lost_hosts(standings, 12.4, RULES) == ["c"]
    assert lost_hosts(standings, 12.5, RULES) == ["b", "c"]
    assert lost_hosts(standings, 13.0, RULES) == ["a", "b", "c"]


def test_a_host_whose_process_ended_is_lost_after_the_margin_alone() -> None:
    standings = [Standing("a", 10.0, ended_at=10.2), Standing("b", 10.0, ended_at=12.4)]
    assert lost_hosts(standings, 10.6, RULES) == []
    assert lost_hosts(standings, 10.75, RULES) == ["a"]
    assert lost_hosts(standings, 12.5, RULES) == ["a", "b"]  # its lease ends no later for that


@given(st.floats(0, 100), st.floats(0, 10), st.floats(0.9, 1.1), st.floats(-1000, 1000), st.floats(0, 20))
def test_no_host_serves_when_its_pool_places_elsewhere(
    sent: float, on_the_way: float, rate: float, zero: float, later: float
) -> None:
    """The host's clock has another zero and runs up to a tenth slower or faster than the pool's."""
    answered = sent + on_the_way
    now = answered + later

    def on_host(moment: float) -> float:
        return zero + rate * moment

    if lost_hosts([Standing("h", answered)], now, RULES):
        assert not RULES.may_serve(on_host(sent), on_host(now))


def test_a_report_under_an_old_epoch_is_fenced() -> None:
    assert answer(3, 3) is Answer.RENEWED
    assert answer(2, 3) is Answer.FENCED
    assert answer(4, 3) is Answer.FENCED  # of a pool whose database was put back


def test_those_with_priority_return_first_then_tenants_take_turns_then_the_large() -> None:
    requests = {
        "a1": Request("t", tenant="a"),
        "a2": Request("t", tenant="a"),
        "b1": Request("t", tenant="b"),
        "vip": Request("t", tenant="a", priority=1),
    }
    shares = {"a1": 0.25, "a2": 0.5, "b1": 0.1, "vip": 0.1}
    assert order_of_return(requests, shares) == ["vip", "b1", "a2", "a1"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"lease_seconds": 0.9}, "lease_seconds 0.9 must be at least twice report_seconds 0.5"),
        ({"report_seconds": 0.0}, "report_seconds 0.0"),
        ({"margin_seconds": 0.0}, "margin_seconds 0.0"),
        ({"margin_seconds": 0.049}, "margin_seconds 0.049 must be finite and at least 0.05"),
    ],
)
def test_rules_that_cannot_hold_are_refused(fields: dict[str, float], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        FailoverRules(**fields)
