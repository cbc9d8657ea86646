"""Sending a model: what is there is not sent again, what broke off goes on, and what changed meanwhile is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.client import upload as module
from elastic_inference.client.connection import Address, ConnectionPool
from elastic_inference.client.upload import upload
from elastic_inference.deadline import Deadline
from elastic_inference.errors import CapacityExceeded, DeadlineExceeded, InvalidInput
from elastic_inference.models.package import ModelPackage
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import RunningAccelerator, start_accelerator


@pytest.fixture
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator() as running:
        yield running


@pytest.fixture
def pool(accelerator: RunningAccelerator) -> Iterator[ConnectionPool]:
    with contextlib.closing(pool_of(accelerator)) as value:
        yield value


def pool_of(accelerator: RunningAccelerator) -> ConnectionPool:
    return ConnectionPool(Address(Endpoint.parse(accelerator.address), accelerator.token))


def write_saved_model(folder: Path) -> ModelPackage:
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph" * 300_000)
    (folder / "variables/variables.index").write_bytes(b"")
    (folder / "variables/variables.data").write_bytes(bytes(range(256)) * 20_000)
    return ModelPackage.read(folder)


def blob(accelerator: RunningAccelerator, sha256: str) -> Path:
    return Path(accelerator.config.store_dir) / "artifacts" / "blobs" / sha256


def test_all_files_arrive_and_progress_tells_it(
    accelerator: RunningAccelerator, pool: ConnectionPool, tmp_path: Path
) -> None:
    package = write_saved_model(tmp_path)
    told: list[tuple[int, int]] = []
    upload(pool, package, lambda sent, total: told.append((sent, total)))
    for file in package.files:
        assert blob(accelerator, file.sha256).read_bytes() == (tmp_path / file.path).read_bytes()
    assert [sent for sent, _ in told] == sorted(sent for sent, _ in told)
    assert {total for _, total in told} == {package.size_bytes}
    assert told[-1][0] == package.size_bytes


def test_what_is_there_is_not_sent_again(pool: ConnectionPool, tmp_path: Path) -> None:
    package = write_saved_model(tmp_path)
    upload(pool, package)
    for file in package.files:
        (tmp_path / file.path).write_bytes(b"changed")  # would be noticed, were it read
    upload(pool, package)


@pytest.mark.parametrize("num_known", [1, 700_000, 1_499_999, 1_500_000])
def test_an_upload_goes_on_where_it_ended(
    accelerator: RunningAccelerator, pool: ConnectionPool, tmp_path: Path, num_known: int
) -> None:
    package = write_saved_model(tmp_path)
    graph = next(file for file in package.files if file.path == "saved_model.pb")
    content = (tmp_path / graph.path).read_bytes()
    (Path(accelerator.config.store_dir) / "artifacts" / "arriving" / graph.sha256).write_bytes(
        content[:num_known]
    )
    # Only what is missing is right here, so sending all of it again would end in a wrong hash.
    start = min(num_known, len(content) - 1)
    (tmp_path / graph.path).write_bytes(bytes(start) + content[start:])
    upload(pool, package)
    assert blob(accelerator, graph.sha256).read_bytes() == content


@pytest.mark.parametrize("content", [b"grap", b"other" * 300_000], ids=["shorter", "other bytes"])
def test_a_file_that_changes_while_it_is_sent_is_told(
    accelerator: RunningAccelerator, pool: ConnectionPool, tmp_path: Path, content: bytes
) -> None:
    package = write_saved_model(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InvalidInput):
        upload(pool, package)
    assert not any(blob(accelerator, f.sha256).exists() for f in package.files if f.path == "saved_model.pb")


def test_a_store_without_room_is_told_with_figures(tmp_path: Path) -> None:
    package = write_saved_model(tmp_path)
    with start_accelerator(store_limit_bytes=1 << 20) as small, contextlib.closing(pool_of(small)) as pool:
        with pytest.raises(CapacityExceeded) as refused:
            upload(pool, package)
        assert refused.value.requested
        assert refused.value.available == "1.0 MiB"


def test_no_time_left_is_told_and_sends_nothing_more(pool: ConnectionPool, tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded):
        upload(pool, write_saved_model(tmp_path), deadline=Deadline(0.0))


def test_large_files_go_in_chunks(
    accelerator: RunningAccelerator, pool: ConnectionPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", 100_000)
    package = write_saved_model(tmp_path)
    told: list[int] = []
    upload(pool, package, lambda sent, total: told.append(sent))  # noqa: ARG005
    assert len(told) > package.size_bytes // 100_000
    assert all(blob(accelerator, file.sha256).exists() for file in package.files)
