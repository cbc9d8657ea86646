"""What a trial finds: models that mix rows, round otherwise, answer by their values, gain nothing or lack memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from elastic_inference.accelerator.batching import trial
from elastic_inference.accelerator.batching.eligibility import refusal
from elastic_inference.accelerator.batching.trial import Limits, Outcome, attempt
from elastic_inference.engines.base import Arrays
from elastic_inference.errors import DeadlineExceeded, InvalidArgumentError, MemoryQuotaExceeded
from elastic_inference.models.signature import Signature
from elastic_inference.proof.proof import Verdict
from elastic_inference.tensors import TensorSpec

Compute = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
LIMITS = Limits(max_rows=32)


def signature(
    x: tuple[int | None, ...] | None = (None, 3), y: tuple[int | None, ...] | None = (None, 3)
) -> Signature:
    return Signature({"x": TensorSpec("x:0", "float32", x)}, {"y": TensorSpec("y:0", "float32", y)})


def row(seed: int, *shape: int) -> Arrays:
    return {"x": np.random.default_rng(seed).random((1, *(shape or (3,))), np.float32)}


SAMPLES = [row(1), row(2)]


class Model:
    """Computes y of x, in seconds that the test names; `sizes` are the rows that it ran."""

    def __init__(self, compute: Compute, seconds: Callable[[int], float] = lambda _: 1e-3) -> None:
        self._compute = compute
        self._seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, inputs: Arrays) -> tuple[Arrays, float]:
        size = len(inputs["x"])
        self.sizes.append(size)
        return {"y": self._compute(inputs["x"])}, self._seconds(size)


def double(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return 2 * x


def test_a_batch_that_costs_as_one_row_may_grow_to_the_limit() -> None:
    outcome = attempt(SAMPLES, signature(), Model(double), LIMITS)
    assert outcome.seconds_of == dict.fromkeys((1, 2, 4, 8, 16, 32), 1e-3)
    assert outcome.reason == ""
    assert outcome.proof is not None
    assert (outcome.proof.verdict, outcome.proof.worst, outcome.proof.num_samples) == (Verdict.AGREES, 0.0, 4)
    assert set(attempt(SAMPLES, signature(), Model(double), Limits(max_rows=7)).seconds_of) == {1, 2, 4}


def test_each_size_may_run_as_soon_as_it_is_found() -> None:
    found: list[dict[int, float]] = []
    model = Model(double)
    attempt(
        SAMPLES,
        signature(),
        model,
        Limits(max_rows=8),
        lambda so_far: found.append({**so_far, 0: max(model.sizes)}),
    )
    assert [set(so_far) for so_far in found] == [{0, 1, 2}, {0, 1, 2, 4}, {0, 1, 2, 4, 8}]
    assert [so_far[0] for so_far in found] == [2, 4, 8]


@pytest.mark.parametrize(
    ("compute", "text"),
    [
        (lambda x: x - x.mean(axis=0) / 2, "another than alone"),
        (lambda x: x[::-1] if len(x) > 1 else x, "another than alone"),
        (lambda x: np.cumsum(x, axis=0), "another than alone"),
        (lambda x: x[:1] if len(x) > 1 else x, r"2 rows has shape \[1, 3\]"),
        (lambda x: x[0], r"one row has shape \[3\]"),
        (lambda x: np.concatenate([x, x]), r"one row has shape \[2, 3\]"),
    ],
)
def test_a_model_whose_first_axis_is_no_batch_is_refused_for_all_shapes(compute: Compute, text: str) -> None:
    outcome = attempt(SAMPLES, signature(), Model(compute), LIMITS)
    assert_refused(outcome, text)
    assert outcome.is_of_model
    if outcome.proof is not None:
        assert outcome.proof.verdict is Verdict.DIFFERS


def assert_refused(outcome: Outcome, text: str) -> None:
    assert outcome.seconds_of == {}
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(outcome.reason)


def test_equal_samples_are_told_apart_by_rows_of_their_own_values() -> None:
    # Rows that are all the same would hide that the model mixes them.
    outcome = attempt([row(1), row(1)], signature(), Model(lambda x: x / len(x) * x.sum(axis=0) / x), LIMITS)
    assert_refused(outcome, "another than alone")
    seen: list[npt.NDArray[Any]] = []
    attempt([row(1), row(1)], signature(), Model(lambda x: seen.append(x) or 2 * x), Limits(max_rows=2))  # type: ignore[func-returns-value]
    assert len({one.tobytes() for one in seen if len(one) == 1}) == 4
    for one in seen:
        assert np.array_equal(np.sort(one, axis=1), np.sort(np.repeat(row(1)["x"], len(one), axis=0), axis=1))


@pytest.mark.parametrize("compute", [double, np.zeros_like])
def test_samples_that_all_have_the_same_answer_prove_nothing(compute: Compute) -> None:
    constant = {"x": np.ones((1, 3), np.float32)}
    outcome = attempt(
        [constant, constant] if compute is double else SAMPLES, signature(), Model(compute), LIMITS
    )
    assert_refused(outcome, "proves nothing")
    assert not outcome.is_of_model  # others may show more


def rounded(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return x * np.float32(1 if len(x) == 1 else 1 + 2**-20)


def test_another_last_bit_is_taken_only_where_the_user_allows_it() -> None:
    assert_refused(attempt(SAMPLES, signature(), Model(rounded), LIMITS), "another than alone")
    outcome = attempt(SAMPLES, signature(), Model(rounded), Limits(32, is_close_enough=True))
    assert max(outcome.seconds_of) == 32
    assert outcome.proof is not None
    assert outcome.proof.worst is not None
    assert 0 < outcome.proof.worst < 1e-5
    far = Model(lambda x: x * np.float32(1 if len(x) == 1 else 1.001))
    assert_refused(attempt(SAMPLES, signature(), far, Limits(32, is_close_enough=True)), "another than alone")


def test_a_size_whose_kernels_round_otherwise_ends_the_growth() -> None:
    model = Model(lambda x: x * np.float32(1 if len(x) < 8 else 1 + 2**-20))
    outcome = attempt(SAMPLES, signature(), model, LIMITS)
    assert set(outcome.seconds_of) == {1, 2, 4}
    assert max(model.sizes) == 8


def test_no_larger_size_is_tried_where_none_gains() -> None:
    model = Model(double, lambda size: size * 1e-3)
    outcome = attempt(SAMPLES, signature(), model, LIMITS)
    assert_refused(outcome, "4 rows take 4 ms together and 4 ms one by one")
    assert not outcome.is_of_model  # other shapes may gain
    assert max(model.sizes) == 4


def test_compiling_for_a_new_size_does_not_count() -> None:
    seen: set[int] = set()

    def seconds(size: int) -> float:
        first = size not in seen
        seen.add(size)
        return 9.0 if first else 1e-3

    assert set(attempt(SAMPLES, signature(), Model(double, seconds), Limits(max_rows=4)).seconds_of) == {
        1,
        2,
        4,
    }


def test_no_run_is_tried_for_which_others_would_wait_long() -> None:
    model = Model(double, lambda size: 0.3 if size == 1 else 0.4 * size / 2)
    outcome = attempt(SAMPLES, signature(), model, LIMITS)
    assert set(outcome.seconds_of) == {1, 2, 4}
    assert max(model.sizes) == 4
    assert_refused(
        attempt(SAMPLES, signature(), Model(double, lambda _: 0.6), LIMITS), r"2 rows might take 1\.2 s"
    )


def test_memory_is_left_to_others() -> None:
    model = Model(double)
    assert_refused(attempt(SAMPLES, signature(), model, Limits(32, False, lambda: 100 << 20)), "of 100 MiB")
    assert max(model.sizes) == 1
    room = [1 << 30]

    def taking(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if len(x) > 1 and model.sizes.count(len(x)) == 1:
            room[0] -= 60 << 20
        return 2 * x

    model = Model(taking)
    outcome = attempt(SAMPLES, signature(), model, Limits(32, False, lambda: room[0]))
    assert set(outcome.seconds_of) == {1, 2, 4, 8, 16, 32}
    room[0] = 200 << 20
    model = Model(taking)
    assert set(attempt(SAMPLES, signature(), model, Limits(32, False, lambda: room[0])).seconds_of) == {1, 2}


@pytest.mark.parametrize(
    "error", [MemoryQuotaExceeded("full"), MemoryError("full"), InvalidArgumentError("full")]
)
def test_a_size_that_fails_ends_the_growth(error: Exception) -> None:
    def compute(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if len(x) > 4:
            raise error
        return 2 * x

    assert set(attempt(SAMPLES, signature(), Model(compute), LIMITS).seconds_of) == {1, 2, 4}


def test_values_that_the_model_refuses_are_left_out() -> None:
    def compute(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if (x < 0).any():
            raise InvalidArgumentError("negative")
        return 2 * x

    bad = {"x": np.full((1, 3), -1, np.float32)}
    assert max(attempt([bad, row(1)], signature(), Model(compute), LIMITS).seconds_of) == 32
    outcome = attempt([bad], signature(), Model(compute), LIMITS)
    assert_refused(outcome, "no sample")
    assert not outcome.is_of_model  # others may show more


def test_a_run_without_its_turn_ends_the_trial() -> None:
    def run(_: Arrays) -> tuple[Arrays, float]:
        raise DeadlineExceeded("the turn did not come")

    with pytest.raises(DeadlineExceeded):
        attempt(SAMPLES, signature(), run, LIMITS)


def test_an_open_axis_must_be_an_inputs_own() -> None:
    samples = [row(1, 5), row(2, 5)]
    follows = attempt(samples, signature((None, None), (None, None)), Model(double), LIMITS)
    assert max(follows.seconds_of) == 32
    cut = Model(lambda x: x[:, :2])
    assert_refused(attempt(samples, signature((None, None), (None, None)), cut, LIMITS), "of no input's size")
    by_value = Model(lambda x: x[:, : int(x[0, 0] * 4) + 1])
    assert_refused(
        attempt(samples, signature((None, None), (None, None)), by_value, LIMITS), "depends on the values"
    )


@pytest.mark.parametrize(
    ("made", "changes", "text"),
    [
        (signature(), (), ""),
        (signature((None, None), (None, None)), (), ""),
        (signature(), ("AssignAdd",), r"changes what the next one sees \(AssignAdd\)"),
        (signature(x=(1, 3)), (), "input 'x' has 1 rows, always"),
        (signature(y=(3,)), (), "output 'y' has 3 rows, always"),
        (signature(x=()), (), "input 'x' has no axes"),
        (signature(y=None), (), "output 'y' may have any number of axes"),
        (signature(y=(None, None)), (), "axis 1 of output 'y' is open"),
        (Signature({}, signature().outputs), (), "no inputs"),
        (
            replace(signature(), inputs={"x": TensorSpec("x:0", "string", (None,))}),
            (),
            "input 'x' holds strings",
        ),
    ],
)
def test_what_a_signature_says_of_its_first_axis(
    made: Signature, changes: tuple[str, ...], text: str
) -> None:
    assert bool(refusal(made, changes)) == bool(text)
    if text:
        with pytest.raises(AssertionError, match=text):
            raise AssertionError(refusal(made, changes))


def test_inputs_too_large_for_kept_memory_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MOST_INPUT_BYTES", 4 * 12)  # rows of 12 bytes
    assert set(attempt(SAMPLES, signature(), Model(double), LIMITS).seconds_of) == {1, 2, 4}
