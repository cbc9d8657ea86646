"""What a door that translates REST answers: a status, a body and its type; HTTP itself is `doors.http`'s."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from elastic_inference.errors import HttpError


@dataclass(frozen=True)
class Call:
    """A request as such a door sees it.

    Attributes:
        segments: Of the path, percent-decoded.
        headers: Lower-case names.
        read: Gives the whole body; raises HttpError where it is too large.
    """

    method: str
    segments: tuple[str, ...]
    headers: Mapping[bytes, bytes]
    read: Callable[[], bytes]

    def header(self, name: bytes) -> str:
        """Return a header's value as text, "" where it is absent."""
        return self.headers.get(name, b"").decode("latin-1")

    def needs(self, method: str) -> None:
        """Raise HttpError 405 for any method but the one that the path takes."""
        if self.method != method:
            raise HttpError(f"this path takes {method}, not {self.method}", status=405, allow=method)


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200

    @classmethod
    def of_json(cls, value: Any, status: int = 200) -> Reply:
        """Return a JSON body; NaN and infinities stand in it as NaN and Infinity."""
        return cls(json.dumps(value).encode(), status=status)


class Door(NamedTuple):
    """What answers paths of another interface.

    Attributes:
        needs_token: Whether who asks shows a token; not where the answer says only whether something works.
    """

    answer: Callable[[Call], Reply]
    needs_token: bool = True
