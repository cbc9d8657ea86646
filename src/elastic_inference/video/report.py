"""What a run of detection came to, and two runs beside each other, as values that JSON can hold. Pure.

Costs are put in by the caller, who knows the prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from elastic_inference.percentiles import percentile
from elastic_inference.proof.agreement import Criterion, Kind, Pair, judge
from elastic_inference.proof.proof import Proof, Verdict
from elastic_inference.video.detections import Agreement, Detections


@dataclass(frozen=True)
class RunReport:
    """One run over one video.

    Attributes:
        use_ei: Whether an accelerator process ran the model.
        model_load_seconds: From nothing to a predictor that has made its warm-up prediction.
        load_parts_seconds: What of that the predictor knows apart: upload, load, warm-up.
        num_frames: Pictures predicted and written.
        average_inference_seconds, total_inference_seconds: Of calls to the predictor, without waiting behind other
            pictures in flight; also `p50_` and `p99_` (nearest rank).
        wall_seconds: Of the whole pipeline, first read to finished file.
        client_cpu_seconds_per_frame: CPU of the client's process alone: without accelerator the engine's is in it.
        engine, engine_version, device, precision, limits, transport: What was in force, as the predictor reports.
        is_same_machine_cpu: Whether the engine ran on the CPU of the client's own machine.
        is_interrupted: Whether the user stopped the run.
        proof: What comparing the engine with the reference came to by the end; "" where nothing was to be compared.
        notes: What a reader of these figures must know.
    """

    use_ei: bool
    video: str
    width: int
    height: int
    model: str
    model_load_seconds: float
    load_parts_seconds: Mapping[str, float]
    num_frames: int
    average_inference_seconds: float
    total_inference_seconds: float
    p50_inference_seconds: float
    p99_inference_seconds: float
    in_flight: int
    wall_seconds: float
    client_cpu_seconds_per_frame: float
    engine: str
    engine_version: str
    device: str
    precision: str
    num_threads: int | None
    transport: str
    accelerator_id: str | None
    accelerator_type: str | None
    limits: Mapping[str, str]
    is_same_machine_cpu: bool
    output: str
    is_interrupted: bool
    notes: tuple[str, ...]
    proof: str = ""

    @property
    def frames_per_second(self) -> float:
        """Pictures a second through the whole pipeline; 0 where none was done."""
        return self.num_frames / self.wall_seconds if self.wall_seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """All fields, and frames a second."""
        return asdict(self) | {
            "load_parts_seconds": dict(self.load_parts_seconds),
            "limits": dict(self.limits),
            "notes": list(self.notes),
            "frames_per_second": self.frames_per_second,
        }


def prove(without: RunReport, with_accelerator: RunReport, seen: Sequence[Sequence[Detections]]) -> Proof:
    """Judge what the run with the accelerator found by what the run without it found, picture by picture.

    Args:
        seen: The detections of every picture, first those of the run without accelerator.
    """
    pairs = [
        Pair(f"picture {index}", ours.to_outputs(), theirs.to_outputs())
        for index, (theirs, ours) in enumerate(zip(*seen, strict=True))
    ]
    subject, reference = (
        f"{run.engine} {run.engine_version} {run.precision}" for run in (with_accelerator, without)
    )
    criterion = Criterion.of(Kind.DETECTIONS)
    proof = Proof(subject, Verdict.NOT_COMPARED, reference, len(pairs), len(pairs))
    return proof.judged(criterion, judge(criterion, pairs))


@dataclass(frozen=True)
class InferenceTimes:
    """The figures over a run's calls, in seconds; all 0 where there was none."""

    average_seconds: float
    total_seconds: float
    p50_seconds: float
    p99_seconds: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> InferenceTimes:
        if not seconds:
            return cls(0.0, 0.0, 0.0, 0.0)
        total = math.fsum(seconds)
        return cls(total / len(seconds), total, percentile(seconds, 0.50), percentile(seconds, 0.99))


@dataclass(frozen=True)
class PriceBasis:
    """Which prices a cost comes from.

    Attributes:
        client, accelerator: Where each price is from: the row's name, date, region and source, or who gave it.
    """

    client: str
    client_usd_per_hour: Decimal
    accelerator: str
    accelerator_usd_per_hour: Decimal


@dataclass(frozen=True)
class Costs:
    """USD for 100,000 inferences one after another: price x average inference time."""

    basis: PriceBasis
    without_usd: Decimal
    with_usd: Decimal

    def to_json(self) -> dict[str, Any]:
        """Money as text, exact."""
        return {
            "basis": {name: str(value) for name, value in asdict(self.basis).items()},
            "usd_per_100k_without": str(self.without_usd),
            "usd_per_100k_with": str(self.with_usd),
        }


@dataclass(frozen=True)
class Comparison:
    """The same video without and with an accelerator.

    Attributes:
        agreement: Object by object, within what two engines differ by in float32.
        proof: The same pictures, judged as any lower precision is.
    """

    without: RunReport
    with_accelerator: RunReport
    costs: Costs
    agreement: Agreement
    proof: Proof

    @property
    def speed_up(self) -> float:
        """How many times shorter the average inference is with the accelerator."""
        return self.without.average_inference_seconds / self.with_accelerator.average_inference_seconds

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences without which the figures would mislead."""
        remarks = []
        if self.with_accelerator.is_same_machine_cpu:
            remarks.append(
                "The accelerator of this run is a process on this machine's own CPU, so the difference between the "
                f"runs comes from the engine ({self.without.engine}, {self.with_accelerator.engine}) and from working "
                "side by side, not from other hardware. The costs show how the sum is done; they are not those of "
                "the machines whose prices they use."
            )
        if self.without.in_flight != self.with_accelerator.in_flight:
            remarks.append(
                f"With the accelerator {self.with_accelerator.in_flight} pictures were on their way at once, without "
                f"it {self.without.in_flight}; inference times leave out the wait of one picture behind another."
            )
        return tuple(remarks)

    def to_json(self) -> dict[str, Any]:
        """Everything that the text report shows."""
        return {
            "without_accelerator": self.without.to_json(),
            "with_accelerator": self.with_accelerator.to_json(),
            "speed_up": self.speed_up,
            "costs": self.costs.to_json(),
            "agreement": asdict(self.agreement) | {"is_same": self.agreement.is_same},
            "proof": self.proof.to_json(),
            "remarks": list(self.remarks),
        }
