"""The database's password: by a file or a variable, and in no text that anybody else may read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.cli._host_options import database_url
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.settings import HostSettings
from tests.host.conftest import DEVICE, HostProcess, _measured_cache

URL = "postgresql+psycopg://ei@db.example/elastic"
SECRET = "s3cr/t@:"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\nnot this\n")
    return path


def test_the_file_goes_before_the_variable_and_the_variable_before_the_url(
    password_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped = "postgresql+psycopg://ei:s3cr%2Ft%40%3A@db.example/elastic"
    assert database_url(URL, None) == URL
    monkeypatch.setenv("EI_DATABASE_PASSWORD", SECRET)
    assert database_url(URL, None) == escaped
    assert database_url(None, None) is None
    monkeypatch.setenv("EI_DATABASE", URL)
    assert database_url(None, None) == escaped
    monkeypatch.setenv("EI_DATABASE_PASSWORD", "other")
    assert database_url(None, password_file) == escaped


def test_a_password_without_a_database_and_a_file_without_a_password_are_refused(
    tmp_path: Path, password_file: Path
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(InvalidInput, match="needs a database: give --database URL"):
        database_url(None, password_file)
    with pytest.raises(InvalidInput, match="has an empty first line"):
        database_url(URL, empty)
    with pytest.raises(InvalidInput, match=r"none cannot be read: .*No such file"):
        database_url(URL, tmp_path / "none")
    with pytest.raises(InvalidInput, match="is not a URL"):
        database_url("nonsense", password_file)


@pytest.mark.parametrize(
    "url",
    [
        "unknowndb://ei:{}@db.example/elastic",
        "sqlite://ei:{}@/proc/none/x.db",
        "postgresql+psycopg://ei:{}@127.0.0.1:1/elastic",
        "postgresql+psycopg://ei@127.0.0.1:1/elastic?password={}",
        "nonsense:{}@db",
    ],
)
def test_no_error_shows_the_password(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", _measured_cache(tmp_path))
    given = url.format("hunter2")
    with pytest.raises(InvalidInput, match="database") as caught:
        StateStore(given).open()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(HostSettings(tmp_path, (DEVICE,), database_url=given))
    code = main(
        ["host", "start", "--state-dir", str(tmp_path / "s"), "--listen", "127.0.0.1:0", "--database", given]
    )
    captured = capsys.readouterr()
    assert code == ExitCode.BAD_INPUT
    assert "hunter2" not in captured.out + captured.err


def test_a_host_starts_on_a_database_whose_password_is_in_a_file(
    start_host: Callable[..., HostProcess], postgresql_url: str, password_file: Path
) -> None:
    host = start_host("--database", postgresql_url, "--database-password-file", str(password_file))
    assert host.session().request("GET", "/v1/host")["database"] == "postgresql"
    command_line = Path(f"/proc/{host.process.pid}/cmdline").read_bytes()
    assert SECRET.encode() not in command_line
    assert SECRET not in host.log_path.read_text()
    assert host.end() == 0
