"""Proofs in the artifact store, so that a model is compared once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.proof.proof import Proof

log = logging.getLogger(__name__)


class ProofStore:
    """Proofs by what was compared.

    Args:
        artifacts: Where they lie.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    def find(self, key: Mapping[str, Any]) -> Proof | None:
        """Return the proof that was kept under this key; None where there is none that can be read."""
        found = self._artifacts.get(Kind.PROOF, key)
        try:
            return None if found is None else Proof.from_json(found.about)
        except (ValueError, TypeError, KeyError):  # of another version
            return None

    def keep(self, key: Mapping[str, Any], proof: Proof) -> None:
        """Keep a proof. A full or read-only disk only costs the next comparison its time."""
        why_not = self._artifacts.put(Kind.PROOF, key, proof.to_json())
        if why_not:
            log.warning("a proof is not kept", extra={"why": why_not})
