"""What one connection may and holds: the tokens in force, its kept memory, the regions that end with it."""

from __future__ import annotations

import hashlib
import hmac
import threading

from elastic_inference.accelerator.http import KeptBuffer, Request
from elastic_inference.accelerator.infer import InferHandler, Shared
from elastic_inference.errors import PermissionDenied


class Tokens:
    """Who may: the tenant's token for everything of the tenant's, the admin token for the host's own calls."""

    def __init__(self, token_sha256: str | None, admin_token_sha256: str | None) -> None:
        self.token_sha256 = token_sha256
        self._generation = 0
        self._lock = threading.Lock()
        self._admin_token_sha256 = admin_token_sha256

    def change(self, token_sha256: str, generation: int | None = None) -> None:
        """Put another token in force, unless one of a later generation is: requests may overtake each other."""
        with self._lock:
            if generation is not None:
                if generation < self._generation:
                    return
                self._generation = generation
            self.token_sha256 = token_sha256

    def check(self, request: Request, needs_admin: bool) -> None:
        """Raise PermissionDenied unless the request carries a token that allows it."""
        scheme, _, token = (request.header(b"authorization") or "").partition(" ")
        given = hashlib.sha256(token.strip().encode()).hexdigest() if scheme.lower() == "bearer" else ""
        is_admin = self._admin_token_sha256 is not None and hmac.compare_digest(
            given, self._admin_token_sha256
        )
        if is_admin:
            return
        if needs_admin:
            raise PermissionDenied("only the host may do this")
        if self.token_sha256 is not None and not hmac.compare_digest(given, self.token_sha256):
            raise PermissionDenied("the bearer token is missing or wrong for this accelerator")


class Session:
    """What one connection holds besides its socket; `close` gives back what the client bound to it."""

    def __init__(self, shared: Shared, tokens: Tokens, peer_uid: int | None = None) -> None:
        self._shared = shared
        self._tokens = tokens
        self.peer_uid = peer_uid  # whose regions the client may register
        self.buffer = KeptBuffer()
        self.infer = InferHandler(shared, self.buffer)
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
            self._tokens.check(request, needs_admin)
            self.is_allowed = True
            self._allowed = None if needs_admin else (request, in_force)

    def close(self) -> None:
        """Unregister the regions that were to live as long as the connection."""
        for name in self.bound_regions:
            self._shared.regions.unregister(name)
