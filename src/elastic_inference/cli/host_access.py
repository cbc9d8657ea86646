"""Which host a command speaks to, with which rights; and which accelerator of it a user means."""

from __future__ import annotations

import re
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
from elastic_inference.cli.answers import Accelerator
from elastic_inference.client import accelerator
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import AcceleratorNotFound, InvalidInput

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

_FULL_ID = re.compile(r"eia-[0-9a-f]{32}")
_ID_START = "eia-"
_MAX_CANDIDATES = 10


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


def find_id(session: HostSession, wanted: str) -> str:
    """Find the accelerator that a user means by name, id or beginning of an id.

    Raises:
        AcceleratorNotFound: None that this token sees.
        InvalidInput: Several; the text lists them.
    """
    if _FULL_ID.fullmatch(wanted):
        return wanted
    attached = Accelerator.read_all(session.request("GET", "/v1/accelerators"), session)
    names = {each.accelerator_id: each.name for each in attached}
    found = [key for key, name in names.items() if name == wanted or _begins(key, wanted)]
    if not found:
        raise AcceleratorNotFound(
            f"no accelerator has the name {wanted!r:.120} or an id that begins with it; `ei list` shows the "
            f"{len(names)} attached at {session.url} that this token may see"
        )
    if len(found) > 1:
        listed = ", ".join(f"{key} ({names[key]})" for key in found[:_MAX_CANDIDATES])
        more = f" and {len(found) - _MAX_CANDIDATES} more" if len(found) > _MAX_CANDIDATES else ""
        raise InvalidInput(
            f"{wanted!r} means {len(found)} accelerators: {listed}{more}; give more digits of the id"
        )
    return found[0]


def _begins(accelerator_id: str, wanted: str) -> bool:
    # At least one digit, or every id would begin with what is given.
    return len(wanted) > len(_ID_START) and accelerator_id.startswith(wanted)
