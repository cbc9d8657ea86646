"""A host keeps processes to the cores of its plan and says by what means."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.errors import LimitError
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord
from elastic_inference.host.accounts.state import StateStore
from elastic_inference.host.processes.cores import CoreKeeper
from elastic_inference.limits.base import MEBIBYTE, LimitRequest
from elastic_inference.limits.rlimit import RlimitAndDutyCycle

FIRST, SECOND = (f"eia-{digit * 32}" for digit in "12")


def record(accelerator_id: str, share: float, device: str = "cpu:0") -> AcceleratorRecord:
    kind = AcceleratorType("any", 512 * MEBIBYTE, device_share=share)
    return AcceleratorRecord(
        accelerator_id, accelerator_id, kind, device, share, token_sha256=accelerator_id, created_at=0.0
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StateStore]:
    store = StateStore.at_path(tmp_path / "state.db")
    store.open()
    yield store
    store.close()


@pytest.fixture
def limits() -> Iterator[RlimitAndDutyCycle]:
    limits = RlimitAndDutyCycle()
    yield limits
    for accelerator_id in limits.list_existing():
        limits.release(accelerator_id)


def start(limits: RlimitAndDutyCycle, accelerator_id: str) -> subprocess.Popen[bytes]:
    limits.apply(LimitRequest(accelerator_id, 0.5, 2.0, 128 * MEBIBYTE))
    process = subprocess.Popen(["sleep", "100"])
    limits.add_process(accelerator_id, process.pid)
    return process


def test_the_statement_names_cores_and_means_while_an_accelerator_is_attached(
    store: StateStore, limits: RlimitAndDutyCycle
) -> None:
    keeper = CoreKeeper(store, limits, {"cpu:0": 1.0})
    store.add(record(FIRST, 1.0))
    store.add(record(SECOND, 1.0, device="cuda:0"))
    assert keeper.describe(FIRST) is None
    keeper.refresh(started=FIRST)
    core = min(os.sched_getaffinity(0))
    assert keeper.describe(FIRST) == f"{core} by affinity of threads"
    assert keeper.describe(SECOND) is None
    keeper.refresh()
    assert keeper.describe(FIRST) == f"{core} by affinity of threads"
    store.remove(FIRST)
    keeper.refresh()
    assert keeper.describe(FIRST) is None


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_one_that_has_to_make_room_is_moved_and_its_neighbour_is_not(
    store: StateStore, limits: RlimitAndDutyCycle
) -> None:
    keeper = CoreKeeper(store, limits, {"cpu:0": 2.0})
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with start(limits, FIRST) as grows, start(limits, SECOND) as makes_room:
        for accelerator_id in (FIRST, SECOND):
            store.add(record(accelerator_id, 0.25))
            keeper.refresh(started=accelerator_id)
        assert [os.sched_getaffinity(process.pid) for process in (grows, makes_room)] == [{first}, {first}]
        os.sched_setaffinity(grows.pid, {first, second})  # which a plan that stays does not touch
        store.change(FIRST, share=0.5)
        keeper.refresh()
        assert os.sched_getaffinity(grows.pid) == {first, second}
        assert os.sched_getaffinity(makes_room.pid) == {second}
        assert keeper.describe(SECOND) == f"{second} by affinity of threads"
        for accelerator_id in (FIRST, SECOND):
            limits.release(accelerator_id)


class Refusing(RlimitAndDutyCycle):
    """Limits of a kernel that moves one accelerator nowhere."""

    def keep_to_cores(self, accelerator_id: str, cores: frozenset[int]) -> str:
        if accelerator_id == FIRST:
            raise LimitError("the kernel refuses")
        return super().keep_to_cores(accelerator_id, cores)


def test_a_neighbour_that_cannot_be_moved_is_named_in_the_log_and_does_not_stand_in_the_way(
    store: StateStore, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = CoreKeeper(store, Refusing(), {"cpu:0": 1.0})
    for accelerator_id in (FIRST, SECOND):
        store.add(record(accelerator_id, 0.5))
    keeper.refresh(started=SECOND)
    assert keeper.describe(FIRST) is None
    assert keeper.describe(SECOND) is not None
    (line,) = caplog.records
    assert (vars(line)["accelerator_id"], vars(line)["why"]) == (FIRST, "the kernel refuses")
    with pytest.raises(LimitError, match="the kernel refuses"):
        keeper.refresh(started=FIRST)
