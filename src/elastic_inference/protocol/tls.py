"""TLS contexts from PEM files, for whoever connects and for whoever listens. Making certificates is `host.tls`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TypeVar

from elastic_inference.errors import InvalidInput

T = TypeVar("T")


def client_context(ca: str | None = None, cert: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """A context for connecting.

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
    """A context for listening, TLS 1.2 or later.

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
