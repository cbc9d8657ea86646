"""Options that say which host, and the session that they and the environment open."""

from __future__ import annotations

from typing import Annotated

import typer

from elastic_inference import settings
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.tls import Tls

HostOption = Annotated[
    str | None,
    typer.Option("--host", metavar="URL", help="The host; default EI_HOST, else http://127.0.0.1:8500."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="Default EI_TOKEN, else the operator's token of a host on this machine. Other users of the machine "
        "can see arguments, but not variables.",
    ),
]
CaOption = Annotated[
    str | None,
    typer.Option(
        "--tls-ca", metavar="FILE", help="Authority that signed the host's certificate; default EI_TLS_CA."
    ),
]
CertOption = Annotated[
    str | None,
    typer.Option(
        "--tls-cert",
        metavar="FILE",
        help="Your certificate, if the host asks for one; default EI_TLS_CERT.",
    ),
]
KeyOption = Annotated[
    str | None, typer.Option("--tls-key", metavar="FILE", help="Its key; default EI_TLS_KEY.")
]


def tls_of(tls_ca: str | None, tls_cert: str | None, tls_key: str | None) -> Tls | None:
    """Make a value of the TLS options, with what the environment adds; None where no option is given.

    Where none is, the session asks the environment, if the host speaks TLS at all.
    """
    if tls_key is not None and tls_cert is None:
        raise InvalidInput("--tls-key needs --tls-cert: give the certificate that the key belongs to")
    if tls_ca is tls_cert is tls_key is None:
        return None
    return Tls(settings.TLS_CA.of(tls_ca), settings.TLS_CERT.of(tls_cert), settings.TLS_KEY.of(tls_key))


def open_session(
    host: str | None,
    token: str | None,
    tls_ca: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    *,
    timeout_seconds: float = 30.0,
) -> HostSession:
    """Open a session with what options and environment say."""
    tls = tls_of(tls_ca, tls_cert, tls_key)
    session = HostSession(host, token, tls=tls, timeout_seconds=timeout_seconds)
    if session.token is None and session.endpoint.is_local():
        session.token = _local_operator_token()
    return session


def _local_operator_token() -> str | None:
    try:
        return (settings.state_dir() / "operator.token").read_text().strip()
    except OSError:
        return None


def names_host(host: str | None) -> bool:
    """Whether options or environment name a host."""
    return bool(host or settings.HOST.get())
