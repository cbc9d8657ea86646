"""What is taken of what was measured."""

from __future__ import annotations

import pytest

from elastic_inference.proof.choice import Choice
from elastic_inference.proof.trials import Decision, Trial, decide


def trial(precision: str, seconds: float, engine: str = "openvino", refusal: str = "") -> Trial:
    return Trial(engine, precision, refusal=refusal, seconds=[] if refusal else [seconds] * 5)


def taken(*trials: Trial, precision: str = "auto") -> tuple[str, str]:
    decision = decide(trials, "auto", precision)
    return decision.taken.engine, decision.taken.precision


def test_fastest_of_what_agrees() -> None:
    assert taken(trial("fp32", 3), trial("bf16", 2), trial("int8", 1)) == ("openvino", "int8")
    assert taken(trial("fp32", 3), trial("bf16", 2), trial("int8", 1, refusal="differs")) == (
        "openvino",
        "bf16",
    )


def test_less_exact_one_must_be_clearly_faster() -> None:
    assert taken(trial("fp32", 1.0), trial("bf16", 0.97), trial("int8", 0.97)) == ("openvino", "fp32")
    assert taken(trial("fp32", 1.0), trial("bf16", 0.50), trial("int8", 0.49)) == ("openvino", "bf16")


def test_why_the_others_were_not_taken() -> None:
    decision = decide(
        [trial("fp32", 1.0), trial("bf16", 0.99), trial("int8", 1, refusal="it differs")], "auto", "auto"
    )
    assert [c.refusal for c in decision.candidates] == [
        "", "1.01 times as fast as fp32, which is less than the 1.05 that would count", "it differs",
    ]  # fmt: skip
    assert decision.reason == (
        "Engine auto, precision auto: fp32 on openvino was taken; bf16 on openvino: 1.01 times as fast as fp32, which "
        "is less than the 1.05 that would count; int8 on openvino: it differs"
    )


def test_engines_in_the_same_precision_keep_their_order_unless_one_is_clearly_faster() -> None:
    assert taken(trial("fp32", 1.0), trial("fp32", 0.98, "tensorflow")) == ("openvino", "fp32")
    assert taken(trial("fp32", 1.0), trial("fp32", 0.9, "tensorflow")) == ("tensorflow", "fp32")


def test_precision_is_measured_beside_the_best_engine_in_float32() -> None:
    trials = (trial("fp32", 3), trial("fp32", 1.0, "tensorflow"), trial("bf16", 1.0))
    assert taken(*trials) == ("tensorflow", "fp32")
    assert decide(trials, "auto", "auto").candidates[0].speed_up == pytest.approx(1 / 3)


def test_named_precision_is_taken_however_fast_it_is_if_it_agrees() -> None:
    assert taken(trial("fp32", 1.0), trial("bf16", 1.5), precision="bf16") == ("openvino", "bf16")
    assert taken(trial("fp32", 1.0), trial("bf16", 1, refusal="differs"), precision="bf16") == (
        "openvino",
        "fp32",
    )
    assert taken(trial("fp32", 1.0), trial("bf16", 0.2), precision="fp32") == ("openvino", "fp32")


def test_quickest_rounds_count_since_others_only_add_to_a_time() -> None:
    exact = Trial("openvino", "fp32", seconds=[1.0, 1.0, 9.0, 9.0, 9.0])
    lower = Trial("openvino", "bf16", seconds=[9.0, 9.0, 9.0, 9.0, 0.5])
    assert lower.gain_over(exact) == 2
    assert taken(exact, lower) == ("openvino", "bf16")


def test_busy_machine_is_said() -> None:
    trials = [trial("fp32", 1.0), trial("bf16", 0.5)]
    assert "others used" not in decide(trials, "auto", "auto", 0.2).reason
    assert "others used 60% of the processor meanwhile" in decide(trials, "auto", "auto", 0.6).reason


def test_choice_is_kept_and_read_back() -> None:
    decision: Decision = decide([trial("fp32", 2.0), trial("bf16", 1.0)], "auto", "auto")
    choice = Choice(
        "openvino",
        "bf16",
        "auto",
        "auto",
        decision.reason,
        decision.candidates,
        num_calibration=3,
        num_held_out=2,
        num_recorded=1,
        shapes={"x": (1, 3)},
        num_threads=2,
        machine="cpu",
        others_share=0.25,
        chosen_unix_seconds=9,
    )
    assert Choice.from_json(choice.to_json()) == choice
    assert choice.taken is not None
    assert choice.taken.speed_up == 2
    assert choice.is_as_wanted
