"""`ei detect`: find objects in a video and write it with boxes, names and scores."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from elastic_inference.cli import EXIT_INTERRUPTED
from elastic_inference.cli import _predictor as options
from elastic_inference.cli._support import Progress, extra, stop_on_terminate
from elastic_inference.cli.models import fetch_model
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.settings import cache_dir
from elastic_inference.zoo import read_labels


def register(app: typer.Typer) -> None:
    """Add `ei detect`."""
    app.command("detect")(detect)


def detect(
    video: Annotated[Path, typer.Argument(help="Any video that FFmpeg reads.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write: .mp4, .mov or .mkv.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option("-m", "--model", help="SavedModel directory, model file, or a name of `ei models`.")
    ] = "ssd_mobilenet_v2_coco",
    no_ei: Annotated[
        bool, typer.Option("--no-ei", help="Run the model in this process, no accelerator.")
    ] = False,
    frames: Annotated[int | None, typer.Option(help="Only the first so many pictures.", min=1)] = None,
    score: Annotated[float, typer.Option(help="Draw objects of this score or more.", min=0, max=1)] = 0.5,
    labels: Annotated[
        str | None, typer.Option(help="File of class names, lines `id<TAB>name`; COCO's.")
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(help="Pictures at the model at once; 2, without accelerator 1.", min=1, max=64),
    ] = None,
    keep_compiled: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Keep the compiled model, for a quicker load next time."),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON; no progress.")] = False,
    precision: options.Precision = "fp32",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
    address: options.Address = None,
    host: options.Host = None,
    accelerator_type: options.AcceleratorType = None,
    accelerator_id: options.AcceleratorId = None,
    token: options.Token = None,
    tls_ca: options.TlsCa = None,
) -> None:
    """Find objects in VIDEO and write it with boxes, names and scores.

    Without --address or --host a private accelerator is started on this machine and ended afterwards. Ctrl-C stops
    early and leaves a video that plays.

    \b
    Examples:
      ei detect street.mp4 -o found.mp4
      ei detect street.mp4 -o found.mp4 --model my_model/ --labels names.tsv --score 0.3
      ei detect street.mp4 -o found.mp4 --no-ei --frames 40 --json
      ei detect street.mp4 -o found.mp4 --host http://gpu1:8500 --accelerator-type eia1.medium
    """
    with extra("video"):
        from elastic_inference.video.detect import DetectionJob, Listener, check_paths
        from elastic_inference.video.detect import detect as run_detection

    from elastic_inference.cli._run_text import run_text

    stop_on_terminate()
    names = None if labels is None else read_labels(labels)
    check_paths(video, output, frames)
    found = fetch_model(model, is_silent=as_json)
    with (
        Progress("sending model", "bytes", as_json) as upload,
        Progress("detecting", "frames", as_json) as progress,
    ):
        job = DetectionJob(
            video=video,
            model=found,
            output=output,
            accelerator=options.accelerator_of(
                use_ei=not no_ei,
                num_threads=threads,
                address=address,
                host=host,
                accelerator_type=accelerator_type,
                accelerator_id=accelerator_id,
                token=token,
                tls_ca=tls_ca,
            ),
            num_frames=frames,
            score=score,
            labels=names,
            in_flight=in_flight,
            load=LoadOptions(
                engine, precision, cache_dir=str(cache_dir() / "compiled") if keep_compiled else None
            ),
            on_upload=upload.update,
        )

        def say_loading(width: int, height: int) -> None:
            if not as_json:
                print(f"{video}: {width}x{height}; loading {found.name}", file=sys.stderr)

        listener = Listener(
            on_loading=lambda info: say_loading(info.width, info.height), on_progress=progress.update
        )
        report = run_detection(job, listener)
    print(json.dumps(report.to_json(), indent=2) if as_json else run_text(report))
    if report.is_interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
