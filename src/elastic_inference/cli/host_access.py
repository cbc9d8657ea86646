"""Which host a command speaks to, with which rights; and which accelerator of it a user means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from elastic_inference.cli import completion
from elastic_inference.cli._hosts import (
    CaOption,
    CertOption,
    HostOption,
    KeyOption,
    TokenOption,
    names_host,
    open_session,
    tls_of,
)
from elastic_inference.client import accelerator
from elastic_inference.client.host_session import HostSession

# Parameter names of the options that a HostAccess is made of.
HOST_OPTIONS: dict[str, Any] = {
    "host": HostOption,
    "token": TokenOption,
    "tls_ca": CaOption,
    "tls_cert": CertOption,
    "tls_key": KeyOption,
}

AcceleratorArgument = Annotated[
    str,
    typer.Argument(
        metavar="ACCELERATOR",
        help="Its name, its id, or the beginning of its id, such as eia-3f.",
        autocompletion=completion.accelerators,
    ),
]
TypeOption = Annotated[
    str,
    typer.Option(
        "--type", metavar="TYPE", help="A type that `ei types` lists.", autocompletion=completion.types
    ),
]


@dataclass(frozen=True)
class HostAccess:
    """A host as the user named it; None leaves a value to the environment and the defaults."""

    host: str | None = None
    token: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @property
    def is_named(self) -> bool:
        """Whether options or environment name a host."""
        return names_host(self.host)

    def open(self) -> HostSession:
        """Open a session of the host's control API; nothing is sent yet.

        Raises:
            InvalidInput: The URL or a TLS file is not what it should be.
        """
        return open_session(self.host, self.token, self.tls_ca, self.tls_cert, self.tls_key)

    def value(self, url: str, token: str | None) -> accelerator.HostAccess:
        """Give what programs take, with the URL and token of an open session."""
        return accelerator.HostAccess(url, token, tls_of(self.tls_ca, self.tls_cert, self.tls_key))
