"""Runs of detection as values that can be printed: one run, or two beside each other with speed-up and cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.rendering import Block, Column, Pairs, Table
from elastic_inference.proof.proof import Verdict
from elastic_inference.units import format_seconds
from elastic_inference.video.detections import TOLERANCE
from elastic_inference.video.report import Comparison, RunReport


@dataclass(frozen=True)
class DetectionRun:
    """What `ei detect` measured and wrote."""

    report: RunReport

    @property
    def exit_code(self) -> ExitCode:
        """Interrupted where the user stopped the run, whose report is whole all the same."""
        return ExitCode.INTERRUPTED if self.report.is_interrupted else ExitCode.OK

    def blocks(self) -> Iterable[Block]:
        """Show the figures, notes and what was written."""
        title = "with accelerator" if self.report.use_ei else "without accelerator"
        yield Pairs([("run", title), *_facts(self.report)])
        yield from _notes([self.report])
        done = "stopped by the user; written so far" if self.report.is_interrupted else "written"
        yield f"{done}: {self.report.output}"

    def to_json(self) -> dict[str, Any]:
        """Give the report."""
        return self.report.to_json()


@dataclass(frozen=True)
class DemoRuns:
    """What `ei demo` measured and wrote."""

    comparison: Comparison
    files: Sequence[Path]

    @property
    def is_exact(self) -> bool:
        """Whether both runs compute in float32, so that they must find the same objects."""
        return self.comparison.with_accelerator.precision == "fp32"

    @property
    def exit_code(self) -> ExitCode:
        """Not met where the runs should agree and do not."""
        is_wrong = self.comparison.proof.verdict is Verdict.DIFFERS
        if self.is_exact:
            is_wrong |= not self.comparison.agreement.is_same
        return ExitCode.TARGET_NOT_MET if is_wrong else ExitCode.OK

    def blocks(self) -> Iterable[Block]:
        """Show both runs, and what follows from them."""
        runs = [self.comparison.without, self.comparison.with_accelerator]
        costs = self.comparison.costs
        facts = [(*left, right) for left, (_, right) in zip(*map(_facts, runs), strict=True)]
        facts.append(("USD per 100,000 inferences", f"{costs.without_usd:.4f}", f"{costs.with_usd:.4f}"))
        yield Table(_BESIDE, facts)
        yield ""
        yield f"speed-up of the average inference: {self.comparison.speed_up:.2f}"
        yield _cost_sentence(self.comparison)
        if self.is_exact:
            yield _agreement_sentence(self.comparison)
        yield f"proof: {self.comparison.proof.summary()}"
        yield from self.comparison.remarks
        yield from _notes(runs)
        yield f"written: {', '.join(str(path) for path in self.files)}"

    def to_json(self) -> dict[str, Any]:
        """Give the comparison, as `report.json` has it."""
        return self.comparison.to_json()


_BESIDE = (
    Column("", lambda fact: fact[0]),
    Column("without accelerator", lambda fact: fact[1]),
    Column("with accelerator", lambda fact: fact[2]),
)


def _cost_sentence(comparison: Comparison) -> str:
    basis = comparison.costs.basis
    return (
        f"cost: price x average inference time; client {basis.client_usd_per_hour} USD/h ({basis.client}), "
        f"accelerator {basis.accelerator_usd_per_hour} USD/h ({basis.accelerator}); these are prices of those "
        "machines, not of this one"
    )


def _agreement_sentence(comparison: Comparison) -> str:
    agreement = comparison.agreement
    found = (
        f"{agreement.num_compared} objects on {agreement.num_frames} pictures; "
        f"largest differences: score {agreement.max_score_difference:.1e}, box {agreement.max_box_difference:.1e}"
    )
    if agreement.is_same:
        return f"both runs found the same (within {TOLERANCE}): {found}"
    return (
        f"the runs DIFFER: {agreement.num_unmatched} objects have no counterpart within {TOLERANCE}; {found}"
    )


def _facts(run: RunReport) -> list[tuple[str, str]]:
    threads = "" if run.num_threads is None else f", {run.num_threads} threads"
    parts = [
        (f"  {part.replace('_', '-')}", format_seconds(seconds))
        for part, seconds in run.load_parts_seconds.items()
    ]
    return [
        ("model load time", format_seconds(run.model_load_seconds)),
        *parts,
        ("number of frames", str(run.num_frames)),
        ("average inference time", format_seconds(run.average_inference_seconds)),
        ("total inference time", format_seconds(run.total_inference_seconds)),
        (
            "p50 / p99",
            f"{format_seconds(run.p50_inference_seconds)} / {format_seconds(run.p99_inference_seconds)}",
        ),
        ("whole pipeline", f"{format_seconds(run.wall_seconds)}, {run.frames_per_second:.1f} frames/s"),
        ("client's CPU a frame", format_seconds(run.client_cpu_seconds_per_frame)),
        ("engine", f"{run.engine} {run.engine_version}"),
        ("device", f"{run.device}{threads}"),
        ("precision", run.precision),
        ("proof", run.proof or "none: the reference itself computes"),
        ("transport", run.transport),
        ("limits", "; ".join(f"{name}: {text}" for name, text in run.limits.items()) or "none"),
    ]


def _notes(runs: Sequence[RunReport]) -> list[str]:
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    return [f"note: {note}" for note in notes]
