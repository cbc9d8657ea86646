"""Who goes when there are too many connections, decided and with real sockets."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.accelerator.admission import Admission
from elastic_inference.accelerator.server import MAX_CONNECTIONS
from elastic_inference.client.connection import Address, Connection
from elastic_inference.errors import CapacityExceeded
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

VECTOR = {"x": ("uint8", (None,))}


@dataclass(eq=False)
class Guest:
    opened_at: float
    idle_since: float = 0.0
    is_answering: bool = False
    is_proven: bool = False


def filled(admission: Admission[Guest], guests: list[Guest]) -> None:
    for guest in guests:
        assert admission.enter(guest) is None


def test_there_is_room_until_half_are_strangers() -> None:
    admission: Admission[Guest] = Admission(8)
    strangers = [Guest(float(number)) for number in range(4)]
    filled(admission, strangers)
    assert admission.enter(Guest(9.0)) is strangers[0]


def test_a_stranger_goes_before_any_client() -> None:
    admission: Admission[Guest] = Admission(4)
    clients = [Guest(0.0, idle_since=float(number), is_proven=True) for number in range(3)]
    stranger = Guest(5.0)
    filled(admission, [*clients, stranger])
    assert admission.enter(Guest(9.0)) is stranger


def test_of_clients_the_one_goes_that_was_idle_for_longest() -> None:
    admission: Admission[Guest] = Admission(4)
    clients = [Guest(0.0, idle_since=since, is_proven=True) for since in (3.0, 1.0, 2.0, 4.0)]
    filled(admission, clients)
    assert admission.enter(Guest(9.0)) is clients[1]


def test_an_answer_is_never_broken_off() -> None:
    admission: Admission[Guest] = Admission(2)
    busy = [Guest(0.0, is_answering=True, is_proven=True), Guest(1.0, is_answering=True)]
    filled(admission, busy)
    with pytest.raises(CapacityExceeded, match="all 2 connections"):
        admission.enter(Guest(9.0))
    admission.leave(busy[0])
    assert admission.enter(Guest(9.0)) is None


@pytest.fixture
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator(("tcp:127.0.0.1:0", "unix:{folder}/a.sock")) as running:
        yield running


def test_idle_strangers_lock_nobody_out(accelerator: RunningAccelerator, tmp_path: Path) -> None:
    endpoint = Endpoint.parse(accelerator.endpoints[0])
    model = write_model(tmp_path / "echo.testing", inputs=VECTOR, outputs=VECTOR)
    value = {"x": np.arange(5, dtype=np.uint8)}
    with contextlib.ExitStack() as stack:
        for _ in range(2 * MAX_CONNECTIONS + 100):
            stack.enter_context(socket.create_connection((endpoint.host, endpoint.port), 10.0))
        for address in accelerator.endpoints:
            with EIPredictor(
                model, address=address, token=accelerator.token, timeout_seconds=20.0, use_shared_memory=False
            ) as predict:
                assert (predict(value)["x"] == value["x"]).all()


def test_a_flood_over_tcp_leaves_the_unix_socket_alone(accelerator: RunningAccelerator) -> None:
    """The host's control comes by the Unix socket, and must get an answer on each of its connections."""
    tcp, unix = map(Endpoint.parse, accelerator.endpoints)
    stop = threading.Event()

    def flood() -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for _ in itertools.takewhile(lambda _: not stop.is_set(), range(4000)):
                stack.enter_context(socket.create_connection((tcp.host, tcp.port), 10.0))

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for _ in range(50):
            with contextlib.closing(Connection(Address(unix, accelerator.token), 20.0)) as connection:
                assert connection.call("GET", "/v2/accelerator")["accelerator_id"]
    finally:
        stop.set()
        flooding.join(60.0)
    assert not flooding.is_alive()


def test_a_client_that_was_sent_away_connects_again_by_itself(
    accelerator: RunningAccelerator, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "echo.testing", inputs=VECTOR, outputs=VECTOR)
    address = Address(Endpoint.parse(accelerator.endpoints[0]), accelerator.token)
    value = {"x": np.arange(5, dtype=np.uint8)}
    with (
        EIPredictor(model, address=accelerator.endpoints[0], token=accelerator.token) as predict,
        contextlib.ExitStack() as stack,
    ):
        assert (predict(value)["x"] == value["x"]).all()
        for _ in range(MAX_CONNECTIONS + 10):  # with good tokens: they push out who is idle for longest
            connection = stack.enter_context(contextlib.closing(Connection(address, 20.0)))
            connection.call("GET", "/v2/accelerator")
        assert (predict(value)["x"] == value["x"]).all()
