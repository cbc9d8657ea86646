"""`ei serve`: a folder of models for clients of every kind, in one process and without a host."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from elastic_inference import settings
from elastic_inference.cli import _predictor as options
from elastic_inference.cli._server_options import (
    LogLevelOption,
    RecordOption,
    TlsCertOption,
    TlsKeyOption,
    UnsafeOption,
    check_log_level,
)
from elastic_inference.cli._support import Progress, extra
from elastic_inference.cli.registration import add_command
from elastic_inference.cli.rendering import Block, Column, Output, Table
from elastic_inference.client import checks
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.units import parse_seconds

if TYPE_CHECKING:
    from elastic_inference.accelerator.serving import Served, ServeOptions
_DEFAULT_PORTS = {"http": "8000", "grpc": "8001"}  # Triton's
_TF_SERVING = "tensorflow-serving"
_SHORTEST_POLL_SECONDS = 0.05  # less would keep a core busy with looking


@dataclass(frozen=True)
class ServedModel:
    """One version of a model, served or not.

    Attributes:
        state: READY, LOADING or UNAVAILABLE.
        reason: Why it is not served; "" where it is.
    """

    name: str
    version: str
    state: str
    reason: str
    engine: str | None
    precision: str | None
    device: str | None
    proof: str

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("MODEL", lambda m: m.name),
        Column("VERSION", lambda m: m.version or None),
        Column("STATE", lambda m: m.state),
        Column("ENGINE", lambda m: m.engine),
        Column("PRECISION", lambda m: m.precision),
        Column("DEVICE", lambda m: m.device),
        Column("PROOF OR REASON", lambda m: "; ".join(text for text in (m.reason, m.proof) if text) or None),
    )

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ServedModel:
        """Read a row of the report."""
        return cls(
            row["name"], row["version"], row["state"], row["reason"], row.get("engine"), row.get("precision"),
            row.get("device"), row.get("proof", ""),
        )  # fmt: skip


@dataclass(frozen=True)
class ServedAt:
    """One endpoint and the protocols that it speaks."""

    address: str
    doors: Sequence[str]

    COLUMNS: ClassVar[Sequence[Column]] = (
        Column("ADDRESS", lambda e: e.address),
        Column("DOORS", lambda e: ", ".join(e.doors)),
    )


@dataclass(frozen=True)
class Serving:
    """What is served, as soon as the folder was tried."""

    endpoints: Sequence[ServedAt]
    models: Sequence[ServedModel]

    def blocks(self) -> Iterable[Block]:
        """Show models, then where they are."""
        yield Table(ServedModel.COLUMNS, self.models, "the folder holds no model yet")
        yield ""
        yield Table(ServedAt.COLUMNS, self.endpoints)
        num_ready = sum(model.state == "READY" for model in self.models)
        yield f"ready: {num_ready} of {len(self.models)} served; Ctrl-C ends it"


def register(app: typer.Typer) -> None:
    """Add `ei serve`."""
    add_command(app, "serve", serve)


def serve(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Of models, or one that is a model itself.", show_default=False
        ),
    ],
    output: Output,
    http: Annotated[
        str | None,
        typer.Option(
            "--http", metavar="PORT", help="Open Inference Protocol over HTTP, metrics, EIPredictor."
        ),
    ] = None,
    grpc: Annotated[
        str | None, typer.Option("--grpc", metavar="PORT", help="Open Inference Protocol over gRPC.")
    ] = None,
    tf_serving: Annotated[
        str | None,
        typer.Option(
            "--tf-serving", metavar="GRPC,REST", help="TensorFlow Serving's two, such as 8500,8501."
        ),
    ] = None,
    sagemaker: Annotated[
        str | None,
        typer.Option(
            "--sagemaker",
            metavar="PORT",
            help="/ping and /invocations; default SAGEMAKER_BIND_TO_PORT, if set.",
        ),
    ] = None,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST", help="Address of all ports; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            help="What clients must show; default EI_TOKEN. Other users of the machine can see arguments.",
        ),
    ] = None,
    poll: Annotated[
        str | None,
        typer.Option(
            "--poll", metavar="TIME", help="Look for new, changed and removed models this often, such as 10s."
        ),
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="What computes: cpu:0, or a GPU: cuda:0, cuda:1, ...")
    ] = "cpu:0",
    threads: options.Threads = None,
    drain: Annotated[
        str, typer.Option("--drain", metavar="TIME", help="How long requests may take to finish at the end.")
    ] = "30s",
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    allow_unsafe_operations: UnsafeOption = False,
    record_requests: RecordOption = 0,
    server_name: Annotated[
        str,
        typer.Option(
            "--server-name",
            metavar="NAME",
            help="What the server's metadata say; some clients ask for triton.",
        ),
    ] = "elastic-inference",
    log_level: LogLevelOption = "info",
) -> None:
    """Serve a folder of models to clients of every kind, in one process and without a host.

    A model is a file or a folder, its versions are numbered folders in it; `model.toml` beside them says how it is
    loaded. Without a port given, HTTP is served on 8000 and gRPC on 8001.

    \b
    Examples:
      ei serve ./models
      ei serve ./models --http 8000 --grpc 8001 --tf-serving 8500,8501 --sagemaker 8080
      ei serve ./models --listen 0.0.0.0 --token "$TOKEN" --poll 10s
    """
    with extra("host"):
        from elastic_inference.accelerator import serving
        from elastic_inference.engines.base import EngineOptions
        from elastic_inference.engines.registry import engine_named
    if not re.fullmatch(r"cpu:0|cuda:\d{1,3}", device):
        raise InvalidInput(f"--device {device!r:.80} is not cpu:0, nor a GPU such as cuda:0")
    EngineOptions(engine, device, precision, threads)  # else each model would fail for the same wrong word
    if engine != "auto":
        engine_named(engine)
    check_log_level(log_level)
    if server_name == "":
        raise InvalidInput("--server-name must not be empty")
    if sagemaker is None:
        port = settings.SAGEMAKER_BIND_TO_PORT.get()
        sagemaker = None if port is None else str(port)
    endpoints = _endpoints(
        listen, {"http": http, "grpc": grpc, _TF_SERVING: tf_serving, "sagemaker": sagemaker}
    )
    token = _token(token)
    keeps = settings.store_limit_bytes() > 0
    chosen = serving.ServeOptions(
        folder=folder,
        endpoints=endpoints,
        token_sha256=None if token is None else hashlib.sha256(token.encode()).hexdigest(),
        tls_cert=_absolute(tls_cert),
        tls_key=_absolute(tls_key),
        device=device,
        engine=engine,
        precision=precision,
        num_threads=threads,
        poll_seconds=None if poll is None else _poll_seconds(poll),
        artifacts_dir=str(settings.store_dir().absolute()) if keeps else None,
        store_limit_bytes=settings.store_limit_bytes() if keeps else None,
        drain_seconds=parse_seconds(drain),
        allow_unsafe_operations=allow_unsafe_operations,
        default_model=settings.SAGEMAKER_DEFAULT_MODEL.get(),
        record_requests=record_requests,
        server_name=server_name,
        log_level=log_level,
    )
    _run(chosen, output)


def _run(chosen: ServeOptions, output: Output) -> None:
    from elastic_inference.accelerator import serving

    with Progress("loading models", "models", output.as_json) as progress:

        def on_listening(endpoints: Sequence[tuple[str, tuple[str, ...]]]) -> None:
            output.say(
                f"listening at {', '.join(address for address, _ in endpoints)}; ready when all is loaded"
            )
            exposed = [address for address, _ in endpoints if not Endpoint.parse(address).is_local()]
            if exposed and chosen.token_sha256 is None:
                output.say(
                    f"warning: without --token, whoever reaches {', '.join(exposed)} may use and change models"
                )

        def on_ready(served: Served) -> None:
            progress.close()
            output.show_at_once(_serving(served))

        serving.serve(chosen, on_listening, progress.update, on_ready)


def _serving(served: Served) -> Serving:
    return Serving(
        [ServedAt(address, doors) for address, doors in served.endpoints],
        [ServedModel.of(row) for row in sorted(served.models, key=lambda row: (row["name"], row["version"]))],
    )


def _poll_seconds(text: str) -> float:
    seconds = parse_seconds(text)
    if seconds < _SHORTEST_POLL_SECONDS:
        raise InvalidInput(f"--poll {text} is shorter than {_SHORTEST_POLL_SECONDS:g} s")
    return seconds


def _token(given: str | None) -> str | None:
    if given == "":
        raise InvalidInput("--token must not be empty")
    if given is not None:
        checks.token(given)
        return given
    tokens = settings.TOKEN.get() or ()
    if len(tokens) > 1:
        raise InvalidInput(f"environment variable {settings.TOKEN.name} holds {len(tokens)} tokens; give one")
    return tokens[0] if tokens else None


def _endpoints(listen: str, ports: Mapping[str, str | None]) -> list[tuple[str, tuple[str, ...]]]:
    """Return addresses and their doors; doors of one port share it, and 0 is a port of its own each time."""
    given = {door: text for door, text in ports.items() if text is not None} or _DEFAULT_PORTS
    found: list[tuple[int, list[str]]] = []
    for door, text in given.items():
        for port in _ports(door, text):
            shared = [doors for other, doors in found if other == port != 0]
            if not shared:
                found.append((port, [door]))
            elif door not in shared[0]:
                shared[0].append(door)
    host = f"[{listen}]" if ":" in listen else listen
    return [(str(Endpoint.parse(f"tcp:{host}:{port}")), tuple(doors)) for port, doors in found]


def _ports(door: str, text: str) -> list[int]:
    parts = text.split(",")
    num_wanted = 2 if door == _TF_SERVING else 1
    if len(parts) != num_wanted or not all(part.isdecimal() and int(part) < 65536 for part in parts):
        option, kind = ("tf-serving", "two ports, GRPC,REST") if num_wanted == 2 else (door, "a port")
        raise InvalidInput(f"--{option} {text!r} is not {kind}, 0 to 65535")
    return [int(part) for part in parts]


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())
