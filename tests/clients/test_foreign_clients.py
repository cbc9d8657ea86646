"""Clients of other makers, unmodified, each in an environment of its own against an accelerator process.

`make test-clients` makes the environment (`.venv-clients`). The programs import nothing of ours.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.testing import start_accelerator, write_model

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
PROGRAMS = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class Served:
    """Where a model that gives back its input `x`, uint8[-1, -1], is served, and under which name."""

    address: str
    token: str
    model: str
    path: Path

    def run(self, program: str, *arguments: str, model: str | None = None) -> str:
        """What a program of another maker's client prints."""
        if not PYTHON.exists():
            pytest.skip("needs .venv-clients, which `make test-clients` makes")
        given = [*arguments, self.address, self.token, model or self.model]
        return run_command(str(PYTHON), str(PROGRAMS / program), *given)

    def run_with(self, command: str, program: str) -> str:
        """What a program in another language prints."""
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}")
        return run_command(command, str(PROGRAMS / program), self.address, self.token, self.model)

    def curl(self, *arguments: str, path: str) -> Any:
        """What curl gets as JSON."""
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        command = ["curl", "-sS", "-H", f"Authorization: Bearer {self.token}", *arguments]
        done = subprocess.run(
            [*command, f"http://{self.address}{path}"], capture_output=True, check=True, timeout=60
        )
        return json.loads(done.stdout)


def run_command(*command: str) -> str:
    """What a command prints; it has to end well."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "src")}  # for our own predictor
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environ)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tensor = {"x": ("uint8", (None, None))}
    model = write_model(tmp_path_factory.mktemp("clients") / "echo.testing", tensor, tensor)
    with (
        start_accelerator() as accelerator,
        EIPredictor(str(model), address=accelerator.address, token=accelerator.token) as predictor,
    ):
        assert predictor({"x": np.zeros((1, 2), np.uint8)})["x"].shape == (1, 2)
        address = accelerator.address.removeprefix("tcp:")
        found = Served(address, accelerator.token, "", model)
        if shutil.which("curl") is None:
            pytest.skip("needs curl")
        (row,) = found.curl("-X", "POST", path="/v2/repository/index")
        yield Served(address, accelerator.token, row["name"], model)


@pytest.mark.parametrize("kind", ["http", "http.aio", "grpc", "grpc.aio"])
def test_every_public_method_of_tritons_clients(served: Served, kind: str) -> None:
    assert json.loads(served.run("triton.py", kind)) == []


def test_kserves_clients(served: Served) -> None:
    served.run("kserve_both.py")


def test_the_client_generated_from_the_openapi_text(served: Served) -> None:
    served.run("openapi.py")


REQUEST = '{"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2, 3]}]}'
ANSWER = {"name": "x", "datatype": "UINT8", "shape": [1, 3], "data": [1, 2, 3]}


@pytest.mark.parametrize("options", [["--http2"], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"]])
def test_curl(served: Served, options: list[str]) -> None:
    answer = served.curl(*options, "-d", REQUEST, path=f"/v2/models/{served.model}/infer")
    assert answer["outputs"] == [ANSWER]


def test_javas_client_that_offers_http_2(served: Served) -> None:
    ready, answer = served.run_with("java", "Infer.java").splitlines()
    assert ready.startswith("200 ")
    assert answer.startswith("200 ")
    assert json.loads(answer[4:])["outputs"] == [ANSWER]


def test_nodes_fetch_with_a_stream(served: Served) -> None:
    status, _, body = served.run_with("node", "stream.mjs").partition(" ")
    assert status == "200"
    assert json.loads(body)["outputs"] == [ANSWER]


@pytest.mark.parametrize("client", ["grpc", "predictor"])
def test_mlperfs_load_generator_finds_its_runs_valid(served: Served, client: str, tmp_path: Path) -> None:
    model = str(served.path) if client == "predictor" else None
    printed = served.run("loadgen.py", client, str(tmp_path), "2", model=model)
    assert printed.split() == ["SingleStream", "VALID", "Server", "VALID"]


def test_schemathesis_finds_no_server_error(served: Served, tmp_path: Path) -> None:
    program = PYTHON.with_name("schemathesis")
    if not program.exists():
        pytest.skip("needs .venv-clients, which `make test-clients` makes")
    text = tmp_path / "oip.json"
    text.write_text((PROGRAMS / "oip.json").read_text().replace("MODEL", served.model))
    printed = run_command(
        *(str(program), "run", str(text), "--url", f"http://{served.address}"),
        *("-H", f"Authorization: Bearer {served.token}", "--checks", "not_a_server_error"),
        *("--max-examples", "40", "--seed", "1", "--generation-database", "none"),
    )
    assert " passed" in printed  # and its exit status says that none failed
