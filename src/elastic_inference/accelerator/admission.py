"""Which connection goes when there are too many. Pure: it reads what connections say of themselves.

A connection costs a thread and a descriptor before anybody knows who is behind it. So whoever comes gets in, and the
one with the least claim goes: first those that have never shown a good token, the oldest first, then the one that has
been idle for longest; a client connects again by itself. One in the middle of an answer is never broken off. Each way
in has places of its own, so that a flood over TCP leaves the Unix socket alone, by which the host calls.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from elastic_inference.errors import CapacityExceeded


class Guest(Protocol):
    """What a connection says of itself; written by its own thread, without a lock, since it is on the hot path.

    Attributes:
        opened_at, idle_since: On the monotonic clock; the second is when its last answer went out.
        is_answering: Whether a request was read whose answer is not sent yet.
        is_proven: Whether any request of it was allowed.
    """

    opened_at: float
    idle_since: float
    is_answering: bool
    is_proven: bool


G = TypeVar("G", bound=Guest)


class Admission(Generic[G]):
    """The places of one way in. Not safe for several threads: the caller holds a lock.

    Args:
        max_guests: Connections at once. Of strangers, who have shown no token, half of that: more of them push each
            other out, and no client.
    """

    def __init__(self, max_guests: int) -> None:
        self._max_guests = max_guests
        self._guests: set[G] = set()

    def enter(self, guest: G) -> G | None:
        """Take a connection in; gives the one that must go for it, which the caller breaks off.

        Raises:
            CapacityExceeded: Every place is taken by a connection in the middle of an answer.
        """
        leaving = self._who_leaves()
        if leaving is not None:
            self._guests.discard(leaving)
        elif len(self._guests) >= self._max_guests:
            raise CapacityExceeded(
                f"all {self._max_guests} connections are in the middle of an answer",
                requested="1 connection",
                available="0 connections",
            )
        self._guests.add(guest)
        return leaving

    def leave(self, guest: G) -> None:
        """Give its place back; one that was sent away already is fine."""
        self._guests.discard(guest)

    def _who_leaves(self) -> G | None:
        is_full = len(self._guests) >= self._max_guests
        if not is_full and len(self._guests) < self._max_guests // 2:
            return None  # as always: nobody is counted
        idle = [guest for guest in self._guests if not guest.is_answering]
        strangers = [guest for guest in idle if not guest.is_proven]
        if strangers and (is_full or len(strangers) >= self._max_guests // 2):
            return min(strangers, key=lambda guest: guest.opened_at)
        return min(idle, key=lambda guest: guest.idle_since) if is_full and idle else None
