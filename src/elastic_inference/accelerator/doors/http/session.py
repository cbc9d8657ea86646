"""What one HTTP connection may and holds: its kept memory, the regions that end with it, what it was allowed."""

from __future__ import annotations

from elastic_inference.accelerator.doors.http.infer import InferHandler
from elastic_inference.accelerator.doors.http.messages import Request
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.kept_buffer import KeptBuffer


class Session:
    """What one connection holds besides its socket; `close` gives back what the client bound to it."""

    def __init__(self, inference: Inference, peer_uid: int | None = None) -> None:
        self._regions = inference.shared.regions
        self._tokens = inference.tokens
        self.peer_uid = peer_uid  # whose regions the client may register
        self.buffer = KeptBuffer()
        self.infer = InferHandler(inference, self.buffer)
        self.bound_regions: set[str] = set()
        self.is_allowed = False  # whether a token allowed any request so far
        self._allowed: tuple[Request, str | None] | None = None

    def check_token(self, request: Request, needs_admin: bool) -> None:
        """Raise PermissionDenied unless the request carries a token that allows it.

        A connection hands on the same `request` object as long as heads are equal, so it is looked at once for each
        token in force.
        """
        in_force = self._tokens.token_sha256
        allowed = self._allowed
        if needs_admin or allowed is None or allowed[0] is not request or allowed[1] is not in_force:
            self._tokens.check(request.header(b"authorization"), needs_admin)
            self.is_allowed = True
            self._allowed = None if needs_admin else (request, in_force)

    def close(self) -> None:
        """Unregister the regions that were to live as long as the connection."""
        for name in self.bound_regions:
            self._regions.unregister(name)
