"""What lost its host is placed again: all of one host in order, each once, and a slow one holds up no other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.pool.homeless import Homeless
from elastic_inference.pool.model import Request
from elastic_inference.pool.store import PoolStore
from tests.waiting import wait_until

KIND = AcceleratorType("small", 1 << 28, device_share=0.1)
PRIORITIES = {"eia-low": 0, "eia-middle": 1, "eia-high": 2}


class Returning:
    """A pool's database, and what is placed: it begins when it is told to go, and serves when it may end."""

    def __init__(self, store: PoolStore, num_workers: int) -> None:
        self.store = store
        self.begun: list[str] = []
        self.slow: dict[str, threading.Event] = {}
        self.failing: set[str] = set()
        self.workers = ThreadPoolExecutor(num_workers)
        self.homeless = Homeless(store, self._request_of, self.workers, self._place)

    def _request_of(self, accelerator_id: str) -> Request:
        return Request("small", priority=PRIORITIES.get(accelerator_id, 0))

    def _place(self, record: AcceleratorRecord, request: Request) -> None:  # noqa: ARG002
        key = record.accelerator_id
        self.begun.append(key)
        if key in self.slow:
            assert self.slow[key].wait(60)
        if key not in self.failing:
            self.store.change(key, state=State.READY)

    def lose(self, *accelerator_ids: str) -> None:
        with self.homeless.noting:
            for each in accelerator_ids:
                self.homeless.note(each)

    def serves(self, accelerator_id: str) -> bool:
        record = self.store.get(accelerator_id)
        return record is not None and record.state is State.READY


@pytest.fixture
def returning(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Returning]:
    store = PoolStore.at_path(tmp_path / "pool.db")
    store.open()
    store.take_over()
    for key in (*PRIORITIES, "eia-other"):
        store.add(
            AcceleratorRecord(
                accelerator_id=key,
                name=key,
                kind=KIND,
                device="",
                share=0.1,
                token_sha256="ab" * 32,
                created_at=1000.0,
                state=State.RESTARTING,
            )
        )
    found = Returning(store, getattr(request, "param", 4))
    yield found
    for each in found.slow.values():
        each.set()
    found.workers.shutdown()
    store.close()


def test_one_that_starts_slowly_holds_up_none_that_is_lost_after_it(returning: Returning) -> None:
    returning.slow["eia-low"] = threading.Event()
    returning.lose("eia-low")
    returning.homeless.begin()
    wait_until(lambda: returning.begun == ["eia-low"], "the slow one's begin")
    returning.lose("eia-other")
    returning.homeless.begin()
    wait_until(lambda: returning.serves("eia-other"), "the other one")
    assert not returning.serves("eia-low")
    returning.slow["eia-low"].set()
    wait_until(lambda: returning.serves("eia-low"), "the slow one")
    assert returning.begun == ["eia-low", "eia-other"]  # each once, though it was asked twice


@pytest.mark.parametrize("returning", [1], indirect=True)
def test_none_is_placed_before_all_that_its_host_had_is_known(returning: Returning) -> None:
    with returning.homeless.noting:
        returning.homeless.note("eia-low")
        beginning = threading.Thread(target=returning.homeless.begin)
        beginning.start()
        returning.homeless.note("eia-high")
        returning.homeless.note("eia-middle")
    beginning.join(60)
    wait_until(lambda: all(map(returning.serves, PRIORITIES)), "all of them")
    assert returning.begun == ["eia-high", "eia-middle", "eia-low"]


def test_one_that_found_no_place_is_tried_again_and_one_that_was_detached_is_not(
    returning: Returning,
) -> None:
    returning.failing.add("eia-low")
    returning.store.remove("eia-middle")
    returning.lose("eia-low", "eia-middle")

    def is_tried_again() -> bool:
        returning.homeless.begin()
        return returning.begun.count("eia-low") > 1

    wait_until(is_tried_again, "a second try")
    returning.failing.clear()

    def is_back() -> bool:
        returning.homeless.begin()
        return returning.serves("eia-low")

    wait_until(is_back, "the one that failed")
    assert "eia-middle" not in returning.begun
