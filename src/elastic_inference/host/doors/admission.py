"""Who may connect and how often it may ask, decided without a socket: what the control API does when it is flooded."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

_NUM_CALLERS = 4096  # whose rates are kept; an address that is forgotten begins with a full allowance


@dataclass(frozen=True)
class DoorLimits:
    """What the control API lets any caller take.

    Attributes:
        num_connections: At once, TLS handshakes included. Beyond them, the one that has waited longest without a
            request gives way to the newcomer.
        num_requests: Being answered at once; heartbeats and health are answered beyond them too.
        head_bytes: Request line and headers together. Clients of ours send some 300 bytes.
        request_seconds: For a request, from connecting or from its first byte on; and for a TLS handshake.
        idle_seconds: Without a next request on the same connection.
        send_seconds: For a client to take an answer.
        num_listeners: Streams of the page at once; they count as requests.
        known_per_second, known_burst: Requests with a token that is known here, by token.
        unknown_per_second, unknown_burst: Those without, by address.
    """

    num_connections: int = 512
    num_requests: int = 480
    num_listeners: int = 240
    head_bytes: int = 16 << 10
    request_seconds: float = 10.0
    idle_seconds: float = 5.0
    send_seconds: float = 30.0
    known_per_second: float = 100.0
    known_burst: int = 400
    unknown_per_second: float = 50.0
    unknown_burst: int = 200

    @classmethod
    def within(cls, num_descriptors: int) -> DoorLimits:
        """Return the limits at this many descriptors: a third of them, for the rest starts processes."""
        num_connections = max(32, min(cls.num_connections, num_descriptors // 3))
        return cls(
            num_connections=num_connections,
            num_requests=num_connections - num_connections // 16,
            num_listeners=num_connections // 2 - num_connections // 32,
        )


class Admission:
    """Which connections there may be.

    A flood of connections that ask nothing must not keep out one that asks, and it cannot be told apart before its
    first byte. So newcomers are let in, and who has waited longest without a request goes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: OrderedDict[Hashable, None] = OrderedDict()  # longest first
        self._answered: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._answered)

    def enter(self, key: Hashable) -> Hashable | None:
        """Let a connection in.

        Returns:
            The connection that gives way, None where there is room; `key` itself where all others are being answered.
        """
        if len(self) < self._limit:
            self._waiting[key] = None
            return None
        if not self._waiting:
            return key
        gives_way, _ = self._waiting.popitem(last=False)
        self._waiting[key] = None
        return gives_way

    def longest_waiting(self) -> Hashable | None:
        """Return the connection that would give way next."""
        return next(iter(self._waiting), None)

    def begin(self, key: Hashable) -> None:
        """Note that a request of this connection is being answered; one that has left is fine."""
        if key in self._waiting:
            del self._waiting[key]
            self._answered.add(key)

    def end(self, key: Hashable) -> None:
        """Note that it was answered: from now on the connection waits."""
        if key in self._answered:
            self._answered.remove(key)
            self._waiting[key] = None

    def leave(self, key: Hashable) -> None:
        """Note that a connection has ended; twice is fine."""
        self._waiting.pop(key, None)
        self._answered.discard(key)


class Rates:
    """How often each caller may ask: an allowance that fills up steadily.

    Args:
        per_second: How fast it fills up.
        burst: What it holds when it is full.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = (
            OrderedDict()
        )  # allowance and when it was so large

    def take(self, caller: str, now: float) -> float:
        """Take one request off a caller's allowance; 0.0, or for how many seconds it must wait before the next."""
        left, at = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        is_allowed = left >= 1.0
        self._left[caller] = (left - 1.0 if is_allowed else left, now)
        if len(self._left) > _NUM_CALLERS:
            self._left.popitem(last=False)
        return 0.0 if is_allowed else (1.0 - left) / self._per_second


def network_of(address: str) -> str:
    """For whom an address stands: itself, or the network of 64 bits of which an IPv6 caller may take any address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4 or parsed.ipv4_mapped is not None:
        return str(parsed if parsed.version == 4 else parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
