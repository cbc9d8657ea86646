"""`ei model load`, `unload` and `alias`: models of an accelerator that clients ask for by name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from elastic_inference.cli import _predictor as options
from elastic_inference.cli._support import Progress
from elastic_inference.cli.registration import Command
from elastic_inference.cli.rendering import Block, Output, Pairs, Sentence
from elastic_inference.client import placement
from elastic_inference.client.accelerator import Accelerator, FromEnvironment
from elastic_inference.deadline import Deadline
from elastic_inference.errors import InvalidInput

CONTROL_SECONDS = 60.0
Attached = Annotated[
    str | None,
    typer.Option(
        "--accelerator",
        help="Id or name of one that is attached; the token is its own, which `ei attach` printed.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="What clients ask for.", show_default=False)]


@dataclass(frozen=True)
class NamedModel:
    """A model that was loaded under a name.

    Attributes:
        inputs, outputs: Each tensor's name, dtype and shape as text.
    """

    name: str
    engine: str
    precision: str
    device: str
    inputs: Sequence[str]
    outputs: Sequence[str]

    def blocks(self) -> Sequence[Block]:
        """Show what clients need to know."""
        return [
            Pairs([
                ("name", self.name),
                ("engine", f"{self.engine}, {self.precision}, on {self.device}"),
                ("inputs", "; ".join(self.inputs)),
                ("outputs", "; ".join(self.outputs)),
            ])
        ]  # fmt: skip


def load(
    name: Name,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="A SavedModel folder, or a file of any format.", show_default=False
        ),
    ],
    output: Output,
    signature: Annotated[
        str | None, typer.Option(help="Which of a SavedModel's signatures; by default serving_default.")
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
    address: options.Address = None,
    host: options.Host = None,
    accelerator_id: Attached = None,
    token: options.Token = None,
    tls_ca: options.TlsCa = None,
) -> NamedModel:
    """Load a model into an accelerator under a name, by which any client can ask for it.

    It stays until it is unloaded, or the accelerator is detached.

    \b
    Examples:
      ei model load resnet ./resnet50.onnx --accelerator mybox
      ei model load resnet ./resnet50.onnx --address tcp:127.0.0.1:40001
    """
    from elastic_inference.client.load_options import LoadOptions
    from elastic_inference.client.predictor import EIPredictor

    place = _place(address, host, accelerator_id, token, tls_ca)
    chosen = LoadOptions(engine=engine, precision=precision, name=name)
    with (
        Progress("sending model", "bytes", output.as_json) as progress,
        EIPredictor(
            path,
            signature,
            accelerator=place,
            load=chosen,
            progress=progress.update,
            on_stage=lambda stage: output.say(f"loading {name}: {stage}"),
            use_shared_memory=False,
        ) as predictor,
    ):
        report = predictor.report
        return NamedModel(
            name,
            report.engine,
            report.precision,
            report.device,
            _described(predictor.feed_tensors),
            _described(predictor.fetch_tensors),
        )


def unload(
    name: Name,
    address: options.Address = None,
    host: options.Host = None,
    accelerator_id: Attached = None,
    token: options.Token = None,
    tls_ca: options.TlsCa = None,
) -> Sentence:
    """Take a model, or an alias, away from an accelerator.

    \b
    Examples:
      ei model unload resnet --accelerator mybox
    """
    _post(_place(address, host, accelerator_id, token, tls_ca), name, "unload", {})
    return Sentence(f"unloaded {name}", {"name": name, "unloaded": True})


def alias(
    new: Annotated[str, typer.Argument(metavar="NEW", help="The further name.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.", show_default=False)],
    address: options.Address = None,
    host: options.Host = None,
    accelerator_id: Attached = None,
    token: options.Token = None,
    tls_ca: options.TlsCa = None,
) -> Sentence:
    """Let clients ask for a model by another name too; an alias that there is stands for this model from now on.

    \b
    Examples:
      ei model alias classifier resnet-2026 --accelerator mybox
    """
    _post(_place(address, host, accelerator_id, token, tls_ca), new, "alias", {"of": name})
    return Sentence(f"{new} is {name} now", {"alias": new, "name": name})


def _place(
    address: str | None, host: str | None, accelerator_id: str | None, token: str | None, tls_ca: str | None
) -> Accelerator:
    place = options.accelerator_of(
        use_ei=True,
        num_threads=None,
        address=address,
        host=host,
        accelerator_id=accelerator_id,
        token=token,
        tls_ca=tls_ca,
    )
    if isinstance(place, FromEnvironment) and not accelerator_id:
        raise InvalidInput("which accelerator? give --accelerator ID or --address ADDRESS")
    return place


def _post(place: Accelerator, name: str, what: str, body: dict[str, Any]) -> None:
    found = placement.find(place)
    try:
        with found.pool.connection(Deadline(CONTROL_SECONDS)) as connection:
            path = f"/v2/repository/models/{name}/{what}"
            connection.call("POST", path, json.dumps(body).encode())
    finally:
        found.close()


def _described(tensors: Mapping[str, Any]) -> list[str]:
    def sizes(shape: Any) -> str:
        return "" if shape.ndims is None else str([-1 if size is None else size for size in shape.as_list()])

    return [f"{alias}: {tensor.dtype.name}{sizes(tensor.shape)}" for alias, tensor in tensors.items()]


COMMANDS: Mapping[str, Command] = {"load": load, "unload": unload, "alias": alias}
