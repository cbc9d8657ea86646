"""What a comparison has shown, as a value to keep and to tell: of engines, or of another way to compute a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from elastic_inference.errors import InvalidInput


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
        num_recorded: Those of them that came from calls; the others were made up.
        relative, absolute: The tolerance.
        worst: The largest difference of any number; None where nothing was compared, or shapes or NaN differ.
        reason: Where it differs and how, or why nothing was compared; "" otherwise.
        compared_unix_seconds: When.
        machine: On which processor.
    """

    subject: str
    verdict: Verdict
    reference: str = ""
    num_samples: int = 0
    num_recorded: int = 0
    relative: float = 0.0
    absolute: float = 0.0
    worst: float | None = None
    reason: str = ""
    compared_unix_seconds: int = 0
    machine: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return asdict(self) | {"verdict": self.verdict.value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Proof:
        """Read what `to_json` wrote; raises TypeError, ValueError or KeyError for anything else."""
        return cls(**{**value, "verdict": Verdict(value["verdict"])})

    @classmethod
    def loads(cls, text: str) -> Proof:
        """Read one line of JSON; raises as `from_json`."""
        return cls.from_json(json.loads(text))

    def summary(self) -> str:
        """One line for people."""
        if self.verdict is Verdict.NOT_COMPARED:
            return f"not compared: {self.reason}"
        text = f"{self.verdict.value}: {self.subject} against {self.reference} on {self.num_samples} samples"
        if self.worst is not None:
            text += f", largest difference {self.worst:.2g}"
        return f"{text} ({self.reason})" if self.reason else text
