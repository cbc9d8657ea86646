"""Asking a host for an accelerator and giving it back: its control API, with the standard library alone.

The host is not on the data path: what comes back from `attach` says where the accelerator itself serves.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from elastic_inference.errors import (
    InvalidInput,
    ProtocolError,
)
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.protocol.tls import client_context

HOST_VARIABLE = "EI_HOST"
ACCELERATOR_VARIABLE = "EI_ACCELERATOR"
TOKEN_VARIABLE = "EI_TOKEN"
DEFAULT_HOST_URL = "http://127.0.0.1:8500"
DEFAULT_LEASE_SECONDS = 60.0
_ATTACH_TIMEOUT_SECONDS = 120.0
_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Attachment:
    """An accelerator as the host describes it.

    Attributes:
        endpoints: Where it serves, such as `unix:/run/x.sock` and `tcp:HOST:PORT`; a Unix socket helps only on
            the host's own machine.
        token: Its bearer token; "" where the host does not tell it again.
        lease_seconds: Heartbeats must come more often than this; None: it needs none.
        limits: What is in force and by what means.
    """

    accelerator_id: str
    endpoints: tuple[str, ...]
    token: str
    accelerator_type: str
    name: str = ""
    lease_seconds: float | None = None
    limits: Mapping[str, str] = field(default_factory=dict)

    def usable_endpoints(self) -> tuple[str, ...]:
        """Those that can work from this machine, best first: Unix sockets only where they are there."""
        parsed = [(text, Endpoint.parse(text)) for text in self.endpoints]
        local = [text for text, e in parsed if e.kind == "unix" and os.access(e.path, os.W_OK)]
        return (*local, *(text for text, e in parsed if e.kind != "unix"))


class HostSession:
    """A host's control API.

    Args:
        host_url: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`; None: EI_HOST, else the local default.
        token: The operator's token, or an accelerator's for what is its own; None: EI_TOKEN.
        tls_ca: PEM file of the authority that signed the host's certificate; None: those of the system.
        tls_cert, tls_key: PEM files that this client shows where the host asks for a certificate.
    """

    def __init__(
        self,
        host_url: str | None = None,
        token: str | None = None,
        *,
        tls_ca: str | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        self.url = host_url or os.environ.get(HOST_VARIABLE) or DEFAULT_HOST_URL
        self.endpoint = Endpoint.parse(self.url)
        self.token = token if token is not None else os.environ.get(TOKEN_VARIABLE)
        self._timeout_seconds = timeout_seconds
        self._tls = client_context(tls_ca, tls_cert, tls_key) if self.endpoint.kind == "tls" else None

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Make one request of the control API; errors as `request_json` raises them."""
        return request_json(
            self.endpoint,
            method,
            path,
            body,
            token=token or self.token,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            tls=self._tls,
        )

    def attach(
        self,
        accelerator_type: str,
        *,
        name: str | None = None,
        lease_seconds: float | None = DEFAULT_LEASE_SECONDS,
        timeout_seconds: float = _ATTACH_TIMEOUT_SECONDS,
    ) -> Attachment:
        """Take an accelerator; it serves when this returns.

        Args:
            name: For lists and reports; None: the host makes one up.
            lease_seconds: The host takes it back when no heartbeat came for so long; None: never.

        Raises:
            CapacityExceeded: The host cannot give that; with what is left.
            InvalidInput: There is no such type, or a value is beyond its limit.
            PermissionDenied: The token is not the operator's.
        """
        body: dict[str, Any] = {"type": accelerator_type, "lease_seconds": lease_seconds}
        if name is not None:
            body["name"] = name
        return self._read(self.request("POST", "/v1/accelerators", body, timeout_seconds=timeout_seconds))

    def describe(self, accelerator_id: str, *, token: str | None = None) -> Attachment:
        """Where an accelerator serves and what it is; raises AcceleratorNotFound where none is visible."""
        return self._read(self.request("GET", accelerator_path(accelerator_id), token=token))

    def heartbeat(self, accelerator_id: str, *, token: str | None = None) -> float | None:
        """Say that the client is still there; gives the seconds that the lease lasts from now, None: no lease."""
        value = self.request("POST", f"{accelerator_path(accelerator_id)}/heartbeat", {}, token=token)
        left = value.get("lease_seconds")
        return None if left is None else float(left)

    def detach(
        self, accelerator_id: str, *, token: str | None = None, drain_seconds: float | None = None
    ) -> None:
        """Give an accelerator back; what is in flight may finish within `drain_seconds` (None: the host's own)."""
        query = "" if drain_seconds is None else f"?drain_seconds={drain_seconds}"
        timeout_seconds = self._timeout_seconds + (drain_seconds or 30.0)
        self.request(
            "DELETE", accelerator_path(accelerator_id) + query, token=token, timeout_seconds=timeout_seconds
        )

    def _read(self, value: Any) -> Attachment:
        try:
            return Attachment(
                accelerator_id=value["accelerator_id"],
                endpoints=tuple(self._reachable(text) for text in value["endpoints"]),
                token=value.get("token") or "",
                accelerator_type=value["type"],
                name=value["name"],
                lease_seconds=value["lease_seconds"],
                limits=value["limits"],
            )
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"{self.url} is not a host of this package: {error!r}") from error

    def _reachable(self, text: str) -> str:
        """A host that listens on all addresses cannot know by which one we see it; we do."""
        endpoint = Endpoint.parse(text)
        if endpoint.host in _WILDCARDS and self.endpoint.host:
            return str(Endpoint(endpoint.kind, host=self.endpoint.host, port=endpoint.port))
        return text


def accelerator_path(accelerator_id: str) -> str:
    """The path of an accelerator in the control API."""
    if not accelerator_id or len(accelerator_id) > 100:
        raise InvalidInput(f"accelerator id {accelerator_id!r:.120} is not eia- and 32 hexadecimal digits")
    return f"/v1/accelerators/{quote(accelerator_id, safe='')}"
