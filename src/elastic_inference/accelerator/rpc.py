"""What a door that translates a gRPC service of its own gives: its methods; HTTP/2 itself is `doors.grpc`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # protobuf is imported by the first client that speaks gRPC
    from elastic_inference.accelerator.message_pool import MessagePool
    from elastic_inference.accelerator.model_statistics import Timing


class Caller(Protocol):
    """What a method may know of the call.

    Attributes:
        began: When it came, on time.monotonic.
    """

    began: float

    @property
    def trace_parent(self) -> bytes:
        """W3C's `traceparent` of the caller's span, b"" where there is none."""

    def seconds_left(self) -> float | None:
        """Return what is left of the client's time; None is no limit. Raises DeadlineExceeded where it is over."""

    def is_wanted(self) -> bool:
        """Whether the client still waits for the answer."""

    def ran(self, timing: Timing) -> None:
        """Know how long the request waited and was computed."""


Answer = Callable[[memoryview, Caller], Sequence[bytes | memoryview]]
"""From the one message of a call to the parts of the one that answers it; raises our errors."""


@dataclass(frozen=True)
class RpcMethod:
    """A method of one message each way.

    Attributes:
        carries_tensors: Whether a message may be as large as a request of tensors may.
    """

    answer: Answer
    carries_tensors: bool = False


@dataclass(frozen=True)
class RpcServices:
    """The services of one door.

    Attributes:
        methods: By their paths, `/package.Service/Method`.
        pool: Their messages, for reflection.
    """

    methods: Mapping[str, RpcMethod]
    pool: MessagePool
