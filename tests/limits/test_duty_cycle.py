"""Holding a share without the kernel: the decision on a manual clock, and on the process's own CPU time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.duty_cycle import MAX_BETWEEN_SECONDS, CpuDutyCycle, DutyCycle


def saturate(cycle: DutyCycle, device_seconds: float, until: float, now: float = 0.0) -> float:
    """Predict without a pause on one device; the device seconds got."""
    got = 0.0
    while now < until:
        now += cycle.delay_seconds(now)
        now += device_seconds
        got += device_seconds
        cycle.used(device_seconds, now)
    return got


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("device_seconds", [0.001, 0.065, 2.5])
def test_a_tenant_that_saturates_gets_its_share_whatever_the_model_takes(
    share: float, device_seconds: float
) -> None:
    got = saturate(DutyCycle(share, now=0.0), device_seconds, until=1000.0)
    assert got / 1000.0 == pytest.approx(share, abs=0.003)


def test_a_small_prediction_after_idle_time_need_not_wait() -> None:
    cycle = DutyCycle(0.1, now=0.0, burst_seconds=0.010)
    assert cycle.delay_seconds(100.0) == 0.0
    cycle.used(0.009, 100.0)
    assert cycle.delay_seconds(100.0) == 0.0


def test_idle_time_saves_up_no_more_than_the_burst() -> None:
    cycle = DutyCycle(0.5, now=0.0, burst_seconds=0.010)
    assert cycle.delay_seconds(3600.0) == 0.0
    cycle.used(1.010, 3600.0)
    assert cycle.delay_seconds(3600.0) == pytest.approx(2.0)


def test_a_long_prediction_is_paid_in_full() -> None:
    cycle = DutyCycle(0.25, now=0.0, burst_seconds=0.0)
    cycle.used(3.0, 3.0)
    assert cycle.delay_seconds(3.0) == pytest.approx(9.0)
    assert cycle.delay_seconds(10.0) == pytest.approx(2.0)


def test_a_clock_that_seems_to_go_back_gives_nothing() -> None:
    cycle = DutyCycle(0.5, now=10.0, burst_seconds=0.0)
    cycle.used(0.5, 9.0)
    assert cycle.delay_seconds(10.0) == pytest.approx(1.0)


@given(
    share=st.floats(0.01, 1.0),
    burst=st.floats(0.0, 0.1),
    steps=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 2.0)), min_size=1, max_size=50),
)
def test_no_pattern_of_calls_gets_more_than_share_burst_and_one_prediction(
    share: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    cycle, now, used_at = DutyCycle(share, now=0.0, burst_seconds=burst), 0.0, [(0.0, 0.0)]
    for idle, device_seconds in steps:
        now += idle
        now += cycle.delay_seconds(now)
        used_at.append((now, device_seconds))
        cycle.used(device_seconds, now)
    for first in range(len(used_at)):
        window = used_at[first:]
        within = sum(seconds for _, seconds in window[:-1])
        assert within <= share * (window[-1][0] - window[0][0]) + burst + 1e-6


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match="share"):
        DutyCycle(share, now=0.0)


def test_cpu_time_of_all_threads_is_charged_and_not_the_time_that_it_took() -> None:
    cpu = [7.0]  # seven seconds went into the start
    cycle = CpuDutyCycle(0.5, num_threads=2, now=0.0, burst_seconds=0.0, cpu_seconds=lambda: cpu[0])
    assert cycle.delay_seconds(0.0) == 0.0
    cpu[0] += 2.0  # both threads busy for a second, although a neighbour made it last for 1.5
    cycle.used(1.5, now=1.5)
    assert cycle.delay_seconds(1.5) == pytest.approx(0.5)


def test_loading_a_model_does_not_make_the_predictions_after_it_rest_for_long() -> None:
    cpu = [0.0]
    cycle = CpuDutyCycle(0.1, num_threads=1, now=0.0, burst_seconds=0.0, cpu_seconds=lambda: cpu[0])
    cpu[0] += 17.0
    assert cycle.delay_seconds(0.0) == pytest.approx(MAX_BETWEEN_SECONDS / 0.1)


def test_receiving_requests_is_charged_with_the_predictions() -> None:
    cpu = [0.0]
    cycle = CpuDutyCycle(0.1, num_threads=1, now=0.0, burst_seconds=0.0, cpu_seconds=lambda: cpu[0])
    cpu[0] += 0.004  # received
    rested = cycle.delay_seconds(0.0)
    cpu[0] += 0.006  # predicted
    cycle.used(0.006, now=rested)
    assert rested + cycle.delay_seconds(rested) == pytest.approx(0.010 / 0.1)


def test_the_real_cpu_time_of_this_process_is_seen() -> None:
    cycle = CpuDutyCycle(0.01, num_threads=1, now=0.0, burst_seconds=0.0)
    cycle.delay_seconds(0.0)
    started = time.process_time()
    while time.process_time() - started < 0.02:
        pass
    cycle.used(0.0, now=0.0)
    assert cycle.delay_seconds(0.0) >= 2.0


def test_no_threads_are_refused() -> None:
    with pytest.raises(InvalidInput, match="num_threads 0"):
        CpuDutyCycle(0.5, num_threads=0, now=0.0)
