"""What a tenant is not told: where things lie on the host's disk."""

from __future__ import annotations

import ipaddress
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from elastic_inference.host.control import ControlApi

_HIDDEN = "(host)"


class HostPaths:
    """The folders of a host whose names are taken out of texts; what lies below them is still named."""

    def __init__(self, host: ControlApi) -> None:
        package_root = Path(__file__).resolve().parents[3]
        folders = (host.folder.path, package_root, sys.prefix, sys.base_prefix, tempfile.gettempdir())
        # Longest first, for one may lie in another.
        self._folders = sorted({f"{folder}/" for folder in map(str, folders)}, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return the text without the names of the folders."""
        for folder in self._folders:
            text = text.replace(folder, f"{_HIDDEN}/")
        return text

    def hide_all(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same for the texts of an error's body."""
        return {
            k: self.hide(v) if isinstance(v, str) else self.hide_all(v) if isinstance(v, Mapping) else v
            for k, v in value.items()
        }


def is_on_this_machine(request: Request) -> bool:
    """Whether the caller may use Unix sockets of the host's machine: it came by one, or from an address of its own."""
    if request.client is None:
        return True
    try:
        is_loopback = ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
    server = request.scope.get("server")
    return is_loopback or (server is not None and server[0] == request.client.host)


def without_unix(endpoints: Iterable[str]) -> list[str]:
    """Endpoints that work from elsewhere."""
    return [text for text in endpoints if not text.startswith("unix:")]
