"""Whether a running accelerator still does what it should: it answers, and no turn lasts for ever."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sight:
    """What was seen of a process when it was asked.

    Attributes:
        answers: To refuse, or to break off one connection too many, is an answer.
        turn_seconds: For how long the request whose turn it is has run; 0.0 for none.
    """

    answers: bool
    turn_seconds: float = 0.0


class Watch:
    """Decides when a process is to be ended. Pure: it is told what was seen and when.

    Args:
        hang_seconds: How long it may not answer.
        turn_limit_seconds: How long one request may run.
    """

    def __init__(self, hang_seconds: float, turn_limit_seconds: float, now: float) -> None:
        self._hang_seconds = hang_seconds
        self._turn_limit_seconds = turn_limit_seconds
        self._answered_at = now

    def complaint(self, sight: Sight, now: float) -> str | None:
        """Why the process is to be ended, a sentence; None where it is not."""
        if not sight.answers:
            if now - self._answered_at > self._hang_seconds:
                return f"did not answer for {self._hang_seconds:g} s, so the host ended it"
            return None
        self._answered_at = now
        if sight.turn_seconds > self._turn_limit_seconds:
            return (
                f"one request ran for more than {self._turn_limit_seconds:g} s, the host's --turn-limit, so the host "
                "ended it"
            )
        return None
