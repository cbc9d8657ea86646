"""Loading with real accelerators: what was loaded once is there the next time, for whoever shares the store."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from elastic_inference import Accelerator, CapacityExceeded, EIPredictor, LoadOptions
from elastic_inference.cli import main
from elastic_inference.engines.stages import Stage
from elastic_inference.models.artifacts.blobs import BlobFolder
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.models.package import ModelPackage
from elastic_inference.testing import start_accelerator
from tests.integration.small_models import expected as right
from tests.integration.small_models import write_saved_model
from tests.models.artifacts.disks import make_read_only, small_disk
from tests.waiting import files_of, read_line, wait_until

SEED = 3
X = np.arange(8, dtype=np.float32).reshape(2, 4)
ANSWER = right(SEED, "serving_default", X)["outputs"]
OFF = LoadOptions(proof="off", warm_up=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SavedModel."""
    return write_saved_model(tmp_path_factory.mktemp("model") / "model", SEED)


def predictor(model: Path, cache_dir: Path | Literal[False], load: LoadOptions = OFF) -> EIPredictor:
    place = Accelerator.embedded(threads=1, cache_dir=cache_dir and str(cache_dir))
    return EIPredictor(model, accelerator=place, load=load)


def check(predict: EIPredictor) -> None:
    np.testing.assert_allclose(predict({"x": X})["outputs"], ANSWER, rtol=1e-5)


def stored(store: Path) -> set[Path]:
    return {path for path in store.rglob("*") if path.is_file()}


def test_a_second_accelerator_takes_model_and_compiled_model_from_the_store(
    model: Path, tmp_path: Path
) -> None:
    with predictor(model, tmp_path) as first:
        assert first.report.source.startswith("compiled here in ")
        check(first)
    with predictor(model, tmp_path) as second:
        assert second.report.source.startswith("from the store, compiled on 20")
        assert "from the store" in second.report.summary()
        check(second)
    with predictor(model, False) as without:
        assert without.report.source.startswith("compiled here in ")
        check(without)


def test_the_store_is_in_the_cache_directory_without_being_asked_for(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EI_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("EI_STORE_SIZE", "0")
    with EIPredictor(model, num_threads=1, proof="off") as predict:
        assert predict.report.source.startswith("compiled here in ")
    assert stored(tmp_path) == set()
    monkeypatch.setenv("EI_STORE_SIZE", "300MiB")
    for source in ("compiled here in ", "from the store, "):
        with EIPredictor(model, num_threads=1, proof="off") as predict:
            assert predict.report.source.startswith(source)
    kinds = {found.kind for found in ArtifactStore.at(tmp_path / "store").artifacts()}
    assert kinds >= {Kind.MODEL, Kind.PLAN, Kind.COMPILED}


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "removed"])
def test_damaged_files_are_sent_and_compiled_again(model: Path, tmp_path: Path, damage: str) -> None:
    with predictor(model, tmp_path) as first:
        check(first)
    for path in (tmp_path / "blobs").iterdir():
        os.chmod(path, 0o600)
        content = path.read_bytes()
        match damage:
            case "empty":
                path.write_bytes(b"")
            case "cut":
                path.write_bytes(content[: len(content) // 2])
            case "changed":
                path.write_bytes(content[:-20] + bytes(20))
            case "removed":
                path.unlink()
    with predictor(model, tmp_path) as second:
        assert second.report.source.startswith("compiled here in ")
        check(second)
    with predictor(model, tmp_path) as third:
        assert third.report.source.startswith("from the store, ")
        check(third)


def test_accelerators_that_load_the_same_at_once_share_one_compiled_model(
    model: Path, tmp_path: Path
) -> None:
    def load(threads: int) -> str:
        place = Accelerator.embedded(
            threads=1, cache_dir=str(tmp_path), allow_unsafe_operations=bool(threads)
        )
        with EIPredictor(model, accelerator=place, load=OFF) as predict:
            check(predict)
            return predict.report.source

    with ThreadPoolExecutor(2) as threads:
        sources = sorted(threads.map(load, range(2)))
    assert [source.partition(" ")[0] for source in sources] == ["compiled", "from"]
    assert len([1 for found in ArtifactStore.at(tmp_path).artifacts() if found.kind is Kind.COMPILED]) == 1


def test_a_store_that_is_removed_under_a_running_accelerator_changes_no_answer(
    model: Path, tmp_path: Path
) -> None:
    with predictor(model, tmp_path / "store") as predict:
        check(predict)
        wait_until(lambda: _is_removed(tmp_path / "store"), "the end of the store")
        check(predict)
        # The same process, and another load: the model is sent again.
        with predictor(model, tmp_path / "store", LoadOptions(proof="off", engine="openvino")) as other:
            check(other)
        check(predict)


def _is_removed(folder: Path) -> bool:
    """Try to remove a folder, which fails where the accelerator writes into it at that moment."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def test_a_store_that_cannot_be_written_is_told_and_the_model_loads_all_the_same(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with predictor(model, tmp_path / "file" / "store") as predict:
        check(predict)
    assert "models are not kept for the next load" in capfd.readouterr().err


def test_a_full_disk_is_told_and_neighbours_go_on(model: Path, tmp_path: Path) -> None:
    with predictor(model, tmp_path) as neighbour, small_disk(260) as disk:
        (disk / "filler").write_bytes(bytes(4 << 20))  # the reserve of 256 MiB is left, and nothing else
        with pytest.raises(
            CapacityExceeded, match=r"the disk has 0 B left for models, 256\.0 MiB are kept free"
        ):
            predictor(model, disk / "store")
        check(neighbour)
        (disk / "filler").unlink()
        with predictor(model, disk / "store") as predict:
            check(predict)


def test_a_disk_that_may_only_be_read_is_told_and_the_model_loads_all_the_same(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with predictor(model, tmp_path) as neighbour, small_disk(300) as disk:
        with predictor(model, disk / "store") as first:
            check(first)
        make_read_only(disk)
        before = {path: path.stat().st_mtime_ns for path in stored(disk)}
        with predictor(model, disk / "store") as predict:
            check(predict)
        assert "models are not kept for the next load" in capfd.readouterr().err
        check(neighbour)
        assert {path: path.stat().st_mtime_ns for path in stored(disk)} == before


def test_a_disk_that_becomes_read_only_under_a_running_accelerator_changes_no_answer(
    model: Path, tmp_path: Path
) -> None:
    other_model = write_saved_model(tmp_path / "other", SEED + 2)
    with small_disk(300) as disk, predictor(model, disk / "store") as predict:
        check(predict)
        make_read_only(disk)
        check(predict)
        with pytest.raises(CapacityExceeded, match="Read-only file system"):
            predictor(other_model, disk / "store")
        check(predict)


def test_two_accelerators_on_one_store_do_not_miss_what_one_of_them_removes(
    model: Path, tmp_path: Path
) -> None:
    def started() -> Any:
        return start_accelerator(artifacts_dir=str(tmp_path), num_threads=1)

    def place(running: Any) -> Accelerator:
        return Accelerator.at(running.address, token=running.token)

    with started() as one, started() as other:
        with EIPredictor(model, accelerator=place(one), load=OFF) as first:
            check(first)
            with EIPredictor(model, accelerator=place(other), load=OFF) as second:
                assert second.report.source.startswith("from the store, ")
                assert main(["model", "remove", "--all", "--store", str(tmp_path)]) == 0
                check(first)
                check(second)
        os.kill(one.pid, signal.SIGKILL)
        with EIPredictor(model, accelerator=place(other), load=OFF) as again:
            check(again)  # it is loaded there still
        with started() as third, EIPredictor(model, accelerator=place(third), load=OFF) as anew:
            assert anew.report.source.startswith("compiled here in ")
            check(anew)
    assert {found.kind for found in ArtifactStore.at(tmp_path).artifacts()} >= {Kind.MODEL, Kind.COMPILED}


def test_a_store_too_small_for_the_compiled_model_says_so_in_the_report(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(path.stat().st_size for path in stored(model))
    monkeypatch.setenv("EI_STORE_SIZE", str(size + 500))
    for _ in range(2):
        with predictor(model, tmp_path) as predict:
            assert re.match(
                r"compiled here in .* s; not kept for the next load: the model store", predict.report.source
            )
            check(predict)


def test_a_store_too_small_for_the_model_says_what_it_would_need(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EI_STORE_SIZE", "100 B")
    with pytest.raises(CapacityExceeded, match=r"may hold 100 B; .* more do not fit"):
        predictor(model, tmp_path)


def test_shapes_seen_before_are_warmed_up_by_the_next_accelerator(model: Path, tmp_path: Path) -> None:
    warm = LoadOptions(proof="off")
    with predictor(model, tmp_path, warm) as first:
        check(first)
    store = ArtifactStore.at(tmp_path)
    shapes = [found.about["shapes"] for found in store.artifacts() if found.kind is Kind.SHAPES]
    assert [[each["shapes"] for each in seen] for seen in shapes] == [[{"x": [2, 4]}]]
    with predictor(model, tmp_path, warm) as second:
        assert second.report.warm_up_seconds > 0
        check(second)


def test_a_load_does_not_hold_the_turn_that_other_models_wait_for(model: Path, tmp_path: Path) -> None:
    """A frozen graph whose reading takes seconds loads while another model answers."""
    slow = write_saved_model(tmp_path / "slow", SEED + 1)
    with start_accelerator(artifacts_dir=str(tmp_path / "store")) as running:
        place = Accelerator.at(running.address, token=running.token)
        with EIPredictor(
            model, accelerator=place, load=LoadOptions(proof="off", engine="openvino")
        ) as predict:
            store = ArtifactStore.at(tmp_path / "store")
            what = next(found.key for found in store.artifacts() if found.kind is Kind.COMPILED)
            package = ModelPackage.read(slow)
            key = {**what, "model": package.content_hash}
            with ThreadPoolExecutor(1) as threads, store.making(Kind.COMPILED, key):
                # The load waits for the lock of who compiles the same elsewhere.
                load = threads.submit(
                    EIPredictor, slow, accelerator=place, load=LoadOptions(proof="off", engine="openvino")
                )
                lock = next((tmp_path / "store" / "locks").iterdir())
                wait_until(lambda: lock in files_of(running.pid), "the load waits for the lock")
                for _ in range(20):
                    check(predict)
                assert not load.done()
            with load.result(60) as loaded:
                assert loaded.report.engine == "openvino"


def test_what_the_operator_published_is_neither_sent_nor_compiled_by_tenants(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with predictor(model, tmp_path / "operator") as predict:
        check(predict)
    published = tmp_path / "published"
    arguments = ["model", "publish", "model", "--to", str(published), "--store", str(tmp_path / "operator")]
    assert main(arguments) == 0
    assert "published model with 1 compiled" in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in stored(published)}
    assert {path.stat().st_mode & 0o777 for path in before} == {0o444}
    for tenant in ("one", "other"):
        own = tmp_path / tenant
        config = {"artifacts_dir": str(own), "published_dir": str(published), "num_threads": 1}
        with start_accelerator(**config) as running:  # type: ignore[arg-type]
            place = Accelerator.at(running.address, token=running.token)
            with EIPredictor(model, accelerator=place, load=OFF) as predict:
                assert predict.report.source.startswith("from the operator's store, compiled on 20")
                check(predict)
        assert list((own / "blobs").iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in stored(published)} == before


PROGRAM = """
import sys
from elastic_inference import EIPredictor, Accelerator, LoadOptions
print("begins", flush=True)
place = Accelerator.embedded(threads=1, cache_dir=sys.argv[2])
EIPredictor(sys.argv[1], accelerator=place, load=LoadOptions(proof="off", warm_up=False))
print("loaded", flush=True)
"""


def test_a_program_that_is_killed_while_it_loads_leaves_a_store_that_works(
    model: Path, tmp_path: Path
) -> None:
    for number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, model, tmp_path],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert read_line(process) == "begins"
        time.sleep(0.15 * number)  # the moment is what is tested
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
    with predictor(model, tmp_path) as predict:
        check(predict)
    with predictor(model, tmp_path) as predict:
        assert predict.report.source.startswith("from the store, ")
        check(predict)
    later = BlobFolder(tmp_path, wall_clock=lambda: time.time() + 7200)
    later.clean()
    assert list((tmp_path / "arriving").iterdir()) == list((tmp_path / "open").iterdir()) == []


def test_stages_of_a_first_load_are_told_in_their_order_and_a_later_one_has_fewer(
    model: Path, tmp_path: Path
) -> None:
    """The accelerator waits for the lock of who compiles the same, so that the client sees what it does."""
    order = [stage.value for stage in Stage]
    store = ArtifactStore.at(tmp_path / "store")
    with start_accelerator(artifacts_dir=str(tmp_path / "store")) as running:
        place = Accelerator.at(running.address, token=running.token)
        load = LoadOptions(proof="off", engine="openvino")
        with EIPredictor(model, accelerator=place, load=load) as predict:
            check(predict)
        what = next(found.key for found in store.artifacts() if found.kind is Kind.COMPILED)
        other = write_saved_model(tmp_path / "other", SEED + 5)
        told: list[str] = []
        with ThreadPoolExecutor(1) as threads:
            key = {**what, "model": ModelPackage.read(other).content_hash}
            with store.making(Kind.COMPILED, key):
                loading = threads.submit(
                    EIPredictor, other, accelerator=place, load=load, on_stage=told.append
                )
                wait_until(lambda: Stage.READING.value in told, "the client is told that the model is read")
            with loading.result(60):
                pass
        assert told[0] == "sending"
        assert told[1:] == sorted(told[1:], key=order.index)
        with EIPredictor(model, accelerator=place, load=load, on_stage=told.append) as predict:
            check(predict)  # it is loaded: nothing is told of the accelerator
        assert told[-1] == "sending"


def test_stages_in_this_process(model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    load = LoadOptions(engine="openvino", cache_dir=str(tmp_path))
    for _ in range(2):
        told.clear()
        with EIPredictor(model, accelerator=Accelerator.local(), load=load, on_stage=told.append) as predict:
            check(predict)
        stages = [Stage(each) for each in told]
        assert stages[0] is Stage.READING
        assert (Stage.COMPILING in stages) is (Stage.REWRITING in stages)
    assert Stage.COMPILING not in stages  # from the store
