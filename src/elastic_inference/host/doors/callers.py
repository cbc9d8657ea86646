"""Who calls the control API: the operator, or the tenant of one accelerator, as the bearer token says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from elastic_inference.errors import AcceleratorNotFound, Forbidden, PermissionDenied
from elastic_inference.host.doors.privacy import is_on_this_machine
from elastic_inference.host.host import Host
from elastic_inference.host.tokens import hash_token

_bearer = HTTPBearer(auto_error=False, description="The operator's token, or an accelerator's own.")


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

    def check_owns(self, accelerator_id: str) -> None:
        """Raise AcceleratorNotFound, as for one that does not exist, unless this one is the caller's to see."""
        if self.accelerator_id not in (None, accelerator_id):
            raise AcceleratorNotFound(f"no accelerator {accelerator_id:.60} is attached here")


def make_authenticator(host: Host) -> Any:
    """Return a FastAPI dependency that gives the Caller of a request, or raises PermissionDenied."""

    async def authenticate(
        request: Request,
        credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        if credentials is not None:
            caller = find_caller(host, credentials.credentials)
            if caller is not None:
                caller = replace(caller, is_on_this_machine=is_on_this_machine(request))
                request.state.caller = caller
                return caller
        raise PermissionDenied("the bearer token is missing or unknown to this host")

    return Depends(authenticate)


def find_caller(host: Host, token: str) -> Caller | None:
    """Whose token this is; None for one that is not known here. Waits for nothing."""
    if host.is_operator(token):
        return Caller(None)
    accelerator_id = host.service.tokens.find(hash_token(token))
    return None if accelerator_id is None else Caller(accelerator_id)


def bearer_of(authorization: str) -> str:
    """Return the token in an Authorization header; "" where it holds none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
