"""`ei` on a host that serves TLS and asks clients for certificates: by options and by variables, `ei explore` too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.host.tls import init_tls, issue_client
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.shared import shared_path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a client needs, as the options that take it."""
    folder = tmp_path_factory.mktemp("tls")
    ca, _ = init_tls(folder, [])
    cert, key = issue_client(folder, "alice", 365)
    return {"--tls-ca": str(ca), "--tls-cert": str(cert), "--tls-key": str(key)}


@pytest.fixture(scope="module")
def host(files: dict[str, str]) -> Iterator[HostProcess]:
    folder = Path(files["--tls-ca"]).parent
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start(
            *("--tls-cert", str(folder / "host.pem"), "--tls-key", str(folder / "host.key")),
            *("--tls-client-ca", files["--tls-ca"]),
        )


@pytest.fixture(autouse=True)
def _operator(host: HostProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EI_HOST", host.url)
    monkeypatch.setenv("EI_STATE_DIR", str(host.state_dir))
    for name in ("EI_TOKEN", "EI_TLS_CA", "EI_TLS_CERT", "EI_TLS_KEY", "EI_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)


def flat(files: dict[str, str]) -> list[str]:
    return [word for pair in files.items() for word in pair]


def test_options_or_variables_say_whom_to_trust_and_who_asks(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["types", "--json", *flat(files)]) == 0
    for option, path in files.items():
        monkeypatch.setenv(f"EI_{option[2:].upper().replace('-', '_')}", path)
    assert main(["types", "--json"]) == 0
    assert "cpu.half" in capsys.readouterr().out


def test_without_a_certificate_the_host_is_unreachable(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["types", "--tls-ca", files["--tls-ca"]]) == ExitCode.UNREACHABLE
    assert main(["types", "--tls-ca", "/none.pem"]) == ExitCode.NOT_FOUND
    assert "'/none.pem' cannot be used" in capsys.readouterr().err


def test_an_exploration_measures_accelerators_of_such_a_host(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "inputs.npz"
    np.savez(inputs, a=np.float32(2), b=np.ones(3, np.float32))
    arguments = [
        "explore", "--model", str(shared_path("predictor_oracle/models/scalar")), "--input", str(inputs),
        "--clients", "cores=1", "--accelerators", "cpu.quarter", "--only-ei", "--engine", "openvino",
        "--repeats", "1", "--no-curves", "--cell-time", "2s", "-o", str(tmp_path / "report"), "--json",
    ]  # fmt: skip
    prices = tmp_path / "prices.csv"
    prices.write_text(
        "vendor,name,kind,usd_per_hour,region,as_of,source\nmine,cpu.quarter,accelerator,0,here,2026-11,ours\n"
    )
    # So small a model is too quick for a verdict; what counts is that its process attached at the host.
    assert main([*arguments, "--prices", str(prices), *flat(files)]) in (ExitCode.OK, ExitCode.TARGET_NOT_MET)
    found = json.loads(capsys.readouterr().out)
    assert "compute: 0.25 of 1.9 cores" in found["facts"]["In force, cores=1 + cpu.quarter"]
    (row,) = found["combinations"]
    assert row["usd_per_hour"] == "0.048"  # the core's; the accelerator costs nothing
