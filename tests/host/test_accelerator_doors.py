"""Which protocols an accelerator answers: of a host, of a type, of one attach."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException as TritonError

from elastic_inference.errors import InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType, load_types
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.host import Host
from elastic_inference.protocol.doors import DOORS
from tests.integration.serve_process import ask_at

OpenHost = Callable[..., Host]
MIB = 1024**2
KINDS = (
    AcceleratorType("small", 256 * MIB, device_share=0.1),
    AcceleratorType("narrow", 256 * MIB, device_share=0.1, doors=("sagemaker", "http")),
)
PATHS = {"http": "/v2", "tensorflow-serving": "/v1/models/none", "sagemaker": "/ping"}


def attach(host: Host, type_name: str, doors: tuple[str, ...] | None = None) -> tuple[AcceleratorRecord, str]:
    found = host.service.ask(Wanted(type_name, doors=doors))
    assert not isinstance(found, Waiting)
    return found


def answering(record: AcceleratorRecord, token: str) -> set[str]:
    """The doors that something answers behind, over the accelerator's TCP endpoint."""
    (address,) = [e.removeprefix("tcp:") for e in record.endpoints if e.startswith("tcp:")]
    found = set()
    for door, path in PATHS.items():
        _, answer = ask_at(f"http://{address}{path}", token=token)
        if "no such path" not in str(answer):
            found.add(door)
    with triton.InferenceServerClient(address) as client, contextlib.suppress(TritonError):
        client.get_server_metadata(headers={"authorization": f"Bearer {token}"}, client_timeout=30)
        found.add("grpc")
    return found


@pytest.mark.parametrize(
    ("of_host", "type_name", "asked", "wanted"),
    [
        (DOORS, "small", None, set(DOORS)),
        (("http", "grpc"), "small", None, {"http", "grpc"}),
        (("http", "tensorflow-serving"), "small", None, {"http", "tensorflow-serving"}),
        (DOORS, "narrow", None, {"http", "sagemaker"}),
        (("http", "grpc"), "narrow", None, {"http"}),
        (DOORS, "small", ("grpc", "http"), {"http", "grpc"}),
    ],
)
def test_the_doors_that_are_open_answer_and_no_others(
    open_host: OpenHost, of_host: tuple[str, ...], type_name: str, asked: Any, wanted: set[str]
) -> None:
    host = open_host(user_types=KINDS, doors=of_host)
    record, token = attach(host, type_name, asked)
    assert set(record.doors) == wanted
    assert answering(record, token) == wanted


def test_a_resize_keeps_the_doors(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS)
    record, token = attach(host, "small", ("http",))
    changed, _ = host.service.resize(record.accelerator_id, "narrow")
    assert changed.doors == ("http",)
    assert answering(changed, token) == {"http"}


def test_doors_that_are_closed_or_unknown_are_refused_by_name(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS, doors=("http", "grpc"))
    for doors, text in (
        (
            ("http", "sagemaker"),
            "doors sagemaker are closed for type 'small' on this host; open are http, grpc",
        ),
        (("grpc",), "doors must be 'http' and others of"),
        (("http", "ftp"), "not http, ftp"),
        ((), "not none"),
    ):
        with pytest.raises(InvalidInput, match=text):
            attach(host, "small", doors)
    with pytest.raises(InvalidInput, match="doors must be 'http'"):
        open_host(doors=("grpc",))


def test_a_types_file_says_doors(tmp_path: Path) -> None:
    path = tmp_path / "types.toml"
    path.write_text('[a]\nmemory = "256MiB"\ndevice_share = 0.1\ndoors = ["grpc", "http"]\n')
    assert load_types(path)[0].doors == ("http", "grpc")
    path.write_text('[a]\nmemory = "256MiB"\ndevice_share = 0.1\ndoors = ["grpc"]\n')
    with pytest.raises(InvalidInput, match="type 'a': doors must be 'http' and others of"):
        load_types(path)


def test_commands_choose_doors_and_show_them(
    start_host: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from elastic_inference.cli import main

    host = start_host("--doors", "http,grpc,sagemaker")
    monkeypatch.setenv("EI_HOST", host.url)
    monkeypatch.setenv("EI_TOKEN", host.operator_token)
    assert main(["attach", "--type", "cpu.quarter", "--name", "box", "--doors", "grpc,http"]) == 0
    capsys.readouterr()
    assert main(["show", "box"]) == 0
    assert "doors" in (shown := capsys.readouterr().out)
    assert "http, grpc" in shown
    assert main(["attach", "--type", "cpu.quarter", "--doors", "http,tensorflow-serving"]) == 2
    assert "tensorflow-serving are closed" in capsys.readouterr().err
    assert main(["attach", "--type", "cpu.quarter", "--doors", "grpc"]) == 2
    assert "--doors must be 'http'" in capsys.readouterr().err
