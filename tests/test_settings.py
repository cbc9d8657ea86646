"""The environment: one module reads it, one table tells of it, one rule holds, and nonsense is named."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elastic_inference import settings
from elastic_inference.cli import main
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import InvalidInput
from elastic_inference.protocol.tls import Tls
from elastic_inference.settings import SETTINGS, Setting
from elastic_inference.testing import start_accelerator

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "elastic_inference"
# They read no setting: the environment of a child process, and a default for a library that reads its own.
NOT_READING = {"settings.py", "host/processes/launch.py", "zoo.py", "engines/tensorflow_library.py"}
NONSENSE = {
    "EI_TOKEN": "a\nb",
    "EI_TLS_CA": "/no/such/file",
    "EI_TLS_CERT": "/no/such/file",
    "EI_TLS_KEY": "/no/such/file",
    "EI_CACHE_DIR": __file__,
    "EI_STORE_SIZE": "much",
    "EI_STATE_DIR": __file__,
    "EI_LOG_LEVEL": "loud",
    "EI_PROGRESS_SECONDS": "often",
    "EI_CUDA_GRAPHS": "maybe",
    "EI_RECORD_REQUESTS": "1025",
    "XDG_CACHE_HOME": __file__,
    "XDG_STATE_HOME": __file__,
}


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.name, raising=False)


def test_one_module_reads_the_environment() -> None:
    reading = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
        or (isinstance(node, ast.keyword) and node.arg == "envvar")
    }  # fmt: skip
    assert reading == NOT_READING


def test_the_document_has_the_same_table() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \| (.*) \|$", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE
    )
    assert rows == [(setting.name, setting.meaning, setting.default) for setting in SETTINGS]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_an_argument_wins_over_the_variable_and_nothing_counts_as_unset(
    setting: Setting[object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert setting.get() is None
    text = {
        "EI_LOG_LEVEL": "debug",
        "EI_PROGRESS_SECONDS": "0.5",
        "EI_STORE_SIZE": "4GiB",
        "EI_CUDA_GRAPHS": "on",
        "EI_RECORD_REQUESTS": "36",
        "SAGEMAKER_BIND_TO_PORT": "8080",
    }.get(setting.name)
    if text is None:
        text = __file__ if setting.name.startswith(("EI_TLS", "EI_PYTHON")) else str(tmp_path)
    monkeypatch.setenv(setting.name, text)
    assert setting.get() is not None
    assert setting.of("argument") == "argument"
    assert setting.of(None) == setting.get()
    monkeypatch.setenv(setting.name, "")
    assert setting.get() == (() if setting.empty_counts else None)


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_an_error_that_names_the_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = next(each for each in SETTINGS if each.name == name)
    monkeypatch.setenv(name, NONSENSE[name])
    with pytest.raises(InvalidInput, match=f"environment variable {name}") as raised:
        setting.get()
    assert (NONSENSE[name] in str(raised.value)) is not setting.is_secret


@pytest.mark.parametrize("name", ["EI_PROGRESS_SECONDS", "EI_CACHE_DIR", "EI_HOST"])
def test_the_command_line_names_it_too(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """It was a traceback, at the import of any command."""
    monkeypatch.setenv(name, NONSENSE.get(name, "ftp://nowhere"))
    arguments = {
        "EI_HOST": ["types"],
        "EI_CACHE_DIR": ["models"],
        "EI_PROGRESS_SECONDS": ["demo", "-o", str(tmp_path), "--frames", "1"],
    }
    assert main(arguments[name]) != 0
    assert f"error: environment variable {name}" in capsys.readouterr().err


def test_an_accelerator_names_a_log_level_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EI_LOG_LEVEL", "loud")
    with pytest.raises(InvalidInput, match="EI_LOG_LEVEL='loud' is not one of DEBUG"), start_accelerator():
        pass


def test_the_environments_certificates_are_used_where_no_argument_says_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from benchmarks.dataplane.certificate import write_certificate

    write_certificate(tmp_path)
    monkeypatch.setenv("EI_TLS_CA", str(tmp_path / "cert.pem"))
    used = HostSession("https://h:1")._tls
    assert used is not None
    assert used.cert_store_stats()["x509_ca"] == 1
    assert HostSession("http://h:1")._tls is None
    with pytest.raises(InvalidInput, match="no-such"):
        HostSession("https://h:1", tls=Tls(ca="no-such.pem"))
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    monkeypatch.setenv("EI_TLS_CA", str(broken))
    with pytest.raises(InvalidInput, match="environment variable EI_TLS_CA"):
        HostSession("https://h:1")


def test_a_program_names_the_variable_of_a_wrong_host(tmp_path: Path) -> None:
    code = "from elastic_inference import EIPredictor\nEIPredictor('m.testing')"
    done = subprocess.run(
        [sys.executable, "-c", f"open('m.testing', 'w').write('{{}}')\n{code}"],
        env={**os.environ, "EI_HOST": "somewhere"}, capture_output=True, text=True, check=False, timeout=60,
        cwd=tmp_path,
    )  # fmt: skip
    assert "InvalidInput: environment variable EI_HOST: address 'somewhere' is not" in done.stderr


def test_caches_and_state_have_their_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert settings.cache_dir() == tmp_path / "elastic-inference"
    monkeypatch.setenv("EI_CACHE_DIR", str(tmp_path / "own"))
    assert settings.cache_dir() == tmp_path / "own"
    monkeypatch.setenv("EI_STATE_DIR", str(tmp_path / "state"))
    assert settings.state_dir() == tmp_path / "state"
