"""Which of the candidates that were measured is taken, and why; pure.

More exact ones come first, and among equals the order in which "auto" would try them: a later one has to be clearly
faster than all before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from elastic_inference.proof.choice import LEAST_GAIN, Candidate
from elastic_inference.proof.proof import Proof

EXACT = "fp32"
BUSY_SHARE = 0.25  # of the processor in use by others, above which times are no longer to be trusted


@dataclass
class Trial:
    """One engine in one precision while it is tried.

    Attributes:
        subject: As it names itself once it is loaded.
        proof: What comparing it with the reference came to; None for the reference.
        refusal: Why it is out; "" while it is not.
        seconds: Of one prediction in each round; the rounds of all trials are the same.
    """

    engine: str
    precision: str
    subject: str = ""
    proof: Proof | None = None
    refusal: str = ""
    seconds: list[float] = field(default_factory=list)

    def gain_over(self, other: Trial) -> float:
        """How many times as fast as another one it is, each in its quickest round: what else runs only adds to a time.

        Medians tell of a busy machine more than of a model: threads that wait for each other lose more to others.
        """
        return min(other.seconds) / min(self.seconds)

    def name(self) -> str:
        """Return precision and engine in words."""
        return f"{self.precision} on {self.engine}"


@dataclass(frozen=True)
class Decision:
    """What follows from trials.

    Attributes:
        taken: What answers calls from now on.
        exact: The best one in float32, beside which others are faster or not.
        reason: Why, in a sentence without its full stop.
        candidates: All, those that were not taken with the reason.
    """

    taken: Trial
    exact: Trial
    reason: str
    candidates: tuple[Candidate, ...]


def decide(
    trials: Sequence[Trial], wanted_engine: str, wanted_precision: str, others_share: float = 0.0
) -> Decision:
    """Decide between trials, given in the order of preference.

    Args:
        others_share: Of the processor, 0 to 1, what others used while the trials were timed.
        wanted_precision: "auto" takes any; one that is named is taken if it agrees, however fast it is, and float32
            otherwise.
    """
    able = [trial for trial in trials if not trial.refusal]
    exact = _fastest([trial for trial in able if trial.precision == EXACT])
    named = [trial for trial in able if trial.precision == wanted_precision]
    if wanted_precision == "auto":
        taken = _fastest([exact, *(trial for trial in able if trial.precision != EXACT)])
    else:
        taken = exact if wanted_precision == EXACT or not named else _fastest(named)
    refusals = [_why_not(trial, taken, exact) for trial in trials]
    asked = f"Engine {wanted_engine}, precision {wanted_precision}"
    reason = _reason(trials, refusals, taken, exact, asked)
    if others_share > BUSY_SHARE:
        reason += (
            f"; others used {others_share:.0%} of the processor meanwhile, so measure again when it is idle"
        )
    return Decision(
        taken,
        exact,
        reason,
        tuple(_candidate(trial, exact, why) for trial, why in zip(trials, refusals, strict=True)),
    )


def _fastest(trials: Sequence[Trial]) -> Trial:
    best, *others = trials
    for each in others:
        if each.gain_over(best) >= LEAST_GAIN:
            best = each
    return best


def _why_not(trial: Trial, taken: Trial, exact: Trial) -> str:
    if trial is taken or trial.refusal:
        return trial.refusal
    if taken is exact and trial.precision != EXACT:
        gain = trial.gain_over(exact)
        return f"{gain:.2f} times as fast as fp32, which is less than the {LEAST_GAIN:g} that would count"
    return f"{trial.gain_over(taken):.2f} times as fast as {taken.name()}"


def _reason(trials: Sequence[Trial], refusals: Sequence[str], taken: Trial, exact: Trial, asked: str) -> str:
    text = f"{asked}: {taken.name()} was taken"
    if taken.precision == EXACT:
        others = [f"{t.name()}: {why}" for t, why in zip(trials, refusals, strict=True) if t is not taken]
        return f"{text}; {'; '.join(others)}" if others else f"{text}, the only one there is"
    text += f", {taken.gain_over(exact):.2f} times as fast as {exact.name()}"
    proof = taken.proof
    return text if proof is None else f"{text}; {proof.measured()}, on {proof.num_samples} held-out samples"


def _candidate(trial: Trial, exact: Trial, refusal: str) -> Candidate:
    is_timed = bool(trial.seconds)
    return Candidate(
        engine=trial.engine,
        precision=trial.precision,
        subject=trial.subject,
        seconds=min(trial.seconds) if is_timed else None,
        speed_up=trial.gain_over(exact) if is_timed else None,
        proof=trial.proof,
        refusal=refusal,
    )
