"""The commands of a host against a real one: what they print, with and without --json, and how they fail."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.cli import build_app, main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.cli.usage import parse_since
from elastic_inference.errors import InvalidInput
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.video.clips import make_clip

Run = Callable[..., str]
COMMANDS = (
    ("host", "start"), ("host", "status"), ("host", "init-tls"), ("host", "drain"), ("host", "new-token"),
    ("host", "stop"), ("host", "check"), ("host", "config"), ("host", "install-service"), ("host", "backup"),
    ("host", "restore"), ("devices",), ("types",),
    ("attach",), ("list",), ("show",), ("resize",), ("detach",), ("usage",), ("top",), ("logs",), ("audit",),
)  # fmt: skip


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


@pytest.fixture
def run(
    host: HostProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs `ei` in this process with the environment of an operator on the host's machine."""
    monkeypatch.setenv("EI_HOST", host.url)
    monkeypatch.setenv("EI_STATE_DIR", str(host.state_dir))
    for name in ("EI_TOKEN", "EI_TLS_CA", "EI_ACCELERATOR"):
        monkeypatch.delenv(name, raising=False)

    def run_one(*arguments: str, code: int = 0) -> str:
        assert main(arguments) == code
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    yield run_one
    for accelerator in json.loads(run_one("list", "--json")):
        run_one("detach", accelerator["accelerator_id"], "--drain", "0s")


def attach(run: Run, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(run("attach", "--type", "cpu.quarter", "--json", *arguments)))


@contextlib.contextmanager
def answering(text: str) -> Iterator[str]:
    """The URL of a server that answers one question with this text."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        thread.join(10)


def test_an_accelerators_life_in_words(run: Run) -> None:
    assert run("list").startswith("no accelerators are attached; ")
    first = run("attach", "--type", "cpu.quarter", "--name", "mine").splitlines()
    assert first[0].startswith("attached eia-")
    assert re.search(r"\(cpu\.quarter, [0-9.]+ USD/hour\)$", first[0])  # a part of the cores' price
    accelerator_id = first[0].split()[1]
    assert any(line.startswith("endpoint unix:/") for line in first)
    assert first[-1].endswith("(shown only now; keep it)")
    table = run("list").splitlines()
    assert re.split("  +", table[0]) == [
        "ID", "NAME", "TENANT", "TYPE", "STATE", "DEVICE", "SHARE %", "GPU MiB", "MEMORY MiB", "USED MiB", "BUSY %",
        "RESTARTS", "SINCE (UTC)",
    ]  # fmt: skip
    assert table[1].split()[:7] == [accelerator_id, "mine", "-", "cpu.quarter", "ready", "cpu:0", "25"]
    assert "limit of memory" in run("show", accelerator_id)
    assert f"{accelerator_id} is cpu.half now" in run("resize", accelerator_id, "--type", "cpu.half")
    assert accelerator_id in run("usage", "--since", "1h")
    assert run("detach", accelerator_id) == f"detached {accelerator_id}\n"


def test_an_accelerators_life_in_json(run: Run) -> None:
    attached = attach(run, "--name", "mine", "--lease", "10min")
    accelerator_id = attached["accelerator_id"]
    assert attached["lease_seconds"] == 600
    assert json.loads(run("show", accelerator_id, "--json"))["name"] == "mine"
    resized = json.loads(run("resize", accelerator_id, "--type", "cpu.half", "--json"))
    assert (resized["type"], resized["endpoints"]) == ("cpu.half", attached["endpoints"])
    (row,) = [u for u in json.loads(run("usage", "--json")) if u["accelerator_id"] == accelerator_id]
    assert row["types"] == ["cpu.quarter", "cpu.half"]
    assert json.loads(run("detach", accelerator_id, "--json"))["detached"] is True


def test_a_name_or_the_beginning_of_an_id_stands_for_the_id(run: Run) -> None:
    first, second = attach(run, "--name", "mybox"), attach(run, "--name", "other")
    first_id, second_id = first["accelerator_id"], second["accelerator_id"]
    start = next(second_id[:n] for n in range(5, 37) if not first_id.startswith(second_id[:n]))
    assert json.loads(run("show", "mybox", "--json"))["accelerator_id"] == first_id
    assert json.loads(run("show", start, "--json"))["accelerator_id"] == second_id
    assert f"{first_id} is cpu.half now" in run("resize", "mybox", "--type", "cpu.half")
    assert run("detach", start) == f"detached {second_id}\n"
    assert "no accelerator has the name 'eia-'" in run("detach", "eia-", code=ExitCode.NOT_FOUND)
    assert run("detach", first_id[:20], "--drain", "0s") == f"detached {first_id}\n"


def test_what_means_several_accelerators_is_refused_with_their_names(run: Run) -> None:
    # A host that happens to have two ids that begin alike: names may not begin as ids do.
    attached = [
        {"accelerator_id": f"eia-3{digit * 31}", "name": name} for digit, name in (("a", "one"), ("b", "two"))
    ]
    with answering(json.dumps(attached)) as url:
        error = run("detach", "eia-3", "--host", url, code=ExitCode.BAD_INPUT)
    assert "'eia-3' means 2 accelerators" in error
    assert f"{attached[0]['accelerator_id']} (one)" in error


def test_a_name_that_is_taken_is_refused_with_whose_it_is(run: Run) -> None:
    first = attach(run, "--name", "mine")
    error = run("attach", "--type", "cpu.quarter", "--name", "mine", code=ExitCode.BAD_INPUT)
    assert f"{first['accelerator_id']} of this host has the name 'mine'" in error
    told = json.loads(
        run("attach", "--type", "cpu.quarter", "--name", "mine", "--json", code=ExitCode.BAD_INPUT)
    )
    assert told["code"] == "NameTaken"
    assert len(json.loads(run("list", "--json"))) == 1


def test_detect_takes_a_name_too_and_says_when_no_accelerator_has_it(run: Run, tmp_path: Path) -> None:
    clip = str(make_clip(tmp_path / "in.mp4", 2))
    arguments = ("detect", clip, "-o", str(tmp_path / "out.mp4"), "--accelerator-id", "nobody")
    assert "no accelerator has the name 'nobody'" in run(*arguments, code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize(("answer", "what"), [('{"a": 1}', "a list"), ('[{"name": 1}]', "accelerator_id, ")])
def test_a_server_that_is_no_host_is_named(run: Run, answer: str, what: str) -> None:
    with answering(answer) as url:
        error = run("list", "--host", url, code=ExitCode.UNREACHABLE)
    assert f"{url} answered without {what}" in error


def test_types_and_devices(run: Run) -> None:
    rows = {line.split()[0]: line for line in run("types").splitlines()}
    assert rows["eia1.medium"].split()[-2:] == ["0.13", "0"]
    assert rows["eia2.medium"].split()[-2:] == ["-", "0"]
    assert "25% of a device" in rows["cpu.quarter"]
    assert {t["name"] for t in json.loads(run("types", "--json"))} == set(rows) - {"TYPE"}
    assert "fp32 0.2" in run("devices")
    (device,) = json.loads(run("devices", "--json"))
    assert device["tflops_source"] == "given by the test"


def test_status_drain_and_a_new_token(run: Run, host: HostProcess) -> None:
    assert "limits by" in run("host", "status")
    assert json.loads(run("host", "status", "--json"))["devices"][0]["name"] == "cpu:0"
    assert run("host", "drain") == "the host is draining\n"
    assert "drains" in run("attach", "--type", "cpu.half", code=ExitCode.REFUSED)
    assert run("host", "drain", "--off") == "the host is ok\n"
    old = host.operator_token
    new = run("host", "new-token").strip()
    assert host.operator_token == new != old
    assert "unknown to this host" in run("list", "--token", old, code=ExitCode.NO_RIGHTS)


def test_a_tenant_uses_its_own_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = attach(run), attach(run)
    with monkeypatch.context() as tenant:
        tenant.setenv("EI_TOKEN", mine["token"])
        assert [a["accelerator_id"] for a in json.loads(run("list", "--json"))] == [mine["accelerator_id"]]
        assert "no accelerator" in run("show", other["accelerator_id"], code=ExitCode.NOT_FOUND)
        assert "only the operator" in run("host", "status", code=ExitCode.NO_RIGHTS)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("attach", "--type", "eia1.xlarge"), ExitCode.REFUSED, "needs 4 FP32 TFLOPS"),
        (("attach", "--type", "none"), ExitCode.BAD_INPUT, "type 'none' is not one of"),
        (("attach", "--type", "cpu.half", "--lease", "soon"), ExitCode.BAD_INPUT, "duration 'soon'"),
        (("show", "eia-0"), ExitCode.NOT_FOUND, "no accelerator has the name 'eia-0' or an id"),
        (("show", "eia-" + "0" * 32), ExitCode.NOT_FOUND, "no accelerator eia-0000"),
        (("list", "--tls-key", "k.pem"), ExitCode.BAD_INPUT, "--tls-key needs --tls-cert"),
        (("usage", "--since", "yesterday"), ExitCode.BAD_INPUT, "neither a date"),
        (("list", "--host", "nowhere"), ExitCode.BAD_INPUT, "is not unix:/PATH"),
        (("list", "--host", "http://127.0.0.1:1"), ExitCode.UNREACHABLE, "cannot connect"),
        (
            ("host", "start", "--device", "cuda:9"),
            ExitCode.BAD_INPUT,
            "'cuda:9' is not one of this machine's devices: cpu:0",
        ),
        (("host", "start", "--ports", "9-1"), ExitCode.BAD_INPUT, "--ports '9-1'"),
        (("host", "start", "--uids", "0-10"), ExitCode.BAD_INPUT, "uids '0-10'"),
        (("host", "start", "--limits", "hope"), ExitCode.BAD_INPUT, "limits 'hope' is not one of"),
        (("host", "start", "--log-level", "loud"), ExitCode.BAD_INPUT, "--log-level 'loud'"),
        (("host", "start", "--types", "/none.toml"), ExitCode.NOT_FOUND, "/none.toml: No such file"),
    ],
)
def test_mistakes_are_one_line_with_value_and_limit(
    run: Run,
    arguments: tuple[str, ...],
    code: ExitCode,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    host: HostProcess,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(host.state_dir.parent / "cache"))
    if arguments[:2] == ("host", "start"):
        arguments = (
            *arguments,
            "--state-dir",
            str(host.state_dir.parent / "other"),
            "--listen",
            "127.0.0.1:0",
        )
    error = run(*arguments, code=code)
    assert error.startswith("error: ")
    assert text in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--help"]) == 0
    assert f"ei {' '.join(command)}" in capsys.readouterr().out.partition("Examples:")[2]


def test_init_tls_says_which_file_is_for_whom(run: Run, host: HostProcess) -> None:
    directory = str(host.state_dir.parent / "tls-of-another")
    made = json.loads(run("host", "init-tls", "--state-dir", directory, "--client", "alice", "--json"))
    assert made["ca"] == f"{directory}/tls/ca.pem"
    assert made["clients"][0]["key"] == f"{directory}/tls/client-alice.key"
    assert "authority, for clients' --tls-ca" in run("host", "init-tls", "--state-dir", directory)


def test_since_is_a_date_a_moment_or_a_time_back() -> None:
    assert parse_since(None, 1000.0) == 0.0
    assert parse_since("1970-01-02", 1e9) == 86400.0
    assert parse_since("1970-01-01T01:00:00Z", 1e9) == 3600.0
    assert parse_since("1970-01-01T01:00:00+01:00", 1e9) == 0.0
    assert parse_since("10min", 1000.0) == 400.0
    with pytest.raises(InvalidInput, match="neither a date"):
        parse_since("soon", 0.0)


def test_the_application_has_all_commands() -> None:
    names = {command.name for command in build_app().registered_commands}
    assert {name for name, *rest in COMMANDS if not rest} - {"host"} <= names


def test_usage_ends_with_its_sum_and_comes_as_sums_and_csv(run: Run) -> None:
    attach(run, "--name", "mine")
    text = run("usage", "--since", "1h")
    assert re.search(
        r"^total: [0-9.]+ USD for [0-9.]+ hours with a price; \d+ inferences$", text, re.MULTILINE
    )
    by_type = json.loads(run("usage", "--by", "type", "--json"))
    assert "cpu.quarter" in [each["key"] for each in by_type]
    days = run("usage", "--by", "day").splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d ", days[1])
    lines = run("usage", "--csv").splitlines()
    assert lines[0].startswith(
        "accelerator_id,name,tenant,types,started_at,attached_hours,unpriced_hours,cost_usd"
    )
    assert any(line.split(",")[1:4] == ["mine", "", "cpu.quarter"] for line in lines[1:])
    assert "--by 'colour'" in run("usage", "--by", "colour", code=2)
    assert "contradict" in run("usage", "--csv", "--json", code=2)
