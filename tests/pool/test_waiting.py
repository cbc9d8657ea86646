"""Who waits for room gets it: by priority, by age, and at last by a host that is kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.placement import Table, WaitingList, WaitingRules, choose
from elastic_inference.testing.clock import ManualClock
from tests.pool.pools import cpu_host

RULES = WaitingRules(ageing_seconds=10.0, patience_seconds=5.0)
QUARTER, WHOLE = Request("cpu.quarter"), Request("cpu.whole")


def full_table(num_hosts: int = 1) -> Table:
    table = Table([cpu_host(f"h{number}") for number in range(num_hosts)])
    for number in range(4 * num_hosts):
        table.put(f"old-{number}", QUARTER, choose(table, QUARTER))
    return table


def test_the_higher_priority_goes_first_and_age_makes_up_for_it() -> None:
    table, waiting = full_table(), WaitingList(RULES)
    waiting.add("low", QUARTER, 0.0)
    waiting.add("high", Request("cpu.quarter", priority=1), 1.0)
    assert waiting.admit(table, 2.0) == []
    table.take("old-0")
    assert [one for one, _ in waiting.admit(table, 3.0)] == ["high"]
    waiting.add("higher", Request("cpu.quarter", priority=1), 10.5)
    table.take("old-1")
    assert [one for one, _ in waiting.admit(table, 11.0)] == ["low"]  # waited a step longer
    assert len(waiting) == 1
    assert "higher" in waiting
    waiting.withdraw("higher")
    waiting.withdraw("nobody")
    assert len(waiting) == 0


def test_small_ones_pass_a_large_one_until_its_patience_ends() -> None:
    table, waiting = full_table(2), WaitingList(RULES)
    waiting.add("large", WHOLE, 0.0)
    waiting.add("small", QUARTER, 1.0)
    table.take("old-0")
    assert [one for one, _ in waiting.admit(table, 2.0)] == ["small"]
    waiting.admit(table, 5.0)
    (kept,) = waiting.closed_hosts()
    first = table.held_on(kept)[0]
    table.take(first)
    waiting.add("late", QUARTER, 5.5)
    assert waiting.admit(table, 6.0) == []  # what was freed is kept
    for one in table.held_on(kept):
        table.take(one)
    assert [one for one, _ in waiting.admit(table, 7.0)] == ["large"]
    assert waiting.closed_hosts() == frozenset()


def test_a_kept_host_that_is_lost_is_replaced() -> None:
    table, waiting = full_table(2), WaitingList(RULES)
    waiting.add("large", WHOLE, 0.0)
    waiting.admit(table, 6.0)
    (kept,) = waiting.closed_hosts()
    table.set_state(kept, HostState.LOST)
    waiting.admit(table, 7.0)
    assert waiting.closed_hosts() == {"h0", "h1"} - {kept}


@pytest.mark.parametrize("field", ["ageing_seconds", "patience_seconds"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf")])
def test_rules_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match=f"{field} {value}"):
        WaitingRules(**{field: value})


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12)), min_size=120, max_size=120),
    st.sampled_from(["cpu.half", "cpu.whole"]),
)
@settings(max_examples=40, deadline=None)
def test_nobody_waits_for_ever_whatever_comes_after(arrivals: list[tuple[int, int]], large: str) -> None:
    """A newcomer each second, of up to two steps more priority, that stays for up to 12 s, on 8 quarters."""
    table, waiting, clock = Table([cpu_host("a"), cpu_host("b")]), WaitingList(RULES), ManualClock()
    leaves_at: dict[str, float] = {}
    stays: dict[str, float] = {}
    for number in range(8):
        table.put(f"old-{number}", QUARTER, choose(table, QUARTER))
        leaves_at[f"old-{number}"] = 1.0 + number
    waiting.add("large", Request(large), clock.now())
    for number, (priority, stay) in enumerate(arrivals):
        clock.advance(1.0)
        for one in [one for one, when in leaves_at.items() if when <= clock.now()]:
            table.take(one)
            del leaves_at[one]
        name = f"new-{number}"
        stays[name] = float(stay)
        waiting.add(name, Request("cpu.quarter", priority=priority), clock.now())
        for one, _ in waiting.admit(table, clock.now()):
            leaves_at[one] = clock.now() + stays.get(one, 1000.0)
        if "large" not in waiting:
            break
    # Two steps of priority are 20 s; then its host is kept, and all on it leave within 12 s.
    assert "large" not in waiting
    assert clock.now() <= 20 + RULES.patience_seconds + 12 + 2
