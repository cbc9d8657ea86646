"""Options that say which host, and the session that they and the environment open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from elastic_inference.client.host_session import HOST_VARIABLE, HostSession

STATE_DIR_VARIABLE = "EI_STATE_DIR"
TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE = "EI_TLS_CA", "EI_TLS_CERT", "EI_TLS_KEY"

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


def default_state_dir() -> Path:
    """Where a host keeps its things: EI_STATE_DIR, /var/lib for root, the user's state folder otherwise."""
    given = os.environ.get(STATE_DIR_VARIABLE)
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/elastic-inference")
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "elastic-inference"


def open_session(
    host: str | None,
    token: str | None,
    tls_ca: str | None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    *,
    timeout_seconds: float = 30.0,
) -> HostSession:
    """Open a session with what options and environment say."""
    session = HostSession(
        host,
        token,
        tls_ca=tls_ca or os.environ.get(TLS_CA_VARIABLE),
        tls_cert=tls_cert or os.environ.get(TLS_CERT_VARIABLE),
        tls_key=tls_key or os.environ.get(TLS_KEY_VARIABLE),
        timeout_seconds=timeout_seconds,
    )
    if session.token is None and session.endpoint.is_local():
        session.token = _local_operator_token()
    return session


def _local_operator_token() -> str | None:
    try:
        return (default_state_dir() / "operator.token").read_text().strip()
    except OSError:
        return None


def names_host(host: str | None) -> bool:
    """Whether options or environment name a host."""
    return bool(host or os.environ.get(HOST_VARIABLE))
