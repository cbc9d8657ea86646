"""Options of commands that make a predictor, and the values that they become."""

from __future__ import annotations

from typing import Annotated

import typer

from elastic_inference.client.accelerator import Accelerator
from elastic_inference.client.shorthand import PlaceKeywords
from elastic_inference.engines import registry

Engine = Annotated[
    str,
    typer.Option(
        help=f"{registry.names()}; auto takes what was measured as fastest, else the first that suits the model."
    ),
]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16, int8, or auto: the fastest that was proved to agree with fp32.")
]
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
Token = Annotated[str | None, typer.Option(help="Bearer token of the accelerator or host; default EI_TOKEN.")]
TlsCa = Annotated[str | None, typer.Option(help="PEM file of the authority that signed the TLS certificate.")]


def accelerator_of(
    *,
    use_ei: bool,
    num_threads: int | None,
    address: str | None = None,
    host: str | None = None,
    accelerator_type: str | None = None,
    accelerator_id: str | None = None,
    token: str | None = None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
) -> Accelerator:
    """Where the options say to compute.

    Raises:
        InvalidInput: They contradict each other.
    """
    keywords = PlaceKeywords(
        accelerator_id, address, token, host, accelerator_type, tls_ca, tls_cert, tls_key, num_threads
    )
    return keywords.accelerator(use_ei)
