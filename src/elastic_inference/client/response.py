"""The heads of an answer: status and headers, parsed once for all answers that have them, and that of its tensors."""

from __future__ import annotations

from functools import lru_cache

from elastic_inference.errors import InvalidInput, ProtocolError
from elastic_inference.protocol.heads import ResponseHead as TensorsHead
from elastic_inference.protocol.heads import parse_response_head

MAX_HEADER_DIGITS = 18


class ResponseHead:
    """Status and headers of a response whose body is still to be read.

    Attributes:
        headers: By lower-case name; shared between equal responses.
        timing: The line of `Server-Timing`, which is in no two responses the same, b"" where it is not the first.
        content_length: Of the body, in bytes.
    """

    __slots__ = ("content_length", "headers", "status", "timing")

    def __init__(self, status: int, headers: dict[bytes, bytes], timing: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.timing = timing
        length = self.number(b"content-length")
        if length is None:
            raise ProtocolError("the response has no Content-Length")
        self.content_length = length

    def number(self, name: bytes) -> int | None:
        """Return a header's value as a number, None where it is absent; ProtocolError where it is no number."""
        text = self.headers.get(name)
        if text is None:
            return None
        if not text.isdigit() or len(text) > MAX_HEADER_DIGITS:
            raise ProtocolError(f"the response's {name.decode()} is {text[:40]!r}, not a number of bytes")
        return int(text)


@lru_cache(maxsize=32)
def kept_headers(lines: bytes) -> dict[bytes, bytes]:
    """Return headers by lower-case name; equal lines give the same dictionary."""
    headers = {}
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return headers


def parse_tensors(text: bytes) -> TensorsHead:
    """Read the JSON before an answer's tensors; ProtocolError where it is malformed or names shared memory."""
    try:
        parsed = parse_response_head(text)
    except InvalidInput as error:
        raise ProtocolError(f"the accelerator's response: {error}") from error
    if any(part.range is not None for part in parsed.outputs):
        raise ProtocolError("the accelerator's response names shared memory that was not asked for")
    return parsed
