"""What a pool remembers, and that two services of one pool never both write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.errors import Fenced, InvalidInput
from elastic_inference.host.accounts.capacity import Capacity, DeviceCapacity
from elastic_inference.host.accounts.catalogue import cpu_types
from elastic_inference.host.devices import Device
from elastic_inference.pool.model import HostState, Request
from elastic_inference.pool.offer import HostOffer
from elastic_inference.pool.store import HostRow, PlacementRow, PoolStore
from elastic_inference.pool.versions import Version
from tests.host.conftest import postgresql_server as postgresql_server
from tests.host.conftest import postgresql_url as postgresql_url

GIB = 1 << 30
CPU = DeviceCapacity("cpu:0", 2.0, 16 * GIB, "cpu", 8.0)
OFFER = HostOffer(
    Version("1.0", 1),
    Capacity((CPU,), host=CPU),
    {kind.name: kind for kind in cpu_types(16 * GIB)},
    (Device("cpu:0", "cpu", "a CPU", 8.0, 16 * GIB, {"fp32": 2.0}),),
    frozenset({"bf16"}),
    {"cpu:0": "limits"},
)
HOST = HostRow("a1", "n1", "http://10.0.0.1:8500", "secret", 3, HostState.READY, OFFER)


@pytest.fixture(params=["sqlite", "postgresql"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], PoolStore]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        return lambda: _opened(PoolStore(url))
    return lambda: _opened(PoolStore.at_path(tmp_path / "pool.db"))


def _opened(store: PoolStore) -> PoolStore:
    store.open()
    return store


def test_a_successor_finds_what_was_written(open_store: Callable[[], PoolStore]) -> None:
    first = open_store()
    assert first.take_over() == 1
    placement = PlacementRow(
        "eia-1", "a1", 3, 2, Request("cpu.half", models=frozenset({"ab"})), {"memory": "8 GiB"}
    )
    first.put_host(HOST)
    first.put_placement(placement)
    first.close()
    second = open_store()
    assert second.take_over() == 2
    assert second.list_hosts() == [HOST]
    assert second.list_placements() == [placement]
    assert second.placement("eia-1") == placement
    assert second.placement("eia-2") is None
    second.remove("eia-1")
    second.remove_host("a1")
    assert second.list_hosts() == second.list_placements() == []
    second.close()


def test_a_service_that_was_given_up_can_neither_write_nor_read(open_store: Callable[[], PoolStore]) -> None:
    old, new = open_store(), open_store()
    old.take_over()
    old.put_host(HOST)
    assert old.is_current()
    new.take_over()
    assert not old.is_current()
    for call in (lambda: old.put_host(HOST), old.list_hosts, lambda: old.remove("eia-1"), old.list_all):
        with pytest.raises(Fenced, match="another pool service took over"):
            call()
    assert new.list_hosts() == [HOST]
    for store in (old, new):
        store.close()


def test_a_host_of_another_version_tells_what_cannot_be_read() -> None:
    with pytest.raises(InvalidInput, match="install the same version everywhere"):
        HostOffer.from_json({"version": "0.0"})
    assert HostOffer.load(OFFER.dump()) == OFFER
