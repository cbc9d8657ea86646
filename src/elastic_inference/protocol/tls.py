"""TLS contexts from PEM files, for whoever connects and for whoever listens. Making certificates is `host.tls`."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from elastic_inference.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True)
class Tls:
    """How a client trusts its peers and shows itself to them: PEM files, or a context that the program made.

    Attributes:
        ca: File of the authority that signed the peer's certificate; None: those of the system.
        cert, key: Files that this side shows where the peer asks for a certificate; without `key`, `cert` holds both.
        context: Used as it is, in place of files.

    Raises:
        InvalidInput: Values of wrong types, a context beside files, or a key without its certificate.
    """

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    context: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str | os.PathLike):
                raise InvalidInput(f"Tls: {name} must be a path, or None, not {value!r:.80}")
            object.__setattr__(self, name, None if value is None else os.fspath(value))
        if self.key is not None and self.cert is None:
            raise InvalidInput(f"Tls: key {self.key!r} needs cert, the certificate that it belongs to")
        if self.context is None:
            return
        if not isinstance(self.context, ssl.SSLContext):
            raise InvalidInput(f"Tls: context must be an ssl.SSLContext, not {self.context!r:.80}")
        for name in ("ca", "cert"):
            if getattr(self, name) is not None:
                raise InvalidInput(f"Tls: context and {name} contradict each other: give one of them")

    def client_context(self) -> ssl.SSLContext:
        """Return the context to connect with; InvalidInput where a file cannot be used."""
        return self.context or client_context(self.ca, self.cert, self.key)

    def to_json(self) -> dict[str, str | None]:
        """Its files as a JSON object; InvalidInput where it has a context, which is of this process alone."""
        if self.context is not None:
            raise InvalidInput("Tls with a context cannot go to another process: give files")
        return {"ca": self.ca, "cert": self.cert, "key": self.key}


def client_context(ca: str | None = None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return a context for connecting.

    Args:
        ca: PEM file of the authority that signed the server's certificate; None: those of the system.
        cert, key: PEM files that this side shows where the server asks for a certificate; None: none.

    Raises:
        InvalidInput: A file cannot be read or is not what it should be.
    """

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
        return context

    return _checked(make, ca, cert, key)


def server_context(cert: str, key: str | None, client_ca: str | None = None) -> ssl.SSLContext:
    """Return a context for listening, TLS 1.2 or later.

    Args:
        client_ca: PEM file; where given, clients must show a certificate that this authority signed.

    Raises:
        InvalidInput: A file cannot be read or is not what it should be.
    """

    def make() -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    return _checked(make, client_ca, cert, key)


def _checked(make: Callable[[], T], *files: str | None) -> T:
    try:
        return make()
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(repr(name) for name in files if name is not None)
        raise InvalidInput(f"TLS files {names} cannot be used: {error}") from error
