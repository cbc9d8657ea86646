"""What lies in a folder of models, told from names alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.accelerator.repository import layout
from elastic_inference.errors import InvalidInput


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def found(root: Path) -> dict[str, dict[int, str]]:
    return {
        name: {number: v.path.relative_to(root).as_posix() for number, v in model.versions.items()}
        for name, model in layout.scan(root, "cpu:0").items()
    }


def test_files_folders_and_versions_are_models(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a.onnx", "b/saved_model.pb", "b/variables/variables.index", "c/1/saved_model.pb", "c/12/saved_model.pb",
        "d/1/model.onnx", "d/1/weights.bin", "d/2/model.savedmodel/saved_model.pb", "e/net.tflite", "f/model.graphdef",
        "README.md", ".hidden/1/model.onnx",
    )  # fmt: skip
    assert found(tmp_path) == {
        "a": {1: "a.onnx"},
        "b": {1: "b"},
        "c": {1: "c/1", 12: "c/12"},
        "d": {1: "d/1/model.onnx", 2: "d/2/model.savedmodel"},
        "e": {1: "e/net.tflite"},
        "f": {1: "f/model.graphdef"},
    }


@pytest.mark.parametrize(
    "names", [("saved_model.pb",), ("1/model.onnx", "2/model.onnx"), ("model.onnx", "model.toml")]
)
def test_a_folder_that_is_a_model_itself_has_its_own_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = put(tmp_path / "resnet", *names)
    (folder / "model.toml").exists() and (folder / "model.toml").write_text("")
    assert list(layout.scan(folder, "cpu:0")) == ["resnet"]


def test_why_a_folder_is_one_model_is_said(tmp_path: Path) -> None:
    put(tmp_path, "resnet/1/model.onnx", "models/a.onnx")
    assert layout.scan(tmp_path / "models", "cpu:0")["a"].note == ""
    assert "it holds numbered versions alone" in layout.scan(tmp_path / "resnet", "cpu:0")["resnet"].note
    (tmp_path / "models" / "model.toml").write_text("")
    note = layout.scan(tmp_path / "models", "cpu:0")["models"].note
    assert note == f"the whole folder {tmp_path / 'models'} is this one model: model.toml lies at its root"


@pytest.mark.parametrize("settings", ["model.toml", "config.pbtxt"])
def test_settings_at_the_root_of_a_folder_of_models_are_refused(tmp_path: Path, settings: str) -> None:
    put(tmp_path, "a/1/model.onnx", "b/net.tflite", "c/saved_model.pb", "1/model.onnx", "notes/text.md")
    (tmp_path / settings).write_text("")
    with pytest.raises(
        InvalidInput, match=f"{settings} lies at its root.* other models lie in it: a, b, c; move"
    ):
        layout.scan(tmp_path, "cpu:0")


def test_a_model_that_is_a_folder_beside_its_settings_is_no_other(tmp_path: Path) -> None:
    folder = put(tmp_path / "m", "model.savedmodel/saved_model.pb")
    (folder / "model.toml").write_text("")
    assert found(folder) == {"m": {1: "model.savedmodel"}}


def test_the_file_of_several_that_is_the_model(tmp_path: Path) -> None:
    put(tmp_path, "a/1/x.onnx", "a/1/y.onnx", "b/1/model.onnx", "b/1/other.onnx", "c/1/x.onnx", "c/1/y.onnx")
    (tmp_path / "c" / "model.toml").write_text('model_file = "y.onnx"\n')
    models = layout.scan(tmp_path, "cpu:0")
    assert "several models, x.onnx, y.onnx" in models["a"].versions[1].problem
    assert models["b"].versions[1].path.name == "model.onnx"
    assert models["c"].versions[1].path.name == "y.onnx"


def test_two_of_one_name_and_wrong_settings_are_problems(tmp_path: Path) -> None:
    put(tmp_path, "a.onnx", "a.tflite", "b/model.onnx", "b/model.toml", "c/model.onnx")
    (tmp_path / "b" / "model.toml").write_text("engine = 3\n")
    (tmp_path / "c" / "config.pbtxt").write_text("sequence_batching { }\n")
    models = layout.scan(tmp_path, "cpu:0")
    assert "are both called a" in models["a"].problem
    assert "engine must be a string or null, not 3" in models["b"].problem
    assert "config.pbtxt: sequence_batching is not offered" in models["c"].problem


def test_whatever_is_written_changes_the_stamp(tmp_path: Path) -> None:
    put(tmp_path, "a/1/model.onnx", "a/2/model.onnx")
    before = layout.scan(tmp_path, "cpu:0")["a"].versions
    put(tmp_path, "a/2/data.bin")
    after = layout.scan(tmp_path, "cpu:0")["a"].versions
    assert (before[1] == after[1], before[2] == after[2]) == (True, False)
    (tmp_path / "a" / "model.toml").write_text("versions = 2\n")
    assert layout.scan(tmp_path, "cpu:0")["a"].versions[1] != after[1]


def test_versions_that_are_chosen(tmp_path: Path) -> None:
    put(tmp_path, *(f"a/{number}/model.onnx" for number in (1, 2, 9, 10)))
    for text, wanted in (("", [10]), ("versions = 2", [10, 9]), ('versions = "all"', [10, 9, 2, 1]),
                         ("versions = [1, 7]", [7, 1])):  # fmt: skip
        (tmp_path / "a" / "model.toml").write_text(text)
        model = layout.scan(tmp_path, "cpu:0")["a"]
        assert model.settings.choose(list(model.versions)) == wanted
    for text in ("versions = 0", 'versions = "some"', "versions = []"):
        (tmp_path / "a" / "model.toml").write_text(text)
        assert "versions must be" in layout.scan(tmp_path, "cpu:0")["a"].problem


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the folder of models"):
        layout.scan(tmp_path / "none", "cpu:0")
    assert layout.scan(tmp_path, "cpu:0") == {}
