"""Proofs that are kept, so that a model is compared once: one small file each, named by what was compared."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from elastic_inference.proof.proof import Proof


class ProofStore:
    """Proofs below a directory.

    Args:
        directory: Created when the first proof is kept; None keeps none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def find(self, key: str) -> Proof | None:
        """Return the proof that was kept under this key; None where there is none that can be read."""
        if self._directory is None:
            return None
        try:
            return Proof.loads(self._path(self._directory, key).read_text())
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def keep(self, key: str, proof: Proof) -> None:
        """Keep a proof. A full or read-only disk only costs the next comparison its time."""
        if self._directory is None:
            return
        path = self._path(self._directory, key)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(proof.to_json()))
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()

    @staticmethod
    def _path(directory: Path, key: str) -> Path:
        return directory / f"{hashlib.sha256(key.encode()).hexdigest()}.proof.json"
