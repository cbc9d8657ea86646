"""A database that is lost while a host attaches and detaches, and found again: nothing of it is left or forgotten."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from sqlalchemy.exc import OperationalError

from elastic_inference.errors import StartFailed
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.host import Host
from tests.host.support import wait_until

KINDS = (AcceleratorType("small", 512 * 1024**2, device_share=0.25),)
OpenHost = Callable[..., Host]


class LostDatabase:
    """A host's database that can be lost after some more transactions, as far as the host can see."""

    def __init__(self, host: Host) -> None:
        self._num_left = math.inf
        host.store.before_each_transaction(self._check)

    def lose_after(self, num_transactions: int) -> None:
        self._num_left = num_transactions

    def find_again(self) -> bool:
        """Whether it was away at all."""
        was_away, self._num_left = self._num_left < 0, math.inf
        return was_away

    def _check(self) -> None:
        self._num_left -= 1
        if self._num_left < 0:
            raise OperationalError("BEGIN", None, OSError("the database is away"))


def left_over(host: Host) -> list[str]:
    """What there is of any accelerator."""
    ids = [record.accelerator_id for record in host.store.list_all()] + list(host.service.capacity.held)
    folders = [*host.folder.accelerators.iterdir(), *host.folder.homes.iterdir()]
    return [*ids, *map(str, folders), *map(str, host.limits.list_existing()), *map(str, host.users._held)]


def test_of_an_attach_without_a_database_nothing_is_left(open_host: OpenHost) -> None:
    """It is lost at the first, second, ... transaction of the attach, and back after it has failed."""
    host = open_host(user_types=KINDS)
    database = LostDatabase(host)
    for num_transactions in range(50):
        database.lose_after(num_transactions)
        with contextlib.suppress(OperationalError, StartFailed):
            record, _ = host.service.attach("small")
            break
        assert database.find_again()
        wait_until(lambda: not left_over(host), "all of it to be gone")
    assert num_transactions > 5
    database.find_again()
    host.service.detach(record.accelerator_id)
    assert left_over(host) == []


def test_a_detach_that_a_lost_database_broke_off_is_finished_later(open_host: OpenHost) -> None:
    host = open_host(user_types=KINDS)
    database = LostDatabase(host)
    for num_transactions in range(50):
        record, _ = host.service.attach("small")
        assert record.process is not None
        database.lose_after(num_transactions)
        try:
            host.service.detach(record.accelerator_id)
            break
        except OperationalError:
            assert database.find_again()
        if record.process.is_alive():  # it had not begun
            host.service.detach(record.accelerator_id)
        wait_until(lambda: not left_over(host), "all of it to be gone")
        assert not record.process.is_alive()
    database.find_again()
    assert num_transactions > 5
    assert left_over(host) == []
