"""Asking a host for an accelerator and giving it back: its control API, with the standard library alone.

The host is not on the data path: what comes back from `attach` says where the accelerator itself serves.
"""

from __future__ import annotations

import os
import re
import secrets
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

from elastic_inference import settings
from elastic_inference.client.accelerator import DEFAULT_LEASE_SECONDS, HostAccess
from elastic_inference.client.waiting import Place, ask_through_restarts, ask_until_there_is_room
from elastic_inference.deadline import Deadline
from elastic_inference.errors import (
    AcceleratorNotFound,
    ConnectError,
    InvalidInput,
    PermissionDenied,
    ProtocolError,
)
from elastic_inference.protocol.endpoint import HAS_UNIX_SOCKETS, Endpoint
from elastic_inference.protocol.requests import IDEMPOTENCY_KEY, request_json
from elastic_inference.protocol.tls import Tls

DEFAULT_HOST_URL = "http://127.0.0.1:8500"
_ATTACH_TIMEOUT_SECONDS = 120.0
_FULL_ID = re.compile(r"eia-[0-9a-f]{32}")
_ID_START = "eia-"
_MAX_CANDIDATES = 10
_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Attachment:
    """An accelerator as the host describes it.

    Attributes:
        endpoints: Where it serves, such as `unix:/run/x.sock` and `tcp:HOST:PORT`; a Unix socket helps only on
            the host's own machine.
        token: Its bearer token; "" where the host does not tell it again.
        lease_seconds: Heartbeats must come more often than this; None: it needs none.
        placement: Of a pool: rises each time that it is placed elsewhere. None: it always stays where it is.
        limits: What is in force and by what means.
        warning: What the host wants its user to know, such as of a budget; "" where nothing.
    """

    accelerator_id: str
    endpoints: tuple[str, ...]
    token: str
    accelerator_type: str
    name: str = ""
    lease_seconds: float | None = None
    placement: int | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""

    def usable_endpoints(self) -> tuple[str, ...]:
        """Those that can work from this machine, best first: Unix sockets only where they are there."""
        parsed = [(text, Endpoint.parse(text)) for text in self.endpoints]
        local = [
            text for text, e in parsed if e.kind == "unix" and HAS_UNIX_SOCKETS and os.access(e.path, os.W_OK)
        ]
        return (*local, *(text for text, e in parsed if e.kind != "unix"))


class HostSession:
    """A host's control API.

    Args:
        host_url: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`; None: EI_HOST, else the local default.
        token: The operator's token, a tenant's, or an accelerator's for what is its own; None: EI_TOKEN.
        tls: For an `https` host; None: EI_TLS_CA and its kin, else the system's authorities.
    """

    def __init__(
        self,
        host_url: str | None = None,
        token: str | None = None,
        *,
        tls: Tls | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        self.url, self.endpoint = _where(host_url)
        self._is_default = not host_url and settings.HOST.get() is None
        self.token = token if token is not None else next(iter(settings.TOKEN.get() or ()), None)
        self._timeout_seconds = timeout_seconds
        self._tls = tls_in_force(tls, self.endpoint)

    @classmethod
    def of(cls, access: HostAccess) -> HostSession:
        """Return the session that a value describes."""
        return cls(access.url, access.token, tls=access.tls)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
        deadline: Deadline | None = None,
    ) -> Any:
        """Make one request of the control API; errors as `request_json` raises them.

        Args:
            headers: Beside the usual ones.
            timeout_seconds: For the whole request; None: what the session was made with.
            deadline: Of the call that this request is a part of, in place of that.

        Raises:
            InvalidInput: A name in the path is empty or has a slash, with which it would be another path.
        """
        _check_names(path)
        try:
            return request_json(
                self.endpoint,
                method,
                path,
                body,
                token=token or self.token,
                headers=headers,
                deadline=deadline or Deadline(timeout_seconds or self._timeout_seconds),
                tls=self._tls,
            )
        except ConnectError as error:
            if self._is_default:
                raise ConnectError(f"{error}; no host was given, nor {settings.HOST.name}") from error
            raise
        except PermissionDenied as error:
            if token or self.token:
                raise PermissionDenied(f"{error}; one was given, for the host {self.url}") from error
            raise PermissionDenied(f"{error}; none was given, nor {settings.TOKEN.name}") from error

    def attach(
        self,
        accelerator_type: str,
        *,
        name: str | None = None,
        lease_seconds: float | None = DEFAULT_LEASE_SECONDS,
        timeout_seconds: float = _ATTACH_TIMEOUT_SECONDS,
        tenant: str | None = None,
        wait_seconds: float = 0.0,
        priority: int = 0,
        doors: Collection[str] | None = None,
        tell: Callable[[Place], None] = lambda _: None,
    ) -> Attachment:
        """Take an accelerator; it serves when this returns.

        While a host or pool restarts, it is asked again; however often, that makes one accelerator.

        Args:
            name: For lists and reports; None: the host makes one up.
            lease_seconds: The host takes it back when no heartbeat came for so long; None: never.
            timeout_seconds: For each request, repeated or not; to wait for capacity is not a part of one.
            tenant: For whom, where the operator asks; None: for the token's own tenant, or the operator itself.
            wait_seconds: How long to stand in line where there is no room; 0: not at all.
            priority: In the line, 0 to 9; a tenant may have as much of it as its quota says.
            doors: Protocols that it speaks, "http" among them; None: all that its type has on the host.
            tell: Called with the first place in the line, and with each other one.

        Raises:
            CapacityExceeded: The host cannot give that; with what is left. Or there was no room in that time.
            InvalidInput: There is no such type, or a value is beyond its limit.
            TenantQuotaExceeded, BudgetReached: The tenant may not have it.
            PermissionDenied: The token is neither the operator's nor a tenant's.
        """
        body: dict[str, Any] = {"type": accelerator_type, "lease_seconds": lease_seconds}
        if name is not None:
            body["name"] = name
        if tenant is not None:
            body["tenant"] = tenant
        if doors is not None:
            body["doors"] = list(doors)
        value = self.request_attach(body, timeout_seconds, wait_seconds, priority, tell)
        return self._read(value)

    def request_attach(
        self,
        body: Mapping[str, Any],
        timeout_seconds: float,
        wait_seconds: float,
        priority: int,
        tell: Callable[[Place], None],
    ) -> Any:
        """Post an attach, and stand in line for it where that is wanted; see `attach`. Returns the host's JSON."""

        # What is asked for again by the same key is the same attach. A host from before it ignores the header.
        headers = {IDEMPOTENCY_KEY: secrets.token_hex(32)}

        def ask(sent: Mapping[str, Any]) -> Any:
            return ask_through_restarts(
                lambda deadline: self.request(
                    "POST", "/v1/accelerators", sent, headers=headers, deadline=deadline
                ),
                timeout_seconds,
                not self._is_default,
            )

        def leave(ticket: str, seconds: float) -> None:
            self.request("DELETE", f"/v1/accelerators/waiting/{ticket}", timeout_seconds=seconds)

        if not wait_seconds:
            return ask(body)
        return ask_until_there_is_room(ask, leave, {**body, "priority": priority}, wait_seconds, tell)

    def find_id(self, wanted: str) -> str:
        """Find the accelerator that a user means by id, name or beginning of an id.

        Raises:
            AcceleratorNotFound: None that this token sees.
            InvalidInput: Several; the text lists them.
            ProtocolError: What answers is not a host.
        """
        if _FULL_ID.fullmatch(wanted):
            return wanted
        attached = self.request("GET", "/v1/accelerators")
        if not isinstance(attached, list):
            raise ProtocolError(
                f"{self.url} answered without a list, so it is not a host of elastic-inference; check the URL"
            )
        names: dict[str, str] = {each["accelerator_id"]: each["name"] for each in attached}
        # A name in full is one accelerator's, whatever ids begin with it.
        found = [key for key, name in names.items() if name == wanted] or [
            key for key in names if _begins(key, wanted)
        ]
        if not found:
            raise AcceleratorNotFound(
                f"no accelerator has the name {wanted!r:.120} or an id that begins with it; `ei list` shows the "
                f"{len(names)} attached at {self.url} that this token may see"
            )
        if len(found) > 1:
            listed = ", ".join(f"{key} ({names[key]})" for key in found[:_MAX_CANDIDATES])
            more = f" and {len(found) - _MAX_CANDIDATES} more" if len(found) > _MAX_CANDIDATES else ""
            raise InvalidInput(
                f"{wanted!r} means {len(found)} accelerators: {listed}{more}; give more digits of the id"
            )
        return found[0]

    def describe(
        self, accelerator_id: str, *, token: str | None = None, deadline: Deadline | None = None
    ) -> Attachment:
        """Where an accelerator serves and what it is; raises AcceleratorNotFound where none is visible."""
        path = accelerator_path(accelerator_id)
        return self._read(self.request("GET", path, token=token, deadline=deadline))

    def heartbeat(self, accelerator_id: str, *, token: str | None = None) -> float | None:
        """Say that the client is still there; gives the seconds that the lease lasts from now, None: no lease."""
        return self.beat(accelerator_id, token=token)[0]

    def beat(self, accelerator_id: str, *, token: str | None = None) -> tuple[float | None, str]:
        """Make the same request; gives those seconds, and what the host wants its user to know, "" where nothing."""
        value = self.request("POST", f"{accelerator_path(accelerator_id)}/heartbeat", {}, token=token)
        left = value.get("lease_seconds")
        return None if left is None else float(left), str(value.get("warning") or "")

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
                placement=value.get("placement"),
                limits=value["limits"],
                warning=str(value.get("warning") or ""),
            )
        except (KeyError, TypeError) as error:
            raise ProtocolError(f"{self.url} is not a host of this package: {error!r}") from error

    def _reachable(self, text: str) -> str:
        """Fill in the address by which we see a host that listens on all of them, and so cannot know it."""
        endpoint = Endpoint.parse(text)
        if endpoint.host in _WILDCARDS and self.endpoint.host:
            return str(Endpoint(endpoint.kind, host=self.endpoint.host, port=endpoint.port))
        return text


def _where(host_url: str | None) -> tuple[str, Endpoint]:
    if host_url:
        return host_url, Endpoint.parse(host_url)
    url = settings.HOST.get()
    if url is None:
        return DEFAULT_HOST_URL, Endpoint.parse(DEFAULT_HOST_URL)
    with settings.HOST.named():
        return url, Endpoint.parse(url)


def tls_in_force(tls: Tls | None, endpoint: Endpoint) -> ssl.SSLContext | None:
    """Return the context to connect with: the argument's, else the environment's, else None: the system's.

    Raises:
        InvalidInput: A file cannot be used, whether or not the endpoint needs it.
    """
    if tls is not None:
        return tls.client_context()
    if endpoint.kind != "tls":
        return None
    ca, cert, key = (each.get() for each in (settings.TLS_CA, settings.TLS_CERT, settings.TLS_KEY))
    if ca is cert is key is None:
        return None
    with settings.TLS_CA.named() if ca is not None else settings.TLS_CERT.named():
        return Tls(ca, cert, key).client_context()


def _begins(accelerator_id: str, wanted: str) -> bool:
    # At least one digit, or every id would begin with what is given.
    return len(wanted) > len(_ID_START) and accelerator_id.startswith(wanted)


def accelerator_path(accelerator_id: str) -> str:
    """Return the path of an accelerator in the control API."""
    if not accelerator_id or len(accelerator_id) > 100:
        raise InvalidInput(f"accelerator id {accelerator_id!r:.120} is not eia- and 32 hexadecimal digits")
    return f"/v1/accelerators/{quote(accelerator_id, safe='')}"


def _check_names(path: str) -> None:
    for part in path.partition("?")[0].split("/")[1:]:
        if part in ("", ".", "..") or "%2f" in part.lower():
            raise InvalidInput(
                f"the name {unquote(part)!r:.80} in {path:.200} is empty or has a slash, so it names nothing"
            )
