"""The file with the options of a host: what it may hold, what wins over what, and the service that reads it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.cli import main
from elastic_inference.cli._host_config import kinds_of
from elastic_inference.cli._host_service import UNIT, unit_text
from elastic_inference.cli._host_start import read_start, start
from elastic_inference.errors import InvalidInput
from tests.host.conftest import HostProcess

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "host.toml"


def test_the_file_wins_over_defaults_and_the_command_line_over_the_file(file: Path) -> None:
    file.write_text('listen = "127.0.0.1:1"\nspares = 3\npass_on = ["OTEL_*", "X"]\nkeep_running = true\n')
    found = {
        o.name: (o.value, o.source) for o in read_start(["--config", str(file), "--spares", "5"]).options
    }
    assert found["listen"] == ("127.0.0.1:1", "file")
    assert found["spares"] == (5, "command line")
    assert found["pass_on"] == (["OTEL_*", "X"], "file")
    assert found["keep_running"] == (True, "file")
    assert found["drain"] == ("10s", "default")
    # Whichever way round they are written.
    other = {o.name: o.value for o in read_start(["--spares", "5", "--config", str(file)]).options}
    assert other["spares"] == 5


def test_what_config_prints_is_a_file_that_brings_the_same_about(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('ports = "9000-9010"\ndevice = ["cpu:0"]\n')
    assert main(["host", "config", str(file)]) == 0
    printed = capsys.readouterr().out
    assert main(["host", "config", str(file), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {name: value for name, value in values.items() if value not in (None, [])} == tomllib.loads(
        printed
    )
    file.write_text(printed)
    assert main(["host", "check", str(file)]) == 0


def test_the_file_has_every_option_of_a_start() -> None:
    assert set(kinds_of(start)) == {option.name for option in read_start([]).options}
    assert kinds_of(start)["types"] is str
    assert kinds_of(start)["device"] is list


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listn = 1", "unknown key 'listn'; known are listen, device"),
        ("spares = '1'", "spares must be a whole number, not '1'"),
        ("spares = true", "spares must be a whole number, not True"),
        ("spares = 65", "spares"),
        ("keep_running = 1", "keep_running must be true or false, not 1"),
        ("device = 'cpu:0'", "device must be a list of texts"),
        ("device = ['cpu:9']", "'cpu:9' is not one of this machine's devices"),
        ("ports = '9-1'", "'9-1' must be FIRST-LAST"),
        ("drain = '10 parsecs'", "10 parsecs"),
        ("cpu_price = '-1'", "--cpu-price"),
        ("log_level = 'loud'", "'loud' is not one of debug"),
        ("tls_cert = '/c.pem'", "belong together"),
        ("listen = ", "is not TOML"),
        ("[limits]\nx = 1", "limits must be text"),
    ],
)
def test_check_names_file_key_and_value(
    file: Path, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    assert main(["host", "check", str(file)]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_does_not_exist(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "start", "--config", str(file)]) == 6
    assert f"host configuration {file}: No such file or directory" in capsys.readouterr().err
    file.write_text("types = '/no/such/file'")
    assert main(["host", "check", str(file)]) == 6
    assert "types file /no/such/file: No such file" in capsys.readouterr().err


def test_a_check_leaves_nothing_behind(file: Path, tmp_path: Path) -> None:
    file.write_text(f'tls = true\nstate_dir = "{tmp_path}/state"\n')
    assert main(["host", "check", str(file)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["host.toml"]


def test_a_host_starts_by_its_file(start_host: Callable[..., HostProcess], file: Path) -> None:
    file.write_text(
        'types = "types.toml"\ncpu_price = "0.5"\n'.replace("types.toml", str(file.parent / "t.toml"))
    )
    (file.parent / "t.toml").write_text('["mine"]\nmemory = "256MiB"\ndevice_share = 0.1\n')
    host = start_host("--config", str(file))
    types = {each["name"]: each for each in host.session().request("GET", "/v1/types")}
    assert types["mine"]["usd_per_hour"] is None
    (cpu,) = [each for each in host.session().request("GET", "/v1/devices") if each["kind"] == "cpu"]
    assert float(types["cpu.half"]["usd_per_hour"]) == pytest.approx(0.5 * 0.5 * cpu["num_cores"])
    assert types["cpu.half"]["price_source"] == "0.5 USD an hour for each core that it takes"


def test_the_unit_starts_this_program_with_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text("spares = 0\n")
    program = Path(sys.executable).with_name("ei")
    if not program.exists():
        pytest.skip(f"needs the program {program}, which an installation writes")
    assert main(["host", "install-service", str(file), "--unit-dir", str(tmp_path / "units")]) == 0
    text = (tmp_path / "units" / UNIT).read_text()
    assert f"ExecStart={program} host start --config {file}\n" in text
    with pytest.raises(InvalidInput, match="not a program"):
        unit_text(file, tmp_path / "nothing")
    file.write_text("spares = -1\n")
    assert main(["host", "install-service", str(file), "--unit-dir", str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


def test_systemd_finds_the_unit_right_and_confined(file: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("needs systemd-analyze of Debian's package systemd")
    unit = tmp_path / UNIT
    unit.write_text(unit_text(file, Path("/bin/true")))
    verified = subprocess.run(
        [analyze, "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [analyze, "security", "--offline=yes", "--threshold=40", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert rated.returncode == 0, rated.stdout[-2000:] + rated.stderr
