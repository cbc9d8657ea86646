"""Runs of detection as text for people: one run, or two beside each other with speed-up and cost."""

from __future__ import annotations

from collections.abc import Sequence

from elastic_inference.units import format_seconds
from elastic_inference.video.detections import TOLERANCE
from elastic_inference.video.report import Comparison, RunReport

_LABEL_WIDTH = 28
_COLUMN_WIDTH = 30


def run_text(run: RunReport) -> str:
    """The figures of one run."""
    title = "with accelerator" if run.use_ei else "without accelerator"
    lines = [*_table([title], [_cells(run)]), *_notes([run])]
    done = "stopped by the user; written so far" if run.is_interrupted else "written"
    return "\n".join([*lines, f"{done}: {run.output}"])


def comparison_text(comparison: Comparison) -> str:
    """Both runs, and what follows from them."""
    runs = [comparison.without, comparison.with_accelerator]
    lines = _table(["without accelerator", "with accelerator"], [_cells(run) for run in runs])
    costs, agreement = comparison.costs, comparison.agreement
    lines += _row("USD per 100,000 inferences", [f"{costs.without_usd:.4f}", f"{costs.with_usd:.4f}"])
    lines += ["", f"speed-up of the average inference: {comparison.speed_up:.2f}"]
    lines += [
        f"cost: price x average inference time; client {costs.basis.client_usd_per_hour} USD/h "
        f"({costs.basis.client}), accelerator {costs.basis.accelerator_usd_per_hour} USD/h "
        f"({costs.basis.accelerator}); these are prices of those machines, which this machine is not"
    ]
    found = (
        f"{agreement.num_compared} objects on {agreement.num_frames} pictures; "
        f"largest differences: score {agreement.max_score_difference:.1e}, box {agreement.max_box_difference:.1e}"
    )
    if agreement.is_same:
        lines.append(f"both runs found the same (within {TOLERANCE}): {found}")
    else:
        lines.append(
            f"the runs DIFFER: {agreement.num_unmatched} objects have no counterpart within {TOLERANCE}; {found}"
        )
    return "\n".join([*lines, *comparison.remarks, *_notes(runs)])


def _cells(run: RunReport) -> list[tuple[str, str]]:
    threads = "" if run.num_threads is None else f", {run.num_threads} threads"
    rows = [
        ("model load time", format_seconds(run.model_load_seconds)),
        *(
            (f"  {part.replace('_', '-')}", format_seconds(value))
            for part, value in run.load_parts_seconds.items()
        ),
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
        ("way", run.transport),
    ]
    rows.append(("limits", "; ".join(f"{name}: {text}" for name, text in run.limits.items()) or "none"))
    return rows


def _table(titles: Sequence[str], columns: Sequence[Sequence[tuple[str, str]]]) -> list[str]:
    lines = _row("", titles)
    for rows in zip(*columns, strict=True):
        lines += _row(rows[0][0], [text for _, text in rows])
    return lines


def _row(label: str, cells: Sequence[str]) -> list[str]:
    body = "".join(cell.ljust(_COLUMN_WIDTH) for cell in cells)
    return [f"{label:<{_LABEL_WIDTH}}{body}".rstrip()]


def _notes(runs: Sequence[RunReport]) -> list[str]:
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    return [f"note: {note}" for note in notes]
