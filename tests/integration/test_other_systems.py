"""The client over TCP and TLS without what only Linux has: see `other_system`, a program of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.conftest import _starter, new_state_dir
from tests.integration.tiny_model import write_doubling_graph

PROGRAM = Path(__file__).with_name("other_system.py")


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_a_client_needs_nothing_that_linux_alone_has(scheme: str, tmp_path: Path) -> None:
    model = write_doubling_graph(tmp_path / "doubling.pb")
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        host = start(*(("--tls",) if scheme == "tls" else ()))
        ca = str(state_dir / "tls" / "ca.pem") if scheme == "tls" else ""
        done = subprocess.run(
            [sys.executable, "-W", "error", str(PROGRAM), host.url, host.operator_token, ca, str(model)],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("EI_")},
        )
    assert done.stderr == ""
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found.pop("deadline") == "the message did not end within 0.2 s"
    assert "an accelerator needs Linux, and this is darwin" in found.pop("embedded")
    assert "this system has no Unix sockets" in found.pop("unix")
    (note,) = found.pop("notes")
    assert note.startswith("shared memory is not used: no region of")
    assert note.endswith("this system has no /dev/shm")
    assert found == {
        "small": [6],
        "large": True,
        "map": [[6], [8], [10]],
        "threads": True,
        "async": [6],
        "transport": scheme,
    }
