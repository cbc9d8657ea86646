"""Whose token is whose, in memory: no caller waits for the database, and a flood of wrong tokens never reaches it."""

from __future__ import annotations

import threading


class TokenBook:
    """The hashes of all tokens in force on this host.

    Looking up a hash tells a caller nothing by its time that would help to guess a token of 256 bits.
    """

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}  # accelerator by hash
        self._hashes: dict[str, str] = {}  # hash by accelerator
        self._lock = threading.Lock()

    def set(self, accelerator_id: str, token_sha256: str) -> None:
        """Put a token in force; an older one of the same accelerator is refused from now on."""
        with self._lock:
            self._drop(accelerator_id)
            self._owners[token_sha256] = accelerator_id
            self._hashes[accelerator_id] = token_sha256

    def remove(self, accelerator_id: str) -> None:
        """Refuse an accelerator's token from now on; an unknown one is fine."""
        with self._lock:
            self._drop(accelerator_id)

    def knows(self, accelerator_id: str) -> bool:
        """Whether an accelerator of this id has a token."""
        return accelerator_id in self._hashes

    def find(self, token_sha256: str) -> str | None:
        """Return the accelerator whose token has this hash, or None."""
        return self._owners.get(token_sha256)

    def _drop(self, accelerator_id: str) -> None:
        old = self._hashes.pop(accelerator_id, None)
        if old is not None:
            self._owners.pop(old, None)
