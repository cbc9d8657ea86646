"""What a pool asks of one host, over the host's control API. Every command says which pool service gives it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from elastic_inference.host.accounts.usage import Sample
from elastic_inference.pool.store import HostRow
from elastic_inference.pool.versions import Version
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json

PLACE_SECONDS = 90.0
END_SECONDS = 60.0
LOOK_SECONDS = 2.0
HANDOVER_SECONDS = 60.0
INSTALLED_SECONDS = 90.0


@dataclass(frozen=True)
class TenantPart:
    """What a host is told of a tenant.

    Attributes:
        created_at: Since when there is this tenant, in seconds since 1970: another one may have had the name before.
            None: there is none of this name.
        requests_per_second: Of its accelerators on that host together; None: without limit.
    """

    name: str
    created_at: float | None
    requests_per_second: float | None


class HostLink:
    """A host's side of the pool.

    Args:
        pool_epoch: Of the pool service; a host that has heard of a later one refuses it.
    """

    def __init__(self, host: HostRow, pool_epoch: int, tls: ssl.SSLContext | None) -> None:
        self._endpoint = Endpoint.parse(host.url)
        self._token = host.token
        self._common = {"pool_epoch": pool_epoch, "host_epoch": host.epoch}
        self._tls = tls

    def place(
        self,
        accelerator_id: str,
        token_sha256: str,
        type_name: str,
        name: str | None,
        tenant: TenantPart | None,
    ) -> dict[str, Any]:
        """Let an accelerator be there; returns it as the control API shows it. Twice is fine.

        Args:
            tenant: Whose it is; None: the operator's.
        """
        of_tenant = None if tenant is None else vars(tenant)
        body = {"token_sha256": token_sha256, "type": type_name, "name": name, "tenant": of_tenant}
        return dict(self._ask("PUT", accelerator_id, body, PLACE_SECONDS))

    def end(self, accelerator_id: str, drain_seconds: float | None) -> Sample:
        """Let an accelerator be there no longer; returns all that it did there. Twice is fine."""
        timeout_seconds = END_SECONDS + (drain_seconds or 0.0)
        told = self._ask("POST", f"{accelerator_id}/end", {"drain_seconds": drain_seconds}, timeout_seconds)
        return Sample.from_json(told["total"])

    def resize(self, accelerator_id: str, type_name: str) -> dict[str, Any]:
        """Give an accelerator another type; returns it, with `was_restarted`."""
        return dict(self._ask("POST", f"{accelerator_id}/type", {"type": type_name}, PLACE_SECONDS))

    def put_token(self, accelerator_id: str, token_sha256: str) -> None:
        """Put another token in force."""
        self._ask("POST", f"{accelerator_id}/token", {"token_sha256": token_sha256}, END_SECONDS)

    def put_tenant(self, tenant: TenantPart) -> None:
        """Tell it what is to be known of a tenant there; AcceleratorBusy where one that is gone has something there."""
        self._request("PUT", "/v1/placed-tenants", {"tenant": vars(tenant), **self._common})

    def hand_over(self, accelerator_id: str, endpoint: str, token: str) -> dict[str, str]:
        """Bring its models to where it moves; returns for each why it is not there, "" where it is."""
        body = {"endpoint": endpoint, "token": token}
        timeout_seconds = HANDOVER_SECONDS + LOOK_SECONDS
        return dict(self._ask("POST", f"{accelerator_id}/models", body, timeout_seconds)["models"])

    def installed(self) -> Version:
        """Return what is installed on the host's machine now, which is not what runs; raises StartFailed."""
        told = self._request("GET", "/v1/installed", None, INSTALLED_SECONDS)
        return Version(str(told["version"]), int(told["protocol"]))

    def renew(self) -> None:
        """End the host in order; its Ray actor starts it again, with what is installed by then."""
        self._request("POST", "/v1/host/stop", {"keep_running": False}, END_SECONDS)

    def readings(self, must_write: bool) -> dict[str, Any]:
        """Return what the host saw last of its accelerators, by id; `must_write`: what it sees now."""
        query = "?must_write=true" if must_write else ""
        return dict(self._request("GET", f"/v1/placed{query}", None))

    def _ask(self, method: str, path: str, body: dict[str, Any], timeout_seconds: float) -> Any:
        return self._request(method, f"/v1/placed/{quote(path)}", {**body, **self._common}, timeout_seconds)

    def _request(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout_seconds: float = LOOK_SECONDS,
    ) -> Any:
        return request_json(
            self._endpoint,
            method,
            path,
            body,
            token=self._token,
            timeout_seconds=timeout_seconds,
            tls=self._tls,
        )
