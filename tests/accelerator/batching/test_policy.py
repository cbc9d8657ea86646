"""Who runs together: as many as save time, none who would be late for it, sizes that were tried; and what runs cost."""

from __future__ import annotations

import math

import pytest

from elastic_inference.accelerator.batching.policy import (
    DELAY_SHARE,
    FEWEST_RUNS,
    LONGEST_PAUSE_SECONDS,
    RECENT_SECONDS,
    Candidate,
    Costs,
    Plan,
    delay_seconds,
    plan,
)

ONE = Candidate(1)
OTHER_MODEL = Candidate(0)
FLAT = {1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}  # a run takes as long for all rows as for one
LINEAR = {1: 1.0, 2: 2.0, 4: 4.0, 8: 8.0}


def test_all_that_fit_run_together_where_rows_cost_nothing() -> None:
    assert plan(ONE, [ONE] * 3, FLAT, 0.0) == Plan(4, (0, 1, 2))
    made = plan(ONE, [ONE] * 20, FLAT, 0.0)
    assert made == Plan(8, tuple(range(7)))


def test_rows_that_lack_are_filled_up_only_where_that_is_quicker() -> None:
    assert plan(ONE, [ONE] * 6, FLAT, 0.0) == Plan(8, tuple(range(6)))
    # 4 rows take 0.55 s each; 8 take 0.6 s each, but with one idle they take 0.69.
    seconds_of = {1: 1.0, 2: 1.2, 4: 2.2, 8: 4.8}
    assert plan(ONE, [ONE] * 6, seconds_of, 0.0) == Plan(4, (0, 1, 2))


@pytest.mark.parametrize("seconds_of", [LINEAR, {1: 1.0, 8: 7.3}, {1: 1.0}, {1: 1.0, 2: 3.0}])
def test_nobody_runs_together_where_that_saves_less_than_a_tenth(seconds_of: dict[int, float]) -> None:
    assert plan(ONE, [ONE] * 20, seconds_of, 0.0) is None


def test_a_lone_request_runs_alone() -> None:
    assert plan(ONE, [], FLAT, 0.0) is None
    assert plan(ONE, [OTHER_MODEL] * 3, FLAT, 0.0) is None


def test_requests_of_several_rows_come_along_whole() -> None:
    waiting = [Candidate(3), Candidate(4), Candidate(2)]
    assert plan(Candidate(2), waiting, FLAT, 0.0) == Plan(8, (0, 2))
    assert plan(Candidate(8), waiting, FLAT, 0.0) is None  # it fills the largest size itself
    assert plan(Candidate(9), waiting, FLAT, 0.0) is None


def test_a_large_request_is_not_credited_with_more_than_its_rows_cost() -> None:
    # Two requests of 4 rows take 2 s one after the other and 2 s together: nothing is saved.
    assert plan(Candidate(4), [Candidate(4)], {1: 1.0, 4: 1.0, 8: 2.0}, 0.0) is None


def test_other_models_and_shapes_are_left_where_they_are() -> None:
    assert plan(ONE, [OTHER_MODEL, ONE, OTHER_MODEL, ONE], FLAT, 0.0) == Plan(4, (1, 3))


@pytest.mark.parametrize(
    ("deadline", "taken"), [(10.9, None), (11.0, Plan(4, (0, 1, 2))), (math.inf, Plan(4, (0, 1, 2)))]
)
def test_the_one_with_the_turn_is_not_made_late(deadline: float, taken: Plan | None) -> None:
    assert plan(Candidate(1, deadline), [ONE] * 3, FLAT, now=10.0) == taken


def test_one_that_would_be_late_is_not_taken_and_nobody_overtakes_it() -> None:
    waiting = [ONE, Candidate(1, deadline=10.5), ONE, ONE]
    assert plan(ONE, waiting, FLAT, now=10.0) == Plan(2, (0,))


def test_another_model_is_not_made_late_by_those_behind_it() -> None:
    waiting = [ONE, Candidate(0, deadline=10.5), ONE, ONE]
    assert plan(ONE, waiting, FLAT, now=10.0) == Plan(2, (0,))


def test_a_smaller_batch_is_made_where_a_larger_one_would_be_late() -> None:
    slow = {1: 1.0, 2: 1.2, 4: 2.0, 8: 3.0}
    assert plan(Candidate(1, deadline=12.0), [ONE] * 7, slow, now=10.0) == Plan(4, (0, 1, 2))


def test_a_trial_counts_until_calls_tell_more() -> None:
    costs = Costs({1: 1.0, 4: 2.0})
    for index in range(FEWEST_RUNS):
        assert costs.seconds_of(100.0) == {1: 1.0, 4: 2.0}
        costs.note(4, 3, 5.0 + index, now=100.0)
    assert costs.seconds_of(100.0) == {1: 1.0, 4: 6.0}  # the median
    assert plan(ONE, [ONE] * 3, costs.seconds_of(100.0), 100.0) is None
    assert costs.seconds_of(100.0 + RECENT_SECONDS) == {1: 1.0, 4: 6.0}
    assert costs.seconds_of(100.1 + RECENT_SECONDS) == {1: 1.0, 4: 2.0}  # and so it is tried again


def test_one_slow_run_changes_nothing() -> None:
    costs = Costs({1: 1.0, 4: 2.0})
    for seconds in (2.0, 2.0, 2.0, 90.0):
        costs.note(4, 4, seconds, now=0.0)
    assert costs.seconds_of(0.0)[4] == 2.0


def test_sizes_that_were_not_tried_are_not_noted() -> None:
    costs = Costs({1: 1.0, 4: 2.0})
    for _ in range(FEWEST_RUNS):
        costs.note(3, 3, 1.0, now=0.0)
    assert costs.seconds_of(0.0) == {1: 1.0, 4: 2.0}
    costs.add(8, 3.0)
    assert costs.seconds_of(0.0) == {1: 1.0, 4: 2.0, 8: 3.0}
    assert costs.sizes() == [4, 8]


def test_a_size_without_memory_goes_with_all_above_it() -> None:
    costs = Costs({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0})
    costs.forbid(4)
    assert costs.sizes() == [2]
    costs.forbid(1)
    assert costs.seconds_of(0.0) == {1: 1.0}


def test_batches_pause_after_a_failure_longer_each_time() -> None:
    costs = Costs({1: 1.0, 4: 2.0})
    now, pauses = 0.0, []
    for _ in range(8):
        costs.failed(now)
        assert costs.seconds_of(now) == {1: 1.0}
        until = next(now + seconds for seconds in range(1, 200) if 4 in costs.seconds_of(now + seconds))
        pauses.append(until - now)
        now = until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    costs.note(1, 1, 1.0, now)  # one row alone says nothing of batches
    costs.failed(now)
    assert costs.seconds_of(now + LONGEST_PAUSE_SECONDS - 1) == {1: 1.0}
    now += LONGEST_PAUSE_SECONDS
    costs.note(4, 4, 2.0, now)
    costs.failed(now)
    assert 4 in costs.seconds_of(now + 1.0)


@pytest.mark.parametrize(
    ("num_rows", "num_expected", "deadline", "wanted"),
    [
        (1, 1, math.inf, 0.0),  # requests came one by one
        (1, 8, math.inf, 0.5),
        (7, 8, math.inf, 0.5),
        (8, 8, math.inf, 0.0),
        (3, 2, math.inf, 0.0),
        (8, 20, math.inf, 0.0),  # no more run together
        (1, 8, 11.25, 0.25),  # the run itself takes 1 s
        (1, 8, 10.5, 0.0),
    ],
)
def test_who_has_the_turn_waits_for_those_who_ran_the_last_time(
    num_rows: int, num_expected: int, deadline: float, wanted: float
) -> None:
    waiting = [ONE] * (num_rows - 1)
    assert delay_seconds(Candidate(1, deadline), waiting, num_expected, FLAT, 0.5, now=10.0) == wanted
    assert delay_seconds(Candidate(1, deadline), waiting, num_expected, FLAT, 0.0, now=10.0) == 0.0


def test_it_waits_for_a_tenth_of_its_own_run_unless_told_otherwise() -> None:
    assert delay_seconds(ONE, [ONE], 8, {1: 0.5, 8: 1.0}, None, now=10.0) == DELAY_SHARE * 0.5


def test_nobody_waits_while_another_model_s_requests_do() -> None:
    assert delay_seconds(ONE, [ONE, OTHER_MODEL], 8, FLAT, 0.5, now=10.0) == 0.0


def test_the_rows_of_the_last_run_are_known() -> None:
    costs = Costs({1: 1.0, 4: 2.0})
    assert costs.num_rows_last == 1
    costs.note(4, 3, 2.0, now=0.0)
    assert costs.num_rows_last == 3
