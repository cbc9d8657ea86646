"""`ei detect`: find objects in a video and write it with boxes, names and scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from elastic_inference.cli import _predictor as options
from elastic_inference.cli import completion
from elastic_inference.cli._hosts import CertOption, KeyOption
from elastic_inference.cli._support import Progress, extra
from elastic_inference.cli.host_access import HostAccess
from elastic_inference.cli.models import fetch_model
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Output
from elastic_inference.client.load_options import LoadOptions
from elastic_inference.zoo import read_labels

if TYPE_CHECKING:
    from elastic_inference.cli._run_text import DetectionRun


def register(app: typer.Typer) -> None:
    """Add `ei detect`."""
    add_command(app, "detect", detect)


def detect(
    said: Output,
    video: Annotated[Path, typer.Argument(help="Any video that FFmpeg reads.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write: .mp4, .mov or .mkv.", show_default=False)
    ],
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="SavedModel directory, model file, or a name of `ei models`.",
            autocompletion=completion.models,
        ),
    ] = "ssd_mobilenet_v2_coco",
    no_ei: Annotated[
        bool, typer.Option("--no-ei", help="Run the model in this process, no accelerator.")
    ] = False,
    frames: Annotated[
        int | None, typer.Option(help="Stop after this many pictures; by default, at the end.", min=1)
    ] = None,
    score: Annotated[float, typer.Option(help="Draw objects of this score or more.", min=0, max=1)] = 0.5,
    labels: Annotated[
        str | None, typer.Option(help="File of class names, lines `id<TAB>name`; by default COCO's.")
    ] = None,
    in_flight: Annotated[
        int | None,
        typer.Option(help="Pictures in flight at once; by default 2, without accelerator 1.", min=1, max=64),
    ] = None,
    keep_compiled: Annotated[
        bool,
        typer.Option(
            "--cache/--no-cache",
            help="Keep the model, and it compiled, for a quicker load next time.",
        ),
    ] = True,
    precision: options.Precision = "fp32",
    engine: options.Engine = "auto",
    threads: options.Threads = None,
    address: options.Address = None,
    host: options.Host = None,
    accelerator_type: options.AcceleratorType = None,
    accelerator_id: options.AcceleratorId = None,
    token: options.Token = None,
    tls_ca: options.TlsCa = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
) -> DetectionRun:
    """Find objects in a video and draw them.

    Writes VIDEO again with a box, name and score for each object.

    Without --address or --host it starts a private accelerator on this machine and ends it afterwards. Ctrl-C stops
    early and leaves a video that plays (exit code 130).

    \b
    Examples:
      ei detect street.mp4 -o found.mp4
      ei detect street.mp4 -o found.mp4 --model my_model/ --labels names.tsv --score 0.3
      ei detect street.mp4 -o found.mp4 --precision auto
      ei detect street.mp4 -o found.mp4 --no-ei --frames 40 --json
      ei detect street.mp4 -o found.mp4 --host http://gpu1:8500 --accelerator-type eia1.medium
      ei detect street.mp4 -o found.mp4 --host http://gpu1:8500 --accelerator-id mybox
    """
    with extra("video"):
        from elastic_inference.video.detect import DetectionJob, Listener, check_paths
        from elastic_inference.video.detect import detect as run_detection

    from elastic_inference.cli._run_text import DetectionRun

    names = None if labels is None else read_labels(labels)
    check_paths(video, output, frames)
    if accelerator_id is not None and not accelerator_id.isdigit():
        accelerator_id = HostAccess(host, token, tls_ca, tls_cert, tls_key).open().find_id(accelerator_id)
    found = fetch_model(model, said)
    with (
        Progress("sending model", "bytes", said.as_json) as upload,
        Progress("detecting", "frames", said.as_json) as progress,
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
                tls_cert=tls_cert,
                tls_key=tls_key,
            ),
            num_frames=frames,
            score=score,
            labels=names,
            in_flight=in_flight,
            load=LoadOptions(engine, precision, cache_dir=None if keep_compiled else False),
            on_upload=upload.update,
        )
        listener = Listener(
            on_loading=lambda info: said.say(f"{video}: {info.width}x{info.height}; loading {found.name}"),
            on_stage=lambda stage: said.say(f"loading {found.name}: {stage}"),
            on_choosing=said.say,
            on_progress=progress.update,
        )
        return DetectionRun(run_detection(job, listener))
