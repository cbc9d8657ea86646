"""Which Ray cluster is meant, and how soon it is said that none answers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from elastic_inference.errors import ConnectError, InvalidInput
from elastic_inference.pool.clusters import (
    LocalCluster,
    check_answers,
    check_is_node,
    choose_cluster,
    forget_cluster,
    remember_cluster,
    remembered_cluster,
)
from elastic_inference.pool.host_folders import chosen_folder

MINE = os.geteuid()
OTHER = MINE + 1


@pytest.fixture(autouse=True)
def no_address_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_auto_is_the_one_cluster_of_this_user() -> None:
    known = [LocalCluster("10.0.0.1:6379", MINE), LocalCluster("10.0.0.1:6380", OTHER)]
    assert choose_cluster("auto", known) == "10.0.0.1:6379"
    assert choose_cluster("10.0.0.9:1", known) == "10.0.0.9:1"


def test_auto_takes_nobody_elses_cluster_and_does_not_guess() -> None:
    with pytest.raises(InvalidInput, match=r"other users': 10\.0\.0\.1:6380"):
        choose_cluster("auto", [LocalCluster("10.0.0.1:6380", OTHER)])
    with pytest.raises(InvalidInput, match=r"2 Ray clusters run on this machine: a:1 .*, a:2 .*--ray"):
        choose_cluster("auto", [LocalCluster("a:1", MINE), LocalCluster("a:2", MINE)])
    with pytest.raises(ConnectError, match="ray start --head"):
        choose_cluster("auto", [])


def test_a_machine_that_is_no_node_is_told_so() -> None:
    check_is_node("head:6379", [LocalCluster("10.0.0.1:6380", MINE), LocalCluster("10.0.0.1:6379", OTHER)])
    with pytest.raises(ConnectError, match=r"no node of the Ray cluster head:6379; .*--address head:6379"):
        check_is_node("head:6379", [])
    with pytest.raises(ConnectError, match=r"head:6379 \(but of 10\.0\.0\.1:16379 "):
        check_is_node("head:6379", [LocalCluster("10.0.0.1:16379", MINE)])


def test_auto_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.7:6379")
    assert choose_cluster("auto", [LocalCluster("a:1", MINE)]) == "10.0.0.7:6379"


@pytest.mark.parametrize("wanted", ["local", "ray://head:10001", "unix:/tmp/x", "head", "head:0"])
def test_what_is_no_address_is_refused(wanted: str) -> None:
    with pytest.raises(InvalidInput):
        choose_cluster(wanted, [])


@contextlib.contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Something that listens and says this to whoever comes; None: nothing."""
    held = []

    def accept(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = sock.accept()
                held.append(peer)
                if answer is not None:
                    peer.sendall(answer)
                    peer.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=accept, args=(sock,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{sock.getsockname()[1]}"
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(10)
    for peer in held:
        peer.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [(None, "timed out"), (b"HTTP/1.1 400 no\r\n\r\n", "does not speak gRPC"), (b"", "gRPC")],
)
def test_what_listens_and_is_no_ray_is_named(answer: bytes | None, why: str) -> None:
    with (
        server(answer) as address,
        pytest.raises(ConnectError, match=f"{address} is no Ray cluster: .*{why}"),
    ):
        check_answers(address, 1.0)


def test_where_nothing_listens_is_said() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        with pytest.raises(ConnectError, match=f"no Ray cluster answers at {address}: .*refused"):
            check_answers(address)


def test_a_state_directory_knows_its_cluster(tmp_path: Path) -> None:
    assert remembered_cluster(tmp_path) is None
    remember_cluster(tmp_path, "10.0.0.1:6379")
    assert remembered_cluster(tmp_path) == "10.0.0.1:6379"
    (tmp_path / "cluster.json").write_text("[")
    assert remembered_cluster(tmp_path) is None
    forget_cluster(tmp_path)
    forget_cluster(tmp_path)


def test_a_new_node_takes_the_folder_of_one_that_is_gone(tmp_path: Path) -> None:
    with chosen_folder(tmp_path, "aa" * 28) as first:
        (first / "ballast").write_text("much")
        lock = (first / "supervisor.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with chosen_folder(tmp_path, "bb" * 28) as second:
        assert second != first  # whose host is kept by somebody
    with chosen_folder(tmp_path, "aa" * 28) as again:
        assert again == first  # an actor that Ray started again
    (first / "node.json").write_text('["another machine", "aa"]')
    lock.close()
    with chosen_folder(tmp_path, "cc" * 28) as third:
        assert third == second  # nobody keeps it, and it is of this machine
    assert not (tmp_path / "cc").exists()


def test_a_folder_whose_host_still_ends_is_left_alone(tmp_path: Path) -> None:
    with chosen_folder(tmp_path, "aa" * 28) as first, (first / "lock").open("w") as host:
        pass
    with (first / "lock").open("w") as host:
        fcntl.flock(host, fcntl.LOCK_EX)
        with chosen_folder(tmp_path, "bb" * 28) as second:
            assert second != first
