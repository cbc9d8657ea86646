"""Who calls the control API: the operator, or the tenant of one accelerator, as a bearer token or a session says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import Request

from elastic_inference.errors import AcceleratorNotFound, Forbidden, PermissionDenied
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.privacy import is_on_this_machine
from elastic_inference.host.doors.sessions import PAGE_HEADER, Sessions
from elastic_inference.host.tokens import hash_token

_bearer = HTTPBearer(auto_error=False, description="The operator's token, or an accelerator's own.")
_READING = ("GET", "HEAD")


@dataclass(frozen=True)
class Caller:
    """Who calls: the operator (None), or the tenant of one accelerator.

    Attributes:
        is_on_this_machine: Whether Unix sockets are of use to it.
    """

    accelerator_id: str | None
    is_on_this_machine: bool = True

    @property
    def is_operator(self) -> bool:
        """Whether it may do everything."""
        return self.accelerator_id is None

    def check_operator(self) -> None:
        """Raise Forbidden unless it is the operator."""
        if not self.is_operator:
            raise Forbidden("only the operator may do this, not an accelerator's token")

    def may_see(self, accelerator_id: str | None) -> bool:
        """Whether this accelerator is the caller's to see; None: what is nobody's but the operator's."""
        return self.is_operator or self.accelerator_id == accelerator_id

    def check_owns(self, accelerator_id: str) -> None:
        """Raise AcceleratorNotFound, as for one that does not exist, unless this one is the caller's to see."""
        if not self.may_see(accelerator_id):
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")


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
            return Caller(None)
        accelerator_id = self._host.service.tokens.find(token_sha256)
        return None if accelerator_id is None else Caller(accelerator_id)


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
