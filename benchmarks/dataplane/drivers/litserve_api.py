"""The no-op model as LitServe wants it; apart, because its worker processes import it by name."""

# LitServe reads the annotations as objects: no `from __future__ import annotations` here.
from typing import Annotated, Any

import numpy as np
from fastapi import Body, Response
from litserve import LitAPI

from benchmarks.dataplane.payloads import REPLY

RawBody = Annotated[bytes, Body(media_type="application/octet-stream")]


class Noop(LitAPI):  # type: ignore[misc]
    """Views the body as an array and answers four bytes."""

    def setup(self, device: str) -> None:
        """Nothing to load."""

    def decode_request(self, request: RawBody) -> Any:
        """A view, no copy."""
        return np.frombuffer(request, np.uint8)

    def predict(self, x: Any) -> bytes:  # noqa: ARG002
        """The no-op."""
        return REPLY

    def encode_response(self, output: bytes) -> Response:
        """Bytes as they are."""
        return Response(output, media_type="application/octet-stream")
