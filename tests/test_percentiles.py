"""Nearest rank: a value that occurred, at the edges too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elastic_inference.errors import InvalidInput
from elastic_inference.percentiles import percentile


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=60), st.floats(0, 1))
def test_it_is_the_least_sample_that_enough_do_not_exceed(samples: list[float], share: float) -> None:
    value = percentile(samples, share)
    assert value in samples
    assert sum(s <= value for s in samples) >= share * len(samples) - 1e-6
    assert sum(s < value for s in samples) < max(share * len(samples), 1)


def test_of_one_to_hundred_it_is_the_number_itself() -> None:
    samples = [float(n) for n in range(100, 0, -1)]
    assert [percentile(samples, n / 100) for n in range(1, 101)] == sorted(samples)


@pytest.mark.parametrize(
    ("samples", "share", "expected"),
    [
        ([7.0], 0.0, 7.0),
        ([7.0], 1.0, 7.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0),  # the lower of the middle two
        ([4.0, 1.0, 3.0, 2.0], 0.500001, 3.0),
        ([float(n) for n in range(50)], 0.99, 49.0),  # too few to tell it from the greatest
        ([float(n) for n in range(50)], 0.98, 48.0),
    ],
)
def test_edges(samples: list[float], share: float, expected: float) -> None:
    assert percentile(samples, share) == expected


@pytest.mark.parametrize("share", [-0.01, 1.01, float("nan")])
def test_share_outside_is_refused(share: float) -> None:
    with pytest.raises(InvalidInput, match="not between 0 and 1"):
        percentile([1.0], share)


def test_of_nothing_there_is_none() -> None:
    with pytest.raises(InvalidInput, match="no sample"):
        percentile([], 0.5)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_a_percentile_at_its_edge_is_the_sample_there_and_not_the_next(count: int) -> None:
    samples = [float(n) for n in range(1, count + 1)]
    # 0.07 x 100 is 7.000000000000001 in binary.
    assert [percentile(samples, n / count) for n in range(1, count + 1)] == samples
    assert percentile(samples, 0.0) == 1.0
    assert percentile(samples, min(1.0, 1 / count + 1e-6)) == samples[min(1, count - 1)]
