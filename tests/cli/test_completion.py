"""Completion as a shell asks for it: a process with the line so far in its environment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.host.conftest import HostProcess, _starter, new_state_dir


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


def offers(line: str, **environment: str) -> list[str]:
    """What bash is given for the last word of a line; it waits less than a session's own time-out."""
    asked = {"_EI_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "elastic_inference"],
        capture_output=True,
        text=True,
        timeout=20,
        env={k: v for k, v in os.environ.items() if not k.startswith("EI_")} | asked | environment,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_names_ids_and_types_come_from_the_host(host: HostProcess) -> None:
    attached = [host.session().attach("cpu.quarter", name=name) for name in ("mybox", "mycar")]
    place = {"EI_HOST": host.url, "EI_STATE_DIR": str(host.state_dir)}
    assert offers("ei show my", **place) == ["mybox", "mycar"]
    assert offers("ei detach myb", **place) == ["mybox"]
    start = attached[0].accelerator_id[:30]
    assert offers(f"ei resize {start}", **place) == [attached[0].accelerator_id]
    assert offers("ei attach --type cpu.", **place) == ["cpu.quarter", "cpu.half", "cpu.whole"]
    assert offers(f"ei detach --host {host.url} --token {host.operator_token} myc") == ["mycar"]
    for one in attached:
        host.session().detach(one.accelerator_id)


def test_without_a_token_that_the_host_knows_nothing_is_offered(host: HostProcess) -> None:
    assert offers("ei show my", EI_HOST=host.url, EI_TOKEN="wrong") == []


def test_a_host_that_does_not_answer_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert offers("ei show my", EI_HOST=url) == []


def test_no_host_at_all_and_models_by_name() -> None:
    assert offers("ei show my", EI_HOST="http://127.0.0.1:1") == []
    assert offers("ei models --fetch ssd") == ["ssd_mobilenet_v2_coco"]
    assert "prices" in offers("ei pr")


def test_the_script_for_a_shell_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "elastic_inference", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "complete -o default -F _ei_completion ei" in done.stdout
