"""Which engine computes a model in which precision, as a value to keep and to tell: what was tried and why it is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from elastic_inference.proof.proof import Proof

LEAST_GAIN = 1.05
"""How many times as fast as the others a candidate must be: less is within what measuring again would change."""


@dataclass(frozen=True)
class Candidate:
    """One engine in one precision.

    Attributes:
        subject: As it names itself, such as `openvino 2026.4.1 bf16`; "" where it could not be loaded.
        seconds: Of one prediction in the quickest round; None where it was not measured.
        speed_up: How many times as fast as the best one in float32; None as above.
        proof: How far its answers are from those of the reference; None where there are none, or for that itself.
        refusal: Why it was not taken; "" for the one that was.
    """

    engine: str
    precision: str
    subject: str = ""
    seconds: float | None = None
    speed_up: float | None = None
    proof: Proof | None = None
    refusal: str = ""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """Read what `asdict` made, a proof as its own JSON."""
        proof = value["proof"]
        return cls(**{**value, "proof": None if proof is None else Proof.from_json(proof)})

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return asdict(self) | {"proof": None if self.proof is None else self.proof.to_json()}


@dataclass(frozen=True)
class Choice:
    """What was chosen for one model.

    Attributes:
        engine, precision: What was taken.
        wanted_engine, wanted_precision: What was asked for, "auto" among it.
        reason: Why, in a sentence.
        candidates: All that were tried, in the order of trying.
        num_calibration, num_held_out: Samples on which int8 was calibrated, and others by which answers were judged.
        num_recorded: How many of these samples were inputs of requests that the accelerator recorded.
        shapes: Of the inputs that were measured, by alias.
        num_threads: Threads of one prediction meanwhile.
        machine: On which processor.
        others_share: What others used of it while predictions were timed, 0 to 1.
        chosen_unix_seconds: When.
    """

    engine: str
    precision: str
    wanted_engine: str
    wanted_precision: str
    reason: str
    candidates: tuple[Candidate, ...] = ()
    num_calibration: int = 0
    num_held_out: int = 0
    num_recorded: int = 0
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    num_threads: int = 0
    machine: str = ""
    others_share: float = 0.0
    chosen_unix_seconds: int = 0

    @property
    def is_as_wanted(self) -> bool:
        """Whether the precision that was named was taken; float32 stands in for one that does not agree."""
        return self.wanted_precision in ("auto", self.precision)

    @property
    def taken(self) -> Candidate | None:
        """The candidate that was taken."""
        for each in self.candidates:
            if (each.engine, each.precision) == (self.engine, self.precision):
                return each
        return None

    @property
    def proof(self) -> Proof | None:
        """That of what was taken; None where it is the reference itself."""
        return None if self.taken is None else self.taken.proof

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        fields = {name: value for name, value in vars(self).items() if name != "candidates"}
        shapes = {alias: list(shape) for alias, shape in self.shapes.items()}
        return fields | {"shapes": shapes, "candidates": [each.to_json() for each in self.candidates]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Choice:
        """Read what `to_json` wrote; raises TypeError, ValueError or KeyError for anything else."""
        candidates = tuple(Candidate.from_json(each) for each in value["candidates"])
        shapes = {alias: tuple(shape) for alias, shape in value["shapes"].items()}
        return cls(**{**value, "candidates": candidates, "shapes": shapes})
