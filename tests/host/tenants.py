"""Tenants of a real host in tests: a host with its types, a tenant with a token, and all of it taken away again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import AcceleratorBusy, AcceleratorNotFound
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.support import wait_for_host


@contextlib.contextmanager
def host_with_types(text: str) -> Iterator[HostProcess]:
    """A host that offers the types of a TOML text."""
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        types = state_dir.parent / "types.toml"
        types.write_text(text)
        yield start("--types", str(types))


def take_in(operator: HostSession, name: str, **body: Any) -> str:
    """A new tenant's token."""
    operator.request("POST", "/v1/tenants", {"name": name, **body})
    token = operator.request("POST", f"/v1/tenants/{name}/tokens", {"label": f"of {name}"})["token"]
    return str(token)


def take_all_away(operator: HostSession) -> None:
    """Remove every tenant and detach every accelerator."""
    for tenant in operator.request("GET", "/v1/tenants"):
        wait_for_host(lambda name=tenant["name"]: _is_removed(operator, name), "the tenant's end")
    for accelerator in operator.request("GET", "/v1/accelerators"):
        with contextlib.suppress(AcceleratorNotFound):  # its lease has ended meanwhile
            operator.detach(accelerator["accelerator_id"], drain_seconds=0)


def _is_removed(operator: HostSession, name: str) -> bool:
    with contextlib.suppress(AcceleratorBusy):  # such as one that is being moved
        operator.request("DELETE", f"/v1/tenants/{name}?detach=true")
        return True
    return False
