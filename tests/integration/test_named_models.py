"""Models that clients ask for by a name of their own: loaded, shared, aliased and unloaded."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from elastic_inference.errors import InvalidInput, ModelNotFound
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

TENSOR = {"x": ("uint8", (None, None))}


@pytest.fixture
def running() -> Iterator[RunningAccelerator]:
    with start_accelerator() as accelerator:
        yield accelerator


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    return write_model(tmp_path / "echo.testing", TENSOR, TENSOR)


def predictor(running: RunningAccelerator, path: Path, name: str) -> EIPredictor:
    return EIPredictor(path, address=running.address, token=running.token, name=name)


class Refused(Exception):
    """An answer that is an error; `code` is its HTTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def ask(running: RunningAccelerator, path: str, value: Any = None) -> Any:
    """What any client of the protocol gets."""
    request = urllib.request.Request(
        f"http://{running.address.removeprefix('tcp:')}{path}",
        None if value is None else json.dumps(value).encode(),
        {"Authorization": f"Bearer {running.token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise Refused(error.code) from None


def infer(running: RunningAccelerator, name: str) -> Any:
    tensor = {"name": "x", "datatype": "UINT8", "shape": [1, 2], "data": [1, 2]}
    return ask(running, f"/v2/models/{name}/infer", {"inputs": [tensor]})["outputs"][0]["data"]


def rows(running: RunningAccelerator) -> dict[str, tuple[str, str]]:
    return {row["name"]: (row["state"], row["reason"]) for row in ask(running, "/v2/repository/index", {})}


def test_a_named_model_is_there_for_every_client_and_outlives_its_predictor(
    running: RunningAccelerator, echo: Path
) -> None:
    with predictor(running, echo, "echo") as predict:
        assert predict({"x": np.ones((1, 2), np.uint8)})["x"].tolist() == [[1, 1]]
    assert infer(running, "echo") == [1, 2]
    with predictor(running, echo, "echo"):  # the same again is the same model
        assert rows(running) == {"echo": ("READY", "")}


def test_a_name_that_means_another_model_is_refused(
    running: RunningAccelerator, echo: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.testing", TENSOR, TENSOR, wait_seconds=0.001)
    with predictor(running, echo, "echo"), pytest.raises(InvalidInput, match="'echo' is loaded already"):
        predictor(running, other, "echo")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 201, 7, "a\r\nb"])
def test_names_that_no_path_can_hold_are_refused_before_anything_is_sent(name: Any) -> None:
    with pytest.raises(InvalidInput, match="name must be 1 to 200 letters"):
        LoadOptions(name=name)


def test_a_name_survives_a_value_that_is_written_and_read() -> None:
    options = LoadOptions(name="resnet")
    assert LoadOptions.from_json(options.to_json()) == options
    assert "name" not in options.parameters()  # two names of one model do not make two loads differ


def test_an_alias_stands_for_a_model_until_it_is_set_anew_or_unloaded(
    running: RunningAccelerator, echo: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.testing", TENSOR, TENSOR, wait_seconds=0.001)
    with predictor(running, echo, "v1"), predictor(running, other, "v2"):
        for name in ("v1", "v2"):
            ask(running, "/v2/repository/models/current/alias", {"of": name})
            assert infer(running, "current") == [1, 2]
            assert ask(running, "/v2/models/current")["name"] == name
            assert rows(running)["current"] == ("READY", f"alias of {name}")
        ask(running, "/v2/repository/models/v2/unload", {})
        assert rows(running)["current"] == ("UNAVAILABLE", "alias of v2")
        with pytest.raises(Refused) as caught:
            infer(running, "current")
        assert caught.value.code == 404
        ask(running, "/v2/repository/models/current/unload", {})
        assert "current" not in rows(running)
        assert infer(running, "v1") == [1, 2]


@pytest.mark.parametrize(
    ("alias", "of", "code"),
    [("x", "nothing", 404), ("x", None, 400), ("x", 7, 400), ("echo", "echo", 400), ("%20", "echo", 400)],
)
def test_aliases_that_cannot_be_are_refused(
    running: RunningAccelerator, echo: Path, alias: str, of: Any, code: int
) -> None:
    with predictor(running, echo, "echo"), pytest.raises(Refused) as caught:
        ask(running, f"/v2/repository/models/{alias}/alias", {"of": of})
    assert caught.value.code == code


def test_a_model_cannot_be_loaded_under_a_name_that_is_an_alias(
    running: RunningAccelerator, echo: Path
) -> None:
    with predictor(running, echo, "echo"):
        ask(running, "/v2/repository/models/current/alias", {"of": "echo"})
        with pytest.raises(InvalidInput, match="'current' is an alias of 'echo'"):
            predictor(running, echo, "current")


def ei(running: RunningAccelerator, *arguments: object) -> int:
    place = ("--address", running.address, "--token", running.token)
    return main(["model", *map(str, arguments), *place, "--json"])


def test_commands_load_alias_and_unload(
    running: RunningAccelerator, echo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ei(running, "load", "echo", echo) == ExitCode.OK
    value = json.loads(capsys.readouterr().out)
    assert (value["name"], value["engine"]) == ("echo", "testing")
    assert value["inputs"] == ["x: uint8[-1, -1]"]
    assert ei(running, "alias", "current", "echo") == ExitCode.OK
    assert infer(running, "current") == [1, 2]
    assert ei(running, "unload", "current") == ExitCode.OK
    assert ei(running, "unload", "echo") == ExitCode.OK
    assert ei(running, "unload", "echo") == ExitCode.NOT_FOUND
    assert "Request for unknown model: 'echo'" in capsys.readouterr().err


def test_a_command_without_an_accelerator_asks_which(
    echo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EI_HOST", raising=False)
    assert main(["model", "load", "echo", str(echo)]) == ExitCode.BAD_INPUT
    assert "which accelerator? give --accelerator ID or --address ADDRESS" in capsys.readouterr().err


def test_a_model_that_is_not_there_cannot_be_loaded(running: RunningAccelerator, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        EIPredictor(
            tmp_path / "nothing.onnx",
            accelerator=Accelerator.at(running.address, token=running.token),
            load=LoadOptions(name="nothing"),
        )
    assert rows(running) == {}
