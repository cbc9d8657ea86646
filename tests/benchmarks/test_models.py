"""The comparison with other people's models: its list, what it unpacks, and that it sees what is wrong."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.models import fetch, listing, product, run, samples, table
from benchmarks.models.listing import Model, Package
from benchmarks.models.samples import Port

from tests.engines.onnx_convolutions import write_convolutions

ROOT = Path(__file__).parents[2]
PACKAGE = Package("a", "1", "pypi", "MIT")
SHAPES = {"x": {"shapes": [[1, 3, 20, 30], [2, 3, 9, 8]]}}


def test_the_list_names_at_least_60_models_of_pinned_packages() -> None:
    models = listing.models()
    assert len(models) >= 60
    assert len({model.key for model in models}) == len(models)
    assert {model.package.registry for model in models} == {"pypi", "npm"}
    assert Counter(model.format for model in models).keys() >= {
        "ONNX",
        "TFLite",
        "SavedModel",
        "Keras",
        "TorchScript",
    }
    assert all(model.package.version and model.package.licence for model in models)


@pytest.mark.parametrize("path", ["/etc/passwd.onnx", "../x.onnx", "a/../x.onnx", "a/readme.txt"])
def test_a_path_outside_the_package_or_of_no_model_is_refused(path: str, tmp_path: Path) -> None:
    head = '[[package]]\nname = "a"\nversion = "1"\nregistry = "pypi"\nlicence = "MIT"\n'
    listed = tmp_path / "list.toml"
    listed.write_text(f'{head}groups = [{{ models = ["{path}"] }}]')
    with pytest.raises(ValueError, match=r"does not lie inside a package|of no format"):
        listing.models(listed)


FILES = {
    "m/a.onnx": b"a",
    "m/a.onnx.data": b"data",
    "m/b.onnx": b"b",
    "m/saved/saved_model.pb": b"s",
    "m/saved/../../../outside": b"x",
    "m/setup.py": b"x",
}


@pytest.mark.parametrize("kind", ["wheel", "npm"])
def test_only_the_files_of_listed_models_are_unpacked(kind: str, tmp_path: Path) -> None:
    archive, target = tmp_path / ("a.whl" if kind == "wheel" else "a.tgz"), tmp_path / "out/deep"
    if kind == "wheel":
        with zipfile.ZipFile(archive, "w") as wheel:
            for name, data in FILES.items():
                wheel.writestr(name, data)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            for name, data in FILES.items():
                entry = tarfile.TarInfo(f"package/{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            link = tarfile.TarInfo("package/m/saved/link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    fetch.unpack(archive, [Model(PACKAGE, "m/a.onnx"), Model(PACKAGE, "m/saved")], target)
    found = {str(path.relative_to(tmp_path)) for path in (tmp_path / "out").rglob("*") if not path.is_dir()}
    assert found == {f"out/deep/m/{name}" for name in ("a.onnx", "a.onnx.data", "saved/saved_model.pb")}


def test_a_file_beyond_the_bound_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("a.onnx", bytes(5000))
    with pytest.raises(fetch.NotFetched, match=r"a\.onnx is larger than"):
        fetch.unpack(tmp_path / "a.whl", [Model(PACKAGE, "a.onnx")], tmp_path / "out")


def test_samples_are_the_same_each_time_and_as_listed() -> None:
    ports = [Port("x", "float32", (None, 3)), Port("n", "int64", ()), Port("t", "str", (None,))]
    listed = {"x": {"values": [-2, 2]}, "n": {"values": 16000}, "t": {"texts": ["red", "green"]}}
    one, other = (samples.make(ports, listed) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert [sample["x"].shape for sample in one] == [(1, 3), (2, 3)]
    assert one[0]["x"].min() >= -2
    assert one[0]["n"] == 16000
    assert one[1]["t"].tolist() == ["red", "green"]
    with pytest.raises(ValueError, match="the list has no shape for input 'x'"):
        samples.make([Port("x", "float32", (1, None))], {})


def test_differences_are_seen() -> None:
    wanted = {"y": np.float32([1, 2])}
    assert product.compare({"y": np.float32([1, 2.0001])}, wanted) == []
    assert product.compare({"y": np.float32([1, 2.01])}, wanted) == ["y differs by up to 0.01 (of 2)"]
    assert product.compare({"y": np.float32([1, np.nan])}, wanted)
    assert product.compare({"y": np.float64([1, 2])}, wanted) == ["y is float64[2], not float32[2]"]
    assert product.compare({"z": wanted["y"]}, wanted) == ["outputs ['z'] instead of ['y']"]
    assert product.compare({"y": np.int64([1, 3])}, {"y": np.int64([1, 2])}) == ["y differs in 1 of 2 values"]


def test_a_model_runs_on_both_and_a_process_that_does_not_end_is_told(tmp_path: Path) -> None:
    path = write_convolutions(tmp_path / "convolutions.onnx")
    model = Model(PACKAGE, "convolutions.onnx", SHAPES)
    outcome = run.run(model, path, sys.executable, 120)
    assert (outcome.verdict, outcome.engine, outcome.detail) == (run.WORKS, "openvino", "")
    assert outcome.runtime.startswith("onnxruntime ")
    late = run.run(model, path, sys.executable, 0.01)
    assert late.verdict == run.NOT_RUN
    assert late.detail == "its own runtime did not end within 0 s"


def test_what_both_refuse_is_told_with_both_texts(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    outcome = run.run(Model(PACKAGE, "broken.onnx"), path, sys.executable, 120)
    assert outcome.verdict == run.BOTH
    assert "its own runtime: " in outcome.detail
    assert "ours: InvalidModel: " in outcome.detail


def test_the_documents_table_is_that_of_the_last_run() -> None:
    found = json.loads((ROOT / "benchmarks/models/results.json").read_text())["models"]
    outcomes = [run.Outcome(**{**each, "notes": tuple(each["notes"])}) for each in found]
    assert table.markdown(outcomes) in (ROOT / "docs/models.md").read_text()
    assert {outcome.key for outcome in outcomes} == {model.key for model in listing.models()}
    assert not [outcome.key for outcome in outcomes if outcome.verdict == run.BAD]
    assert run.BAD in table.markdown([replace(outcomes[0], verdict=run.BAD)])
