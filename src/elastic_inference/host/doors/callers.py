"""Who calls the control API: the operator, a tenant, or whoever holds one accelerator's token; by token or session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import Request

from elastic_inference.errors import AcceleratorNotFound, Forbidden, PermissionDenied, TenantNotFound
from elastic_inference.host.accounts.scope import ALL, Scope
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.privacy import is_on_this_machine
from elastic_inference.host.doors.sessions import PAGE_HEADER, Sessions
from elastic_inference.host.tokens import hash_token

_bearer = HTTPBearer(
    auto_error=False, description="The operator's token, a tenant's, or an accelerator's own."
)
_READING = ("GET", "HEAD")


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        scope: What it may see; all: it is the operator.
        is_on_this_machine: Whether Unix sockets are of use to it.
    """

    scope: Scope = ALL
    is_on_this_machine: bool = True

    @property
    def is_operator(self) -> bool:
        """Whether it may do everything."""
        return self.scope.is_all

    @property
    def tenant(self) -> str | None:
        """The tenant whose token it has; None for the operator and for an accelerator's token."""
        return self.scope.tenant

    @property
    def name(self) -> str:
        """Who it is, for logs and limits."""
        if self.tenant is not None:
            return f"tenant {self.tenant}"
        return self.scope.accelerator_id or "operator"

    def check_operator(self) -> None:
        """Raise Forbidden unless it is the operator."""
        if not self.is_operator:
            raise Forbidden("only the operator may do this, not a tenant's or an accelerator's token")

    def check_may_attach(self) -> None:
        """Raise Forbidden unless it is the operator or a tenant."""
        if self.scope.accelerator_id is not None:
            raise Forbidden("only the operator or a tenant may do this, not an accelerator's token")

    def may_see(self, accelerator_id: str | None, tenant: str | None) -> bool:
        """Whether what belongs to this accelerator and tenant is the caller's to see; None: to none."""
        return self.scope.covers(accelerator_id, tenant)

    def check_tenant(self, name: str) -> None:
        """Raise TenantNotFound, as for one that does not exist, unless this tenant is the caller's to see."""
        if not self.is_operator and self.tenant != name:
            raise TenantNotFound(f"there is no tenant {name!r:.80} here; `ei tenant list` lists them")


class Callers:
    """Tells whose a request is, by its bearer token or, from the page, by its cookie. Waits for nothing."""

    def __init__(self, host: ControlApi, sessions: Sessions) -> None:
        self._host = host
        self._sessions = sessions

    def of_token(self, token: str) -> Caller | None:
        """Whose token this is; None for one that is not known here."""
        return self._of_hash(hash_token(token))

    def of_session(self, headers: Headers) -> Caller | None:
        """Whose session the cookie is, as long as its token is in force."""
        token_sha256 = self._sessions.find(headers.get("Cookie", ""))
        return None if token_sha256 is None else self._of_hash(token_sha256)

    def of_request(self, method: str, headers: Headers) -> Caller | None:
        """Whose request it is.

        A browser sends the cookie by itself, whichever page asks. So what changes something must also carry a header
        that only our page can set, and come from where it goes to.
        """
        token = bearer_of(headers.get("Authorization", ""))
        if token:
            return self.of_token(token)
        if method not in _READING and not (PAGE_HEADER in headers and is_same_origin(headers)):
            return None
        return self.of_session(headers)

    def _of_hash(self, token_sha256: str) -> Caller | None:
        if self._host.is_operator_hash(token_sha256):
            return Caller()
        service = self._host.service
        accelerator_id = service.tokens.find(token_sha256)
        if accelerator_id is not None:
            return Caller(Scope(accelerator_id=accelerator_id))
        tenant = service.tenancy.find(token_sha256)
        return None if tenant is None else Caller(Scope(tenant, since=service.tenancy.created_at(tenant)))


def make_owner_check(host: ControlApi) -> Callable[[Caller, str], None]:
    """Return what raises AcceleratorNotFound, as for one that does not exist, unless one is the caller's to see."""

    def check(caller: Caller, accelerator_id: str) -> None:
        if not caller.may_see(accelerator_id, host.service.tenants.tenant_of(accelerator_id)):
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")

    return check


def make_authenticator(callers: Callers) -> Any:
    """Return a FastAPI dependency that gives the Caller of a request, or raises PermissionDenied."""

    async def authenticate(
        request: Request,
        credentials: Annotated[  # noqa: ARG001  # for the OpenAPI document; what counts is read below
            HTTPAuthorizationCredentials | None, Depends(_bearer)
        ],
    ) -> Caller:
        caller = callers.of_request(request.method, request.headers)
        if caller is None:
            raise PermissionDenied("the bearer token is missing or unknown to this host")
        caller = replace(caller, is_on_this_machine=is_on_this_machine(request))
        request.state.caller = caller
        return caller

    return Depends(authenticate)


def bearer_of(authorization: str) -> str:
    """Return the token in an Authorization header; "" where it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that the request comes from this host's own page."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return False
    origin = headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == headers.get("Host")
