"""Models brought from one accelerator to another: real processes, and folders that their accelerator tampered with."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client.connection import Address
from elastic_inference.client.remote import RemoteModel
from elastic_inference.deadline import Deadline
from elastic_inference.host.processes.folders import AcceleratorFolder
from elastic_inference.pool.handover import endpoint_between_hosts, hand_over
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from elastic_inference.testing.accelerator import RunningAccelerator, start_accelerator
from tests.integration.tiny_model import write_doubling_graph

UID = os.geteuid()


@pytest.fixture
def folder(tmp_path: Path) -> AcceleratorFolder:
    """What an accelerator keeps that has loaded a model."""
    found = AcceleratorFolder(tmp_path / "old")
    found.path.mkdir()
    changes = {"store_dir": str(found.store), "artifacts_dir": str(found.artifacts)}
    model = write_doubling_graph(tmp_path / "doubling.pb")
    with start_accelerator(**changes) as old:
        predictor = predict_at(old, model)
        assert predictor({"x": np.float32([2])})["y"].tolist() == [4]
        old.process.kill()  # as it is while it runs: what was loaded is written down
        old.process.wait(60)
    return found


@pytest.fixture
def new() -> Iterator[RunningAccelerator]:
    with start_accelerator() as accelerator:
        yield accelerator


def predict_at(accelerator: RunningAccelerator, model: Path) -> EIPredictor:
    return EIPredictor(
        str(model),
        input_names={"x": "x:0"},
        output_names={"y": "y:0"},
        address=accelerator.address,
        token=accelerator.token,
        proof="off",
    )


def bring(folder: AcceleratorFolder, new: RunningAccelerator, uid: int = UID) -> dict[str, str]:
    return hand_over(folder, uid, Address(Endpoint.parse(new.address), new.token), Deadline(60.0))


def names(accelerator: RunningAccelerator) -> set[str]:
    listed = request_json(
        Endpoint.parse(accelerator.address), "POST", "/v2/repository/index", {}, token=accelerator.token
    )
    return {each["name"] for each in listed}


def test_what_was_loaded_is_loaded_there(
    folder: AcceleratorFolder, new: RunningAccelerator, tmp_path: Path
) -> None:
    told = bring(folder, new)
    assert list(told.values()) == [""]
    assert names(new) == set(told)
    with predict_at(new, tmp_path / "doubling.pb") as predictor:
        assert isinstance(predictor._model, RemoteModel)
        assert predictor._model.name in told  # by the name that its clients call
        assert predictor({"x": np.float32([3])})["y"].tolist() == [6]


def blob_of(folder: AcceleratorFolder) -> Path:
    """Return the model's own file; beside it lies what an engine made of it."""
    content = (folder.path.parent / "doubling.pb").read_bytes()
    return folder.artifacts / "blobs" / hashlib.sha256(content).hexdigest()


def link_blob(folder: AcceleratorFolder) -> None:
    blob = blob_of(folder)
    kept = blob.rename(folder.path / "elsewhere")
    blob.symlink_to(kept)


def link_blobs(folder: AcceleratorFolder) -> None:
    kept = (folder.artifacts / "blobs").rename(folder.path / "elsewhere")
    (folder.artifacts / "blobs").symlink_to(kept)


def pipe_blob(folder: AcceleratorFolder) -> None:
    blob = blob_of(folder)
    blob.unlink()
    os.mkfifo(blob)


def lose_blob(folder: AcceleratorFolder) -> None:
    blob = blob_of(folder)
    blob.unlink()


@pytest.mark.parametrize("tamper", [link_blob, link_blobs, pipe_blob, lose_blob])
def test_no_link_is_followed_and_nothing_but_files_is_read(
    folder: AcceleratorFolder, new: RunningAccelerator, tamper: Callable[[AcceleratorFolder], None]
) -> None:
    tamper(folder)
    (why,) = bring(folder, new).values()
    assert why
    assert names(new) == set()


def test_a_record_that_is_no_load_is_left_out(folder: AcceleratorFolder, new: RunningAccelerator) -> None:
    (record,) = (each for each in (folder.store / "loaded").iterdir() if not each.name.startswith("."))
    text = record.read_text()
    record.with_name("broken").write_text(text[:20])
    record.with_name("list").write_text("[]")
    record.with_name("linked").symlink_to(record)
    record.with_name("outside").write_text(text.replace('"sha256": "', '"sha256": "../'))
    told = bring(folder, new)
    assert set(told) == {record.name, "outside"}
    assert told[record.name] == ""
    assert "64 hexadecimal" in told["outside"]


def test_files_of_another_user_are_not_read(folder: AcceleratorFolder, new: RunningAccelerator) -> None:
    assert bring(folder, new, UID + 1) == {}


def test_nothing_loaded_is_nothing_to_bring(tmp_path: Path, new: RunningAccelerator) -> None:
    assert bring(AcceleratorFolder(tmp_path), new) == {}


def test_another_host_is_reached_over_the_network() -> None:
    assert endpoint_between_hosts(["unix:/run/a.sock", "tcp:10.0.0.7:5000"]) == "tcp:10.0.0.7:5000"
    assert endpoint_between_hosts(["unix:/run/a.sock"]) == "unix:/run/a.sock"
