"""Who may: bearer tokens, of which the host keeps only hashes, and the secret from which it makes its own."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path


def make_token() -> str:
    """Return a new bearer token: 256 random bits as text."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """SHA-256 (hex). A token is random, so a slow hash would protect nothing more."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


def is_token(given: str, sha256: str | None) -> bool:
    """Whether a token has this hash, in constant time; False for no hash."""
    return sha256 is not None and hmac.compare_digest(hash_token(given), sha256)


class HostSecret:
    """A file from which the host makes what it needs to know again after a restart.

    So the admin token of each accelerator is nowhere written down.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        self._key = path.read_bytes()

    def admin_token(self, accelerator_id: str) -> str:
        """Return the token with which the host speaks to this accelerator."""
        return hmac.new(self._key, f"admin {accelerator_id}".encode(), hashlib.sha256).hexdigest()


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; all of it or nothing is there afterwards."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:  # such as a disk that is full
        partial.unlink(missing_ok=True)
        raise
