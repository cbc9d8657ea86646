"""The line for capacity under a clock that only the test moves: order, no starvation, nobody held up for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.host.accounts.capacity import Allocation, Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.line import PATIENCE_SECONDS, STEP_SECONDS, Line, Waiter
from elastic_inference.host.accounts.room import HostRoom
from elastic_inference.host.accounts.tenants import MAX_PRIORITY
from elastic_inference.testing.clock import ManualClock

GIB = 1024**3
WHOLE = AcceleratorType("whole", 4 * GIB, device_share=1.0)
HALF = AcceleratorType("half", 2 * GIB, device_share=0.5)
QUARTER = AcceleratorType("quarter", GIB, device_share=0.25)
GPU = AcceleratorType(
    "gpu", GIB, device_share=1.0, device_kind="cuda", device_memory_bytes=GIB, cpu_share=0.25
)
CPU_QUARTER = AcceleratorType("cpu.quarter", GIB, device_share=0.25, device_kind="cpu")
KINDS = {kind.name: kind for kind in (WHOLE, HALF, QUARTER, GPU, CPU_QUARTER)}
CPU = DeviceCapacity("cpu:0", 1.0, 4 * GIB, num_cores=4.0)
CUDA = DeviceCapacity("cuda:0", 10.0, 8 * GIB, "cuda")
_numbers = count(1)


def waiter(clock: ManualClock, kind: AcceleratorType, priority: int = 0, tenant: str = "") -> Waiter:
    number = next(_numbers)
    return Waiter(f"ticket {number}", tenant, kind.name, priority, clock.now(), number)


def joined(line: Line, clock: ManualClock, *args: object) -> Waiter:
    one = waiter(clock, *args)  # type: ignore[arg-type]
    line.join(one)
    return one


def served(line: Line, capacity: Capacity) -> Iterator[tuple[Waiter, Capacity]]:
    """Those whose turn comes, one after another, while nothing is given back."""
    while True:
        for one in line.waiters():
            if line.has_turn(one, HostRoom(capacity, KINDS)):
                allocation = capacity.place(KINDS[one.type_name])
                capacity = capacity.with_held(one.ticket, allocation)
                line.leave(one.ticket)
                yield one, capacity
                break
        else:
            return


def test_twenty_are_served_in_the_order_of_their_coming() -> None:
    clock, empty = ManualClock(), Capacity((CPU,))
    line = Line(clock)
    came = []
    for _ in range(20):
        came.append(joined(line, clock, WHOLE))
        clock.advance(1.0)
    assert [line.place(one) for one in came] == list(range(1, 21))
    order = []
    while len(line):
        ((one, _),) = served(line, empty)  # the one before has given back
        order.append(one)
    assert order == came


def test_a_restart_keeps_the_order_and_gives_time_to_ask_again() -> None:
    clock = ManualClock()
    line = Line(clock)
    came = [joined(line, clock, WHOLE, priority) for priority in (0, 2, 0, 1)]
    clock.advance(20.0)
    again = Line(clock, came)
    assert again.waiters() == line.waiters()
    clock.advance(PATIENCE_SECONDS - 1)
    assert again.gone() == ()
    assert again.look(came[0].ticket) == came[0]
    clock.advance(1.0)
    assert set(again.gone()) == {one.ticket for one in came[1:]}


def test_a_step_of_priority_is_worth_some_time_and_no_more() -> None:
    clock = ManualClock()
    line = Line(clock)
    first = joined(line, clock, WHOLE)
    clock.advance(STEP_SECONDS - 1)
    urgent = joined(line, clock, WHOLE, 1)
    clock.advance(2.0)
    late = joined(line, clock, WHOLE, 1)
    assert line.waiters() == (urgent, first, late)


@given(st.lists(st.tuples(st.integers(0, MAX_PRIORITY), st.floats(0, 300)), max_size=30))
def test_nobody_is_passed_by_those_who_come_long_after(arrivals: list[tuple[int, float]]) -> None:
    clock = ManualClock()
    line = Line(clock)
    first = joined(line, clock, WHOLE)
    for priority, seconds in arrivals:
        clock.advance(seconds)
        joined(line, clock, WHOLE, priority)
    ahead = line.waiters()[: line.place(first) - 1]
    assert all(one.asked_at < first.asked_at + MAX_PRIORITY * STEP_SECONDS for one in ahead)
    assert all(one.priority > first.priority for one in ahead)


def test_a_large_one_is_not_starved_by_small_ones_that_keep_coming() -> None:
    clock = ManualClock()
    line, capacity = Line(clock), Capacity((CPU,))
    ends_at: dict[str, float] = {}
    large: Waiter | None = None
    waited = None
    for second in range(200):
        clock.advance(1.0)
        for ticket in [ticket for ticket, end in ends_at.items() if end <= clock.now()]:
            capacity = capacity.without(ticket)
            del ends_at[ticket]
        joined(line, clock, QUARTER)
        if second == 10:
            large = joined(line, clock, WHOLE)
        for one, now_held in served(line, capacity):
            capacity = now_held
            ends_at[one.ticket] = clock.now() + 4.0
            if one == large:
                waited = clock.now() - large.asked_at
    # Those in front of it, and those that ran when it came: never those behind it.
    assert waited is not None
    assert waited <= 20.0


def test_small_ones_behind_a_large_one_get_what_it_cannot_use() -> None:
    clock = ManualClock()
    line = Line(clock)
    both = Capacity((CPU, CUDA), {"x": Allocation("cuda:0", 0.5, GIB, 0.25, GIB)})
    for_gpu = joined(line, clock, GPU)
    small = [joined(line, clock, CPU_QUARTER) for _ in range(4)]
    assert not line.has_turn(for_gpu, HostRoom(both, KINDS))
    # Of the host's four quarters one is held beside the GPU, and one is kept for whoever waits for the GPU.
    assert [one for one, _ in served(line, both)] == small[:2]


def test_a_waiter_for_the_cpu_is_not_passed_by_those_for_a_gpu_that_take_from_it() -> None:
    clock = ManualClock()
    line = Line(clock)
    capacity = Capacity((CPU, CUDA), {"x": Allocation("cpu:0", 0.25, GIB)})
    whole = AcceleratorType("cpu.whole", 4 * GIB, device_share=1.0, device_kind="cpu")
    kinds = KINDS | {whole.name: whole}
    joined(line, clock, whole)
    behind = joined(line, clock, GPU)
    assert not line.has_turn(behind, HostRoom(capacity, kinds))
    assert line.has_turn(behind, HostRoom(Capacity((CPU, CUDA)), KINDS))


def test_who_may_not_have_it_now_holds_nobody_up() -> None:
    clock = ManualClock()
    line, capacity = Line(clock), Capacity((CPU,), {"x": Allocation("cpu:0", 0.5, 2 * GIB)})
    joined(line, clock, HALF, 0, "over its quota")
    behind = joined(line, clock, HALF, 0, "well within")
    assert not line.has_turn(behind, HostRoom(capacity, KINDS))
    assert line.has_turn(behind, HostRoom(capacity, KINDS), lambda one, _: one.tenant != "over its quota")
    assert line.num_of("well within") == 1
