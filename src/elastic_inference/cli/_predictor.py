"""Options of commands that make a predictor, and the keywords of EIPredictor that they become."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from elastic_inference.cli._support import Progress
from elastic_inference.engines import registry

Engine = Annotated[str, typer.Option(help=f"{registry.names()}; auto takes the first that suits the model.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16, int8, or auto: as the engine likes.")]
Threads = Annotated[int | None, typer.Option(help="Threads of one prediction; all cores by default.")]
Address = Annotated[
    str | None,
    typer.Option(help="An accelerator that runs already: tcp:HOST:PORT, tls:HOST:PORT or unix:/PATH."),
]
Host = Annotated[str | None, typer.Option(help="URL of a host that gives an accelerator.")]
AcceleratorType = Annotated[
    str | None, typer.Option(help="Which type to attach at the host, such as eia1.medium.")
]
AcceleratorId = Annotated[str | None, typer.Option(help="Which of the accelerators attached to take.")]
Token = Annotated[
    str | None, typer.Option(envvar="EI_TOKEN", help="Bearer token of the accelerator or host.")
]
TlsCa = Annotated[str | None, typer.Option(help="PEM file of the authority that signed the TLS certificate.")]


def predictor_options(
    engine: str,
    precision: str,
    num_threads: int | None,
    upload: Progress,
    *,
    address: str | None = None,
    host: str | None = None,
    accelerator_type: str | None = None,
    accelerator_id: str | None = None,
    token: str | None = None,
    tls_ca: str | None = None,
    cache_dir: str | None = None,
) -> dict[str, Any]:
    """Keywords of EIPredictor; `upload` shows the model on its way."""
    optional = {
        "address": address,
        "host": host,
        "accelerator_type": accelerator_type,
        "accelerator_id": accelerator_id,
        "token": token,
        "tls_ca": tls_ca,
        "cache_dir": cache_dir,
    }
    options = {
        "engine": engine,
        "precision": precision,
        "num_threads": num_threads,
        "progress": upload.update,
    }
    return options | {name: value for name, value in optional.items() if value is not None}
