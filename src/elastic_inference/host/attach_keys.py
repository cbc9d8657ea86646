"""An attach that its client asks for again, as when a restart broke off the answer, is one attach.

Id and token are made of a secret that the client chose, so a successor of the host or pool makes the same ones, and
nothing is to be remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from elastic_inference.errors import AcceleratorBusy, InvalidInput
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.wanted import Wanted
from elastic_inference.host.tokens import hash_token


@dataclass(frozen=True)
class Identity:
    """What an attach gives its client.

    Attributes:
        token: Bearer token.
    """

    accelerator_id: str
    token: str

    @classmethod
    def of(cls, key: str | None) -> Identity:
        """Return what belongs to a key, always the same; None: what nobody has had before."""
        secret = (key or secrets.token_hex(32)).encode()
        number = hmac.new(secret, b"accelerator id", hashlib.sha256).hexdigest()[:32]
        token = hmac.new(secret, b"accelerator token", hashlib.sha256).digest()
        return cls(f"eia-{number}", urlsafe_b64encode(token).rstrip(b"=").decode())

    def check_same(self, found: AcceleratorRecord, wanted: Wanted) -> None:
        """Check that what is attached under this id is what is wanted, and this token opens it.

        Raises:
            InvalidInput: The key was used for something else, or the token was changed since.
            AcceleratorBusy: It is being detached.
        """
        same = (found.kind.name, found.tenant, found.token_sha256)
        if same != (wanted.type_name, wanted.tenant, hash_token(self.token)):
            raise InvalidInput(
                f"key was used before, for accelerator {found.accelerator_id}, whose type, tenant or token is another "
                "one now; choose a new key for each attach"
            )
        if found.state not in (State.READY, State.RESTARTING):
            raise AcceleratorBusy(
                f"accelerator {found.accelerator_id} of this key is {found.state.value}; try again"
            )


class KeyTurns:
    """Lets one attach of a key at a time through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """Wait for others of this key, and hold it."""
        with self._lock:
            turn, num = self._turns.get(key, (threading.Lock(), 0))
            self._turns[key] = turn, num + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                _, num = self._turns[key]
                if num == 1:
                    del self._turns[key]
                else:
                    self._turns[key] = turn, num - 1
