"""Models by name: loaded once for all that ask, tried again after a failure, taken away, and known after a restart."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.accelerator import model_table
from elastic_inference.accelerator.model_entry import ModelEntry, ModelState
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.model_table import MAX_FAILED, ModelTable
from elastic_inference.accelerator.queue import RequestQueue
from elastic_inference.engines import registry
from elastic_inference.engines.base import EngineOptions, EngineReport, LoadedModel
from elastic_inference.errors import (
    DeadlineExceeded,
    ElasticInferenceError,
    InvalidInput,
    MemoryQuotaExceeded,
    ModelError,
    ModelNotFound,
    UnsupportedModel,
)
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import Signature, SignatureRequest
from elastic_inference.tensors import TensorSpec
from tests.waiting import wait_until


class Engine:
    """A registered engine whose loads wait, fail and are counted as the test says."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.may_load = threading.Event()
        self.may_load.set()
        self.is_loading = threading.Event()
        self.models: list[Model] = []

    def load(self, package: ModelPackage, request: SignatureRequest, options: EngineOptions) -> LoadedModel:  # noqa: ARG002
        self.is_loading.set()
        assert self.may_load.wait(30)
        if self.failures:
            raise self.failures.pop(0)
        self.models.append(Model())
        return self.models[-1]


class Model(LoadedModel):
    """Answers nothing; knows whether it was closed."""

    def __init__(self) -> None:
        self.signature = Signature({"x": TensorSpec("x:0", "int32", (1,))}, {}, frozenset({"x"}))
        self.report = EngineReport("scripted", "1", "none", "fp32", 1, 0.0)
        self.is_closed = False

    def predict(self, inputs: Any) -> dict[str, Any]:
        assert inputs["x"].dtype == np.int32
        return {}

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def engine() -> Iterator[Engine]:
    value = Engine()
    registry.register("scripted", value.load, ())  # for no format: it is taken by its name only
    yield value
    registry.unregister("scripted")


def make_table(folder: Path, memory_limit_bytes: int | None = None) -> ModelTable:
    queue = RequestQueue(10)
    return ModelTable(
        ModelStore(ArtifactStore.at(folder)), folder / "loaded", EngineOptions(), queue, memory_limit_bytes
    )


def load_body(folder: Path, content: bytes = b"model", **more: Any) -> dict[str, Any]:
    """The body of a load whose file is in the store."""
    sha256 = hashlib.sha256(content).hexdigest()
    left = memoryview(content)
    ModelStore(ArtifactStore.at(folder)).append(
        sha256, 0, len(content), lambda wanted: left[:wanted], len(content)
    )
    file = {"path": "m.testing", "size_bytes": len(content), "sha256": sha256}
    described = {"format": "testing", "files": [file]}
    return {"package": described, "signature": {}, "engine": "scripted", **more}


def test_clients_that_load_the_same_at_once_share_one_model(tmp_path: Path, engine: Engine) -> None:
    table, body = make_table(tmp_path), load_body(tmp_path)
    with ThreadPoolExecutor(8) as threads:
        entries = list(threads.map(lambda _: table.load("m", body), range(8)))
    assert len(engine.models) == 1
    assert all(entry is entries[0] for entry in entries)
    assert entries[0].state is ModelState.READY


def test_a_request_waits_for_a_model_that_loads(tmp_path: Path, engine: Engine) -> None:
    table, body = make_table(tmp_path), load_body(tmp_path)
    engine.may_load.clear()
    with ThreadPoolExecutor(2) as threads:
        loading = threads.submit(table.load, "m", body)
        assert engine.is_loading.wait(30)
        with pytest.raises(DeadlineExceeded, match="still loading"):
            table.ready("m", 0.0)
        waiting = threads.submit(table.ready, "m", 30.0)
        engine.may_load.set()
        assert waiting.result(30) is loading.result(30)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (UnsupportedModel("no such op"), UnsupportedModel),
        (MemoryError("bad_alloc"), MemoryQuotaExceeded),
        (RuntimeError("engine burst"), ModelError),
    ],
)
def test_a_failed_load_is_told_to_all_and_may_be_tried_again(
    tmp_path: Path, engine: Engine, raised: Exception, told: type[Exception]
) -> None:
    table, body = make_table(tmp_path), load_body(tmp_path)
    engine.failures.append(raised)
    with pytest.raises(told):
        table.load("m", body)
    with pytest.raises(told):
        table.ready("m")
    assert table.entry("m").state is ModelState.UNAVAILABLE
    assert table.entry("m").reason
    assert table.load("m", body).state is ModelState.READY
    assert table.ready("m").error is None


def test_a_load_whose_warm_up_is_wrong_keeps_no_model(tmp_path: Path, engine: Engine) -> None:
    table, body = make_table(tmp_path), load_body(tmp_path, warm_up={"nothing": [1]})
    with pytest.raises(InvalidInput, match="nothing"):
        table.load("m", body)
    assert [model.is_closed for model in engine.models] == [True]


def test_a_model_larger_than_the_memory_is_refused_with_both_figures(tmp_path: Path, engine: Engine) -> None:
    table, body = make_table(tmp_path, memory_limit_bytes=100), load_body(tmp_path, bytes(101))
    with pytest.raises(MemoryQuotaExceeded) as refused:
        table.load("m", body)
    assert (refused.value.requested_bytes, refused.value.limit_bytes) == (101, 100)
    assert engine.models == []


def test_a_name_that_is_taken_by_another_model_is_refused(tmp_path: Path, engine: Engine) -> None:
    table = make_table(tmp_path)
    table.load("m", load_body(tmp_path))
    with pytest.raises(InvalidInput, match="loaded already"):
        table.load("m", load_body(tmp_path, b"other"))
    assert len(engine.models) == 1


@pytest.mark.parametrize("name", ["", ".m", "../m", "a/b", "a" * 201, "a\n", "ä"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="model name"):
        make_table(tmp_path).load(name, load_body(tmp_path))


@pytest.mark.parametrize(
    "change",
    [{"package": 1}, {"signature": None}, {"engine": 5}, {"precision": "fp7"}, {"precision": ["fp32"]}],
)
def test_a_malformed_load_is_refused(tmp_path: Path, engine: Engine, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        make_table(tmp_path).load("m", load_body(tmp_path) | change)
    assert engine.models == []


def test_unload_waits_for_the_request_that_runs_and_closes(tmp_path: Path, engine: Engine) -> None:
    queue = RequestQueue(0)  # nobody may wait, but unloading is the accelerator's own work
    table = ModelTable(ModelStore(ArtifactStore.at(tmp_path)), tmp_path / "loaded", EngineOptions(), queue)
    entry = table.load("m", load_body(tmp_path))
    with ThreadPoolExecutor(1) as threads:
        with queue.turn(None):
            unloading = threads.submit(table.unload, "m")
            wait_until(lambda: queue.statistics().num_waiting)
            assert entry.model is not None
            assert not engine.models[0].is_closed
        unloading.result(30)
    assert engine.models[0].is_closed
    assert entry.model is None
    with pytest.raises(ModelNotFound):
        table.ready("m")
    with pytest.raises(ModelNotFound):
        table.unload("m")
    assert list((tmp_path / "loaded").iterdir()) == []


@pytest.mark.usefixtures("engine")
def test_a_restart_knows_the_models_before_it_serves(tmp_path: Path) -> None:
    body = load_body(tmp_path)
    make_table(tmp_path).load("m", body)
    restarted = make_table(tmp_path)
    restarted.recall()
    assert restarted.entry("m").state is ModelState.LOADING
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(restarted.ready, "m", 30.0)
        restarted.reload()
        assert waiting.result(30).state is ModelState.READY
    assert restarted.load("m", body) is restarted.entry("m")


def test_what_cannot_be_loaded_again_at_once_is_tried_again_while_its_requests_wait(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a descriptor too few for a moment: nobody but the accelerator would load the model again."""
    monkeypatch.setattr(model_table, "RELOAD_PAUSES_SECONDS", (0.01, 0.01))
    table = make_table(tmp_path)
    for name in ("a", "b"):
        table.load(name, load_body(tmp_path, name.encode()))
    engine.failures += [OSError(errno.EMFILE, "Too many open files")] * 3  # of both, then of a
    restarted = make_table(tmp_path)
    restarted.recall()
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(restarted.ready, name, 30.0) for name in ("a", "b")]
        restarted.reload()
        assert [one.result(30).state for one in waiting] == [ModelState.READY] * 2


def test_records_that_cannot_be_read_are_left_out_and_the_others_load(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_table, "RELOAD_PAUSES_SECONDS", ())
    table = make_table(tmp_path)
    for name in ("a", "m", "z"):
        table.load(name, load_body(tmp_path, name.encode()))
    records = tmp_path / "loaded"
    (records / "a").write_text("{half of a rec")
    (records / "b").write_text(json.dumps([1]))
    (records / "c").write_text(json.dumps({"package": {"format": "testing", "files": [{"path": "x"}]}}))
    (records / "d").write_bytes(b"\xff\xfe")
    (records / "e").mkdir()
    (records / ".m").write_text("half written")
    engine.failures.append(RuntimeError("engine burst"))  # of m, which is loaded before z
    restarted = make_table(tmp_path)
    restarted.recall()
    restarted.reload()
    assert {e.name: e.state for e in restarted.entries()} == {
        "m": ModelState.UNAVAILABLE,
        "z": ModelState.READY,
    }


def test_of_loads_that_fail_for_ever_the_last_few_are_kept(tmp_path: Path, engine: Engine) -> None:
    table = make_table(tmp_path)
    for number in range(3 * MAX_FAILED):
        engine.failures.append(UnsupportedModel("no"))
        with pytest.raises(UnsupportedModel):
            table.load(f"m{number}", load_body(tmp_path))
    names = [entry.name for entry in table.entries()]
    assert names == [f"m{number}" for number in range(2 * MAX_FAILED, 3 * MAX_FAILED)]
    assert table.load("m1", load_body(tmp_path)).state is ModelState.READY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"precison": "bf16"},
            "load: unknown field 'precison'; known are package, signature, engine, precision",
        ),
        ({"package": 3}, "load: package must be an object, not 3"),
        ({"signature": None}, "load: signature must be an object, not None"),
        ({"engine": 1}, "load: engine must be a string or null, not 1"),
        ({"precision": ["bf16"]}, "load: precision must be a string or null"),
        ({"precision": "fp8"}, "precision 'fp8' is not one of"),
        ({"engine": ""}, "engine ''"),
        ({"warm_up": "no"}, "load: warm_up must be true or false or an object, not 'no'"),
        ({"warm_up": {"x": 3}}, r"load: warm_up\['x'\] must be a list, not 3"),
        ({"warm_up": {"x": [1, "2"]}}, r"load: warm_up\['x'\]\[1\] must be an integer, not '2'"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_load_names_the_field_that_is_wrong(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    body = load_body(tmp_path, **changes)
    with pytest.raises(ElasticInferenceError, match=message):
        make_table(tmp_path).load("m", body)


def test_load_without_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="load: field 'package' is missing; it must be an object"):
        make_table(tmp_path).load("m", {"signature": {}})


class UnloadedBeforeItsRecord(ModelTable):
    """A table in which another client unloads each model after it is loaded, and before that is written down."""

    def _record(self, entry: ModelEntry) -> None:
        self.unload(entry.name)
        super()._record(entry)


@pytest.mark.usefixtures("engine")
def test_a_model_that_was_unloaded_meanwhile_is_not_known_after_a_restart(tmp_path: Path) -> None:
    records = tmp_path / "loaded"
    table = UnloadedBeforeItsRecord(
        ModelStore(ArtifactStore.at(tmp_path)), records, EngineOptions(), RequestQueue(10)
    )
    with pytest.raises(ModelNotFound):
        table.load("m", load_body(tmp_path))
    assert list(records.iterdir()) == []
    restarted = make_table(tmp_path)
    restarted.recall()
    assert restarted.entries() == []
