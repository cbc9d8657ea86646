"""Proofs that are kept: found again by what was compared, a miss where they are damaged or cannot be kept."""

from __future__ import annotations

from pathlib import Path

from elastic_inference.accelerator.proof_store import ProofStore
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.proof.agreement import Kind
from elastic_inference.proof.proof import Proof, Verdict

PROOF = Proof(
    "openvino 1 bf16", Verdict.DIFFERS, "tensorflow 2 fp32", 3, 1, Kind.DETECTIONS, 0.1, 0.2, {"matched_share": 0.5},
    "a.jpg", "worse", 17, "a processor",
)  # fmt: skip
KEY = {"model": "abc", "subject": "openvino 1 bf16"}


def test_proof_is_kept_and_read_back(tmp_path: Path) -> None:
    store = ProofStore(ArtifactStore.at(tmp_path / "store"))
    assert store.find(KEY) is None
    store.keep(KEY, PROOF)
    assert ProofStore(ArtifactStore.at(tmp_path / "store")).find(KEY) == PROOF
    assert store.find({**KEY, "model": "another"}) is None


def test_damaged_proof_is_a_miss(tmp_path: Path) -> None:
    store = ProofStore(ArtifactStore.at(tmp_path))
    store.keep(KEY, PROOF)
    (kept,) = (tmp_path / "entries").rglob("*.json")
    kept.write_text(kept.read_text()[:40])
    assert store.find(KEY) is None
    store.keep(KEY, PROOF)
    (kept,) = (tmp_path / "entries").rglob("*.json")
    kept.write_text(kept.read_text().replace('"differs"', '"perhaps"'))  # as a later version might say
    assert store.find(KEY) is None


def test_proof_that_cannot_be_kept_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ProofStore(ArtifactStore.at(tmp_path / "file")).keep(KEY, PROOF)
