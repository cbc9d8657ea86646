"""Who gives way when the control API is flooded, and how often a caller may ask; without a socket or a clock."""

from __future__ import annotations

import pytest

from elastic_inference.host.doors.admission import Admission, DoorLimits, Rates, network_of


def test_whoever_waited_longest_without_a_request_gives_way() -> None:
    admission = Admission(3)
    assert [admission.enter(key) for key in "abc"] == [None, None, None]
    admission.begin("a")
    assert admission.enter("d") == "b"
    admission.end("a")  # it waits again, but not for as long as the others
    assert admission.longest_waiting() == "c"
    assert [admission.enter(key) for key in "ef"] == ["c", "d"]
    assert len(admission) == 3


def test_a_newcomer_is_refused_only_where_all_others_are_being_answered() -> None:
    admission = Admission(2)
    for key in "ab":
        admission.enter(key)
        admission.begin(key)
    assert admission.enter("c") == "c"
    admission.leave("a")
    admission.leave("a")
    assert admission.enter("c") is None
    admission.begin("unknown")
    admission.end("unknown")
    assert len(admission) == 2


def test_an_allowance_is_used_up_and_fills_again() -> None:
    rates = Rates(per_second=2.0, burst=3)
    assert [rates.take("a", 10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("b", 10.0) == 0.0
    assert rates.take("a", 10.25) == 0.25
    assert rates.take("a", 10.5) == 0.0
    assert rates.take("a", 0.0) > 0  # a clock that goes back gives nothing away


def test_callers_beyond_what_is_kept_are_forgotten_and_begin_anew() -> None:
    rates = Rates(per_second=1.0, burst=1)
    assert rates.take("a", 0.0) == 0.0
    for number in range(5000):
        rates.take(str(number), 0.0)
    assert len(rates._left) <= 4096
    assert rates.take("a", 0.0) == 0.0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_an_ipv6_caller_is_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_few_descriptors_give_few_connections() -> None:
    assert DoorLimits.within(1 << 20) == DoorLimits()
    few = DoorLimits.within(256)
    assert (few.num_connections, few.num_requests) == (85, 80)
    assert few.num_requests < few.num_connections
