"""What a comparison has shown, as a value to keep and to tell: of engines, or of another way to compute a model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any

from elastic_inference.errors import InvalidInput
from elastic_inference.proof.agreement import Criterion, Judgement, Kind
from elastic_inference.proof.objects import LEAST_IOU


class Mode(Enum):
    """When a model is compared with its reference."""

    BACKGROUND = "background"  # after loading, while nobody calls; a difference then changes the engine
    BEFORE = "before"  # nothing is answered until it is proved
    OFF = "off"  # never

    @classmethod
    def parse(cls, text: object) -> Mode:
        """Return the mode of this name; raises InvalidInput with all names."""
        try:
            return cls(text)
        except ValueError:
            names = ", ".join(repr(mode.value) for mode in cls)
            raise InvalidInput(f"proof {text!r:.40} is not one of {names}") from None


class Verdict(Enum):
    """What came of a comparison."""

    AGREES = "agrees"  # within the tolerance
    WITHIN_SPREAD = "agrees within the reference's own spread"  # which computes as far apart from itself
    DIFFERS = "differs"
    NOT_COMPARED = "not compared"  # the reason says why


@dataclass(frozen=True)
class Proof:
    """What was compared with what, and what came of it.

    Attributes:
        subject: What answers, such as `openvino 2026.4.1 fp32`.
        reference: What it was compared with; "" where nothing was.
        num_samples: Inputs on which both computed.
        num_recorded: Those of them that were real, from calls or files; the others were made up.
        kind: By what it was judged, see `agreement.Kind`.
        tolerance: Of that kind.
        worst: The largest difference, in the unit of the tolerance; None where nothing was compared, or shapes or NaN
            differ.
        figures: Further numbers of the comparison by name, such as `matched_share`.
        worst_sample: On which sample it was.
        reason: Where it differs and how, or why nothing was compared; "" otherwise.
        compared_unix_seconds: When.
        machine: On which processor.
    """

    subject: str
    verdict: Verdict
    reference: str = ""
    num_samples: int = 0
    num_recorded: int = 0
    kind: Kind = Kind.NUMBERS
    tolerance: float = 0.0
    worst: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    worst_sample: str = ""
    reason: str = ""
    compared_unix_seconds: int = 0
    machine: str = ""

    @property
    def is_passed(self) -> bool:
        """Whether what was compared may answer in place of the reference."""
        return self.verdict in (Verdict.AGREES, Verdict.WITHIN_SPREAD)

    def judged(self, criterion: Criterion, judgement: Judgement) -> Proof:
        """Return the proof with what came of comparing its samples."""
        if judgement.agrees is None:
            return replace(self, verdict=Verdict.NOT_COMPARED, reason=judgement.reason)
        return replace(
            self,
            verdict=Verdict.AGREES if judgement.agrees else Verdict.DIFFERS,
            kind=criterion.kind,
            tolerance=criterion.tolerance,
            worst=judgement.worst if math.isfinite(judgement.worst) else None,
            figures=dict(judgement.figures),
            worst_sample=judgement.worst_sample,
            reason=judgement.reason,
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return asdict(self) | {"verdict": self.verdict.value, "kind": self.kind.value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Proof:
        """Read what `to_json` wrote; raises TypeError, ValueError or KeyError for anything else."""
        return cls(**{**value, "verdict": Verdict(value["verdict"]), "kind": Kind(value["kind"])})

    @classmethod
    def loads(cls, text: str) -> Proof:
        """Read one line of JSON; raises as `from_json`."""
        return cls.from_json(json.loads(text))

    def summary(self) -> str:
        """One line for people."""
        if self.verdict is Verdict.NOT_COMPARED:
            return f"not compared: {self.reason}"
        text = f"{self.verdict.value}: {self.subject} against {self.reference} on {self.num_samples} samples"
        text += f", {self.measured()}" if self.measured() else ""
        if "speed_up" in self.figures:
            text += f", {self.figures['speed_up']:.2g} times as fast in one thread"
        if not self.reason:
            return text
        at = f" on {self.worst_sample}" if self.worst_sample else ""
        return f"{text} ({self.reason}{at})"

    def measured(self) -> str:
        """Say how far apart the answers are; "" where that is no number."""
        if self.worst is None:
            return ""
        figures = self.figures
        if self.kind is Kind.DETECTIONS:
            num = round(figures["num_objects"])
            return (
                f"{round(figures['matched_share'] * num)} of {num} objects matched at IoU {LEAST_IOU:g}, 95% of scores "
                f"within {self.worst:.2g} (limit {self.tolerance:g})"
            )
        if self.kind is Kind.CLASSES:
            same = round(figures.get("same_first_share", 1) * figures.get("num_rows", 0))
            return (
                f"same first class in {same} of {round(figures.get('num_rows', 0))}, at most {self.worst:.2g} less "
                f"probable (limit {self.tolerance:g})"
            )
        if self.kind is Kind.RELATIVE:
            return f"largest relative error {self.worst:.2g} (limit {self.tolerance:g})"
        return f"largest difference {self.worst:.2g}"
