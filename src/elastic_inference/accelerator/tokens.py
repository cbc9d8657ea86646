"""Who may: the tokens in force, compared by their hashes."""

from __future__ import annotations

import hashlib
import hmac
import threading

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

    def check(self, authorization: str | None, needs_admin: bool) -> None:
        """Raise PermissionDenied unless an `authorization` header carries a token that allows it."""
        scheme, _, token = (authorization or "").strip().partition(" ")  # gRPC keeps spaces that HTTP drops
        given = hashlib.sha256(token.strip().encode()).hexdigest() if scheme.lower() == "bearer" else ""
        is_admin = self._admin_token_sha256 is not None and hmac.compare_digest(
            given, self._admin_token_sha256
        )
        if is_admin:
            return
        if needs_admin:
            raise PermissionDenied("only the host may do this")
        if self.token_sha256 is not None and not hmac.compare_digest(given, self.token_sha256):
            raise PermissionDenied(
                "the bearer token is missing or wrong for this accelerator, which has one of its own: that of "
                "`ei attach` or `ei serve --token`, not a host's"
            )
