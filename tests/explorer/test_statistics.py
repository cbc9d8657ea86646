"""Stop rules: counts known from MLPerf, error rates on simulated requests, warm-up."""

from __future__ import annotations

import math
import random

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.statistics import (
    Interval,
    MeanRule,
    TailRule,
    TailVerdict,
    mean_interval,
    pooled_intervals,
    warm_up_length,
)


@pytest.mark.parametrize(("share", "requests"), [(0.90, 64), (0.95, 130), (0.99, 662)])
def test_requests_that_prove_a_tail_with_one_late_are_those_of_mlperf(share: float, requests: int) -> None:
    rule = TailRule(percentile=share, confidence=0.99)
    assert rule.required_requests(1) == requests
    assert rule.verdict(requests, 1) is TailVerdict.MEETS
    assert rule.verdict(requests - 1, 1) is TailVerdict.OPEN
    assert rule.verdict(requests, 2) is TailVerdict.OPEN


def test_nothing_is_in_time_before_one_late_would_be_allowed() -> None:
    assert TailRule(percentile=0.9).verdict(63, 0) is TailVerdict.OPEN
    assert TailRule(percentile=0.9).verdict(64, 0) is TailVerdict.MEETS


def test_hopeless_tail_stops_after_a_few_requests() -> None:
    rule = TailRule(percentile=0.95)
    assert rule.verdict(4, 4) is TailVerdict.MISSES
    assert rule.verdict(1, 1) is TailVerdict.OPEN


def test_tail_that_the_allowed_requests_cannot_prove_is_missed() -> None:
    rule = TailRule(percentile=0.95, max_requests=130)
    assert rule.verdict(60, 2) is TailVerdict.MISSES
    assert rule.verdict(60, 1) is TailVerdict.OPEN


def test_tail_just_too_late_is_rarely_called_in_time() -> None:
    rule = TailRule(percentile=0.95, confidence=0.99)
    seeds = random.Random(5)
    wrong = 0
    for _ in range(400):
        late = sum(seeds.random() < 0.07 for _ in range(rule.required_requests(3)))
        wrong += rule.verdict(rule.required_requests(3), late) is TailVerdict.MEETS
    assert wrong <= 4  # 1% at a late share of exactly 5%; far less at 7%


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, math.nan])
def test_impossible_percentile_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match="percentile"):
        TailRule(percentile=share)


def test_interval_of_known_samples() -> None:
    interval = mean_interval([10.0, 12.0, 14.0])
    assert interval.mean == 12.0
    assert interval.high - interval.mean == pytest.approx(4.3027 * 2 / math.sqrt(3), rel=1e-4)


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    seeds = random.Random(11)
    covered = 0
    for _ in range(1000):
        interval = mean_interval([seeds.gauss(5.0, 1.0) for _ in range(4)])
        covered += interval.low <= 5.0 <= interval.high
    assert 930 <= covered <= 970


def test_one_run_has_no_interval_and_none_has_no_mean() -> None:
    assert mean_interval([1.0]).width_share == math.inf
    with pytest.raises(InvalidInput, match="no sample"):
        mean_interval([])


def test_mean_needs_three_runs_even_if_two_agree() -> None:
    rule = MeanRule()
    assert not rule.is_done([1.0, 1.0])
    assert rule.is_done([1.0, 1.0, 1.0])
    assert not rule.is_met([1.0, 1.1, 1.2])
    assert MeanRule(max_runs=3).is_done([1.0, 1.1, 1.2])


@pytest.mark.parametrize(
    ("samples", "length"),
    [
        ([9.0, 5.0, 1.3, 1.0, 1.0, 1.01, 0.99, 1.0, 1.0, 1.02], 3),
        ([1.0, 1.01, 0.99, 1.0, 1.0, 1.0, 1.01, 1.0], 0),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 1.0], 0),  # a late outlier is not warm-up
        ([0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0),  # nor is a fast start
        ([5.0, 4.0, 3.0, 2.0], 0),  # too few to say
        ([9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0], 5),
    ],
)
def test_warm_up(samples: list[float], length: int) -> None:
    assert warm_up_length(samples) == length


@pytest.mark.parametrize(
    ("first", "second", "do_overlap"),
    [
        ((1, 2), (2, 3), True),
        ((2, 3), (1, 2), True),
        ((1, 2), (2.1, 3), False),
        ((2.1, 3), (1, 2), False),
        ((1, 9), (3, 4), True),
    ],
)
def test_intervals_overlap_where_a_value_lies_in_both(
    first: tuple[float, float], second: tuple[float, float], do_overlap: bool
) -> None:
    one, other = (Interval(0.0, low, high, 2) for low, high in (first, second))
    assert one.overlaps(other) is do_overlap


def test_groups_lend_each_other_their_scatter() -> None:
    # 1 and 3 scatter by a share of sqrt(0.5) of their mean; one degree of freedom makes that 12.706 deviations.
    pair, single, empty = pooled_intervals([[1.0, 3.0], [10.0], []])
    assert pair.high - pair.mean == pytest.approx(12.706 * 2 * math.sqrt(0.5) / math.sqrt(2), rel=1e-4)
    assert single.mean - single.low == pytest.approx(12.706 * 10 * math.sqrt(0.5), rel=1e-4)
    assert math.isnan(empty.mean)
    assert [group.count for group in (pair, single, empty)] == [2, 1, 0]
    (more, _) = pooled_intervals([[1.0, 3.0], [1.0, 3.0]])
    assert more.high - more.mean == pytest.approx(4.3027 * 2 * math.sqrt(0.5) / math.sqrt(2), rel=1e-4)
    assert pooled_intervals([[1.0], [2.0]])[0].high == math.inf
