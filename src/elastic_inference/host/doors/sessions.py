"""Browsers that showed a token: what stands in their cookie, and whose token it stands for. In memory alone."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from elastic_inference.host.tokens import hash_token

SESSION_SECONDS = 12 * 3600.0
MAX_SESSIONS = 1000  # the oldest goes
PAGE_HEADER = "X-EI-Page"
"""Sent with every request of the page that changes something: no form and no other site can send it unasked."""


class Sessions:
    """Sessions by the hash of what stands in the cookie; the token itself is not kept.

    Args:
        now: Seconds of a clock that nobody sets.
    """

    def __init__(self, cookie_name: str, now: Callable[[], float]) -> None:
        self.cookie_name = cookie_name
        self._now = now
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, token_sha256: str) -> str:
        """Begin a session of whoever holds this token; returns the cookie's value."""
        value = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens[hash_token(value)] = token_sha256, self._now() + SESSION_SECONDS
            if len(self._tokens) > MAX_SESSIONS:
                self._tokens.popitem(last=False)
        return value

    def find(self, cookies: str) -> str | None:
        """Return the hash of the token that a Cookie header stands for; None where the session is none or over."""
        value = self._value(cookies)
        with self._lock:
            token_sha256, ends_at = self._tokens.get(hash_token(value), ("", 0.0))
        return token_sha256 if token_sha256 and self._now() < ends_at else None

    def close(self, cookies: str) -> None:
        """End a session; one that is none is fine."""
        value = self._value(cookies)
        with self._lock:
            self._tokens.pop(hash_token(value), None)

    def _value(self, cookies: str) -> str:
        try:
            morsel = SimpleCookie(cookies).get(self.cookie_name)
        except CookieError:
            return ""
        return "" if morsel is None else morsel.value
