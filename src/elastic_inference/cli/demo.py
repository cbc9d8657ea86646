"""`ei demo`: the same detection without and with an accelerator, side by side."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_inference.cli import _predictor as options
from elastic_inference.cli._support import Progress, extra
from elastic_inference.cli.models import fetch_model
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Output, to_json_text
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.errors import InvalidInput

if TYPE_CHECKING:
    from elastic_inference.cli._run_text import DemoRuns
    from elastic_inference.video.best_picture import Recorder
    from elastic_inference.video.report import RunReport
    from elastic_inference.zoo import ResolvedModel

# The reference detector gives small cars, as in the clip, 0.3 to 0.7; below 0.3 it gives nothing.
_SCORE = 0.3
_MODEL = "ssd_mobilenet_v2_coco"


def register(app: typer.Typer) -> None:
    """Add `ei demo`."""
    add_command(app, "demo", demo, short_help="Detect without and with an accelerator; compare.")


def demo(
    said: Output,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write to.")] = Path(
        "demo-output"
    ),
    video: Annotated[
        Path | None, typer.Option(help="Your own video instead of the shipped one.", show_default=False)
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Stop after this many pictures; by default, at the end.", min=1)
    ] = None,
    precision: options.Precision = "fp32",
    client_usd_per_hour: Annotated[str | None, typer.Option(help="Your price for the client.")] = None,
    accelerator_usd_per_hour: Annotated[
        str | None, typer.Option(help="Your price for the accelerator.")
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Your own prices; they replace the shipped ones by name."),
    ] = None,
) -> DemoRuns:
    """Detect cars on a highway twice, without and with an accelerator, and compare.

    Writes annotated.mp4, annotated.png and report.json. Prices are those of m5.large and eia1.medium in 2019, the
    year of the article that this follows, unless you give others.

    \b
    Examples:
      ei demo
      ei demo --frames 10 --output /tmp/demo
      ei demo --precision auto
      ei demo --client-usd-per-hour 0.096 --accelerator-usd-per-hour 0.12
    """
    with extra("video"):
        from elastic_inference.video.best_picture import Recorder
    from elastic_inference.cli._prices import costs, price_basis
    from elastic_inference.cli._run_text import DemoRuns
    from elastic_inference.video.detections import compare
    from elastic_inference.video.report import Comparison, prove

    basis = price_basis(client_usd_per_hour, accelerator_usd_per_hour, prices)
    _make_directory(output)
    model = fetch_model(_MODEL, said)
    with resources.as_file(resources.files("elastic_inference") / "data" / "highway_720p.mp4") as shipped:
        clip = video or shipped
        runs: list[tuple[RunReport, Recorder]] = []
        for use_ei in (False, True):
            recorder = Recorder(_SCORE)
            runs.append((_run(clip, model, output, use_ei, frames, precision, recorder, said), recorder))
            if runs[-1][0].is_interrupted:
                raise KeyboardInterrupt(f"stopped by the user; written so far: {output / 'annotated.mp4'}")
    (without, seen_without), (with_ei, seen_with) = runs
    comparison = Comparison(
        without,
        with_ei,
        costs(basis, without, with_ei),
        compare(seen_without.detections, seen_with.detections),
        prove(without, with_ei, (seen_without.detections, seen_with.detections)),
    )
    files = [output / name for name in ("annotated.mp4", "annotated.png", "report.json")]
    seen_with.write_png(output / "annotated.png")
    (output / "report.json").write_text(to_json_text(comparison) + "\n")
    return DemoRuns(comparison, files)


def _run(
    clip: Path,
    model: ResolvedModel,
    output: Path,
    use_ei: bool,
    frames: int | None,
    precision: str,
    recorder: Recorder,
    said: Output,
) -> RunReport:
    from elastic_inference.video.detect import DetectionJob, Listener, detect

    title = "with accelerator" if use_ei else "without accelerator"
    with (
        Progress("sending model", "bytes", said.as_json) as upload,
        Progress(title, "frames", said.as_json) as progress,
    ):
        job = DetectionJob(
            video=clip,
            model=model,
            output=output / "annotated.mp4",
            accelerator=options.accelerator_of(use_ei=use_ei, num_threads=None),
            num_frames=frames,
            score=_SCORE,
            # Only the accelerator computes in less than float32: the run without it is what it is compared with.
            load=LoadOptions(precision=precision if use_ei else "fp32"),
            on_upload=upload.update,
        )
        said.say(f"{title}: loading {model.name}, then {clip.name}")
        return detect(
            job,
            Listener(
                on_stage=lambda stage: said.say(f"{title}: {stage}"),
                on_choosing=said.say,
                on_progress=progress.update,
                on_picture=recorder.see,
            ),
        )


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"output directory {path} cannot be made: {error.strerror}") from error
