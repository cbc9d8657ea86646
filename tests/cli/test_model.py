"""`ei model`: what a store holds, shown and removed, in text and in JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor, LoadOptions, zoo
from elastic_inference.cli import main
from elastic_inference.cli.exit_codes import ExitCode
from tests.integration.small_models import write_saved_model


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store into which two models were loaded by real accelerators."""
    folder = tmp_path_factory.mktemp("stored")
    place = Accelerator.embedded(threads=1, cache_dir=str(folder / "store"))
    for name, seed in (("seven", 7), ("eight", 8)):
        model = write_saved_model(folder / name, seed)
        with EIPredictor(model, accelerator=place, load=LoadOptions(proof="off")) as predict:
            predict({"x": np.zeros((2, 4), np.float32)})
    return folder / "store"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_is_stored_is_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "model", "list", "--store", store)
    assert [row["name"] for row in rows] == ["eight", "seven"]
    assert rows[0]["compiled"] == ["openvino fp32 1 thread"]
    assert rows[0]["size_bytes"] > 0
    assert main(["model", "list", "--store", str(store)]) == 0
    text = capsys.readouterr().out
    assert "COMPILED" in text
    assert "openvino fp32 1 thread" in text


def test_one_is_shown_in_full_by_name_or_hash(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "model", "show", "seven", "--store", store)
    (variant,) = shown["variants"]
    assert (variant["engine"], variant["precision"], variant["num_threads"]) == ("openvino", "fp32", 1)
    assert [seen["shapes"] for seen in shown["shapes"]] == [{"x": [2, 4]}]
    assert shown["files"][0]["path"] == "saved_model.pb"
    by_hash = run(capsys, "model", "show", shown["stored"]["model"][:10], "--store", store)
    assert by_hash == shown
    assert main(["model", "show", "seven", "--store", str(store)]) == 0
    assert "called with x [2, 4]" in capsys.readouterr().out


def test_one_that_is_known_by_name_is_found_by_it(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`ei compile ssd_mobilenet_v2_coco` keeps the file that this name stands for."""
    known = next(iter(zoo.MODELS.values()))
    monkeypatch.setattr(zoo, "MODELS", {known.name: replace(known, file_name="seven")})
    assert run(capsys, "model", "show", known.name, "--store", store)["stored"]["name"] == "seven"


def test_an_unknown_one_is_told(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "remove"):
        assert main(["model", command, "nine", "--store", str(store)]) == ExitCode.NOT_FOUND
        assert "no model 'nine' is stored in" in capsys.readouterr().err
    assert main(["model", "remove", "--store", str(store)]) == ExitCode.BAD_INPUT
    assert main(["model", "list", "--store", str(store / "none")]) == ExitCode.BAD_INPUT


def test_a_removed_one_is_gone_and_the_other_stays(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    removed = run(capsys, "model", "remove", "seven", "--store", store)
    assert removed["freed_bytes"] > 0
    assert [row["name"] for row in run(capsys, "model", "list", "--store", store)] == ["eight"]
    run(capsys, "model", "remove", "--all", "--store", store)
    assert run(capsys, "model", "list", "--store", store) == []
    assert list((store / "blobs").iterdir()) == []


def test_an_empty_store_says_where_known_models_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EI_CACHE_DIR", str(tmp_path))
    assert main(["model"]) == 0
    assert "nothing is stored; `ei models` lists" in capsys.readouterr().out


def test_a_folder_that_others_may_write_is_not_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    for published, text in (
        (folder, "can be written by other users"),
        (tmp_path / "none", "is not a folder"),
    ):
        assert (
            main(["host", "start", "--published", str(published), "--state-dir", str(tmp_path)])
            == ExitCode.BAD_INPUT
        )
        assert text in capsys.readouterr().err
