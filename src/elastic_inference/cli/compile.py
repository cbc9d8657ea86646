"""`ei compile`: choose engine and precision for a model by measuring, prove the choice, keep it for the next load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elastic_inference.cli import _predictor as options
from elastic_inference.cli import completion
from elastic_inference.cli._support import Progress, extra
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.models import fetch_model
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Column, Output, Pairs, Table
from elastic_inference.errors import InvalidInput
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.input_shape import FORM, InputShape, by_alias
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.proof.agreement import Kind
from elastic_inference.proof.choice import Candidate, Choice
from elastic_inference.proof.samples import made_up
from elastic_inference.settings import store_dir, store_limit_bytes
from elastic_inference.zoo import DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES, ResolvedModel


@dataclass(frozen=True)
class CompiledModel:
    """What `ei compile` tried and took.

    Attributes:
        folder: Of the store in which loads find it.
    """

    model: str
    choice: Choice
    folder: Path

    @property
    def exit_code(self) -> ExitCode:
        """Not met where a precision was named and does not agree."""
        return ExitCode.OK if self.choice.is_as_wanted else ExitCode.TARGET_NOT_MET

    def blocks(self) -> Iterable[Block]:
        """Show what was tried, then what was taken."""
        choice = self.choice
        yield Table(_COLUMNS, choice.candidates)
        yield ""
        yield Pairs(
            [
                ("taken", f"{choice.precision} on {choice.engine}"),
                ("why", choice.reason),
                ("samples", f"{choice.num_held_out} held out, {choice.num_calibration} to calibrate on"),
                ("measured", f"{_shapes(choice.shapes)}, {choice.num_threads} threads, {choice.machine}"),
            ]
        )
        if choice.is_as_wanted:
            yield f"kept in {self.folder}: precision={choice.wanted_precision!r} takes it from now on"
        else:
            yield f"precision {choice.wanted_precision} does not agree: nothing was kept"

    def to_json(self) -> dict[str, Any]:
        """Give the choice, with the model's name."""
        kept = str(self.folder) if self.choice.is_as_wanted else None
        return {"model": self.model, "kept_in": kept, **self.choice.to_json()}


def _agreement(candidate: Candidate) -> str | None:
    if candidate.proof is None:
        return None if candidate.refusal and candidate.seconds is None else "the reference"
    return candidate.proof.measured() or candidate.proof.verdict.value


_COLUMNS = (
    Column("ENGINE", lambda c: c.engine),
    Column("PRECISION", lambda c: c.precision),
    Column("TIME ms", lambda c: None if c.seconds is None else c.seconds * 1000, ".1f"),
    Column("x FP32", lambda c: c.speed_up, ".2f"),
    Column("AGREEMENT", _agreement),
    Column("NOT TAKEN BECAUSE", lambda c: c.refusal or None),
)


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return "; ".join(f"{alias} {list(shape)}" for alias, shape in shapes.items())


def register(app: typer.Typer) -> None:
    """Add `ei compile`."""
    add_command(app, "compile", compile_model, short_help="Choose engine and precision by measuring.")


_NAMES_HELP = "For graphs without a signature; may be given several times."


def compile_model(
    said: Output,
    model: Annotated[
        str,
        typer.Argument(
            help="SavedModel directory, model file, or a name of `ei models`.",
            show_default=False,
            autocompletion=completion.models,
        ),
    ],
    precision: Annotated[
        str, typer.Option(help="auto: the fastest that agrees with fp32; or fp32, bf16, int8.")
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photos or of .npy and .npz files, or a clip: two of three calibrate, the others judge.",
            show_default=False,
        ),
    ] = None,
    engine: options.Engine = "auto",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="How far answers may be apart; by default 0.05 for classes, 0.1 for detections, 0.02 for others.",
            show_default=False,
        ),
    ] = None,
    judge_by: Annotated[
        str | None,
        typer.Option(
            help="classes, detections, relative or numbers; by default, what the outputs look like.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar=FORM,
            help="An input that the model leaves open: 1,720,1280,3 or uint8:1,720,1280,3; once for each input.",
        ),
    ] = None,
    pixels: Annotated[
        str | None,
        typer.Option(
            help="What a model of floats takes for photos: unit (0 to 1; default), signed (-1 to 1), imagenet, bytes.",
            show_default=False,
        ),
    ] = None,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="ALIAS=TENSOR", help=_NAMES_HELP)
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", metavar="ALIAS=TENSOR", help=_NAMES_HELP)
    ] = None,
    threads: options.Threads = None,
    store: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to keep it; default `store` in EI_CACHE_DIR.", show_default=False
        ),
    ] = None,
) -> CompiledModel:
    """Choose engine and precision for a model.

    Loads MODEL on each installed engine and in each precision, compares the answers on your samples with those of the
    reference in fp32, measures one prediction of each by turns on this machine, and keeps the fastest that agrees.
    A precision that is named and does not agree is refused (exit code 7).

    \b
    Examples:
      ei compile ssd_mobilenet_v2_coco --calibration photos/
      ei compile model.pb --precision int8 --calibration street.mp4 --tolerance 0.05
      ei compile classifier.onnx --calibration photos/ --pixels imagenet --json
      ei compile my_model/ --precision fp32 --shape uint8:1,720,1280,3
    """
    with extra("host"):
        from elastic_inference.engines.base import EngineOptions
        from elastic_inference.engines.choosing import Task, choose

    folder = store or store_dir()
    opened = ArtifactStore.at(folder, store_limit_bytes() or None)
    wanted = EngineOptions(engine, precision=precision, num_threads=threads, store=opened)
    kind = None if judge_by is None else Kind.parse(judge_by)
    if tolerance is not None and not 0 < tolerance < float("inf"):
        raise InvalidInput(f"tolerance {tolerance} must be above 0")
    shapes = [InputShape.parse(text) for text in shape or ()]
    if precision == "int8" and not calibration:
        raise InvalidInput("--precision int8 is calibrated on inputs of yours: give --calibration")
    samples = _samples(said, calibration, shapes, pixels)
    found = fetch_model(model, said)
    package = ModelPackage.read(found.path)
    why_not = opened.why_unusable()
    if why_not:
        raise InvalidInput(why_not)
    with closing(opened), Progress("compiling", "steps", said.as_json) as progress:
        choice = choose(
            Task(
                package=package,
                request=_request(found, package, input_, output),
                options=wanted,
                samples=samples,
                kind=kind,
                tolerance=tolerance,
                tell=said.say,
                on_progress=progress.update,
            )
        )
    return CompiledModel(found.name, choice, folder)


def _samples(said: Output, calibration: Path | None, shapes: Sequence[InputShape], pixels: str | None) -> Any:
    """Return what reads the samples once the model's signature is known; what is wrong with the files is said now."""
    from elastic_inference.engines.choosing import Sample, Samples

    if calibration is None:
        if pixels is not None:
            raise InvalidInput(
                "--pixels says how photos become inputs, and without --calibration there are none"
            )

        def of_nothing(signature: Signature) -> Samples:
            needed = {alias: signature.inputs[alias] for alias in sorted(signature.required_inputs)}
            named = _sizes(shapes, signature)
            made = tuple(Sample(f"made-up {seed}", made_up(needed, named, seed)) for seed in range(3, 0, -1))
            return Samples((), made, are_made_up=True)

        return of_nothing
    with extra("video"):
        from elastic_inference.video.photos import SampleSource, Scale
    scale = None if pixels is None else Scale.parse(pixels)
    SampleSource(calibration, {}, scale, said.say).check()

    def of_files(signature: Signature) -> Samples:
        return SampleSource(calibration, _sizes(shapes, signature), scale, said.say).read(signature)

    return of_files


def _sizes(shapes: Sequence[InputShape], signature: Signature) -> dict[str, tuple[int, ...]]:
    """Return sizes by alias of the inputs for which there are any."""
    dtypes = {alias: signature.inputs[alias].base_dtype for alias in signature.required_inputs}
    return {alias: shape.sizes for alias, shape in by_alias(shapes, dtypes).items()}


def _request(
    found: ResolvedModel, package: ModelPackage, inputs: list[str] | None, outputs: list[str] | None
) -> SignatureRequest:
    """Return which tensors are the model's; those of a detector for a graph of which nothing is known."""
    if inputs or outputs:
        return SignatureRequest(input_names=_names(inputs), output_names=_names(outputs))
    given = (found.input_names, found.output_names)
    if given[0] is None and package.format is ModelFormat.FROZEN_GRAPH:
        given = (DETECTION_INPUT_NAMES, DETECTION_OUTPUT_NAMES)
    return SignatureRequest(
        input_names=None if given[0] is None else dict(given[0]),
        output_names=None if given[1] is None else dict(given[1]),
    )


def _names(texts: list[str] | None) -> dict[str, str] | None:
    if not texts:
        return None
    named = dict(text.partition("=")[::2] for text in texts)
    if not all(alias and tensor for alias, tensor in named.items()):
        raise InvalidInput(f"{texts} are not ALIAS=TENSOR, such as inputs=image_tensor:0")
    return named
