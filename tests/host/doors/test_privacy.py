"""What a tenant is told of the host's machine: nothing of its folders, and Unix sockets only where they are of use."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from elastic_inference.host.doors.privacy import is_on_this_machine, without_unix


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        (None, None, True),
        (("127.0.0.1", 5), ("127.0.0.1", 8500), True),
        (("::1", 5), ("::1", 8500), True),
        (("10.0.0.5", 5), ("10.0.0.5", 8500), True),
        (("10.0.0.6", 5), ("10.0.0.5", 8500), False),
        (("testclient", 5), ("10.0.0.5", 8500), False),
    ],
)
def test_unix_sockets_are_for_callers_on_this_machine(client: Any, server: Any, expected: bool) -> None:
    assert is_on_this_machine(Request({"type": "http", "client": client, "server": server})) is expected


def test_endpoints_for_elsewhere_name_no_folder() -> None:
    assert without_unix(["unix:/var/lib/x/api.sock", "tcp:10.0.0.5:8600"]) == ["tcp:10.0.0.5:8600"]
