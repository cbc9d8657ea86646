"""How far each precision is from TensorFlow in float32 on held-out pictures; models in int8 for those who time them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common import Row
from benchmarks.engines.subjects import Subject
from elastic_inference import EIPredictor
from elastic_inference.engines.candidate import CandidateProcess, Order, write_sample
from elastic_inference.engines.choosing import Sample
from elastic_inference.models.package import ModelPackage
from elastic_inference.proof.agreement import Criterion, Pair, judge, kind_of
from elastic_inference.proof.proof import Proof, Verdict


def quantize(
    subject: Subject, path: Path, samples: Sequence[Sample], store: Path, folder: Path, threads: int
) -> None:
    """Put the model in int8 into a store, as `ei compile` does but whatever its answers are.

    Raises:
        ElasticInferenceError: It cannot be quantized.
    """
    files = []
    for index, sample in enumerate(samples):
        files.append(str(folder / f"calibration-{index}.npz"))
        write_sample(Path(files[-1]), sample.arrays)
    order = Order(
        ModelPackage.read(path).to_json(), subject.request.to_json(), "openvino",
        {"engine": "openvino", "precision": "int8", "num_threads": threads}, str(store), tuple(files),
    )  # fmt: skip
    with contextlib.closing(CandidateProcess(order)) as process:
        process.load()


def proofs(
    predictors: Mapping[str, EIPredictor], reference: str, held_out: Sequence[Sample]
) -> dict[str, Proof]:
    """Name of each predictor but the reference -> how far its answers are from the reference's."""
    theirs = [predictors[reference](sample.arrays) for sample in held_out]
    criterion = Criterion.of(kind_of(theirs[0]))
    found = {}
    for name, predictor in predictors.items():
        if name != reference:
            pairs = [
                Pair(sample.name, predictor(sample.arrays), wanted)
                for sample, wanted in zip(held_out, theirs, strict=True)
            ]
            proof = Proof(name, Verdict.NOT_COMPARED, reference, len(pairs), len(pairs))
            found[name] = proof.judged(criterion, judge(criterion, pairs))
    return found


def row(subject: Subject, name: str, proof: Proof) -> Row:
    """What a proof says, as a row without a figure."""
    meaning = "random weights, which mean nothing: " if subject.is_random else ""
    return Row(
        f"{subject.name}: {name} against {proof.reference}",
        meaning + proof.summary(),
        "",
        None,
        detail={"proof": proof.to_json()},
    )
