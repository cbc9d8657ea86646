"""How a process is told what it is: by a pipe, or by a socket with the descriptors of its lease."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.errors import InvalidInput
from elastic_inference.limits.lease.holder import LeaseConfig

CONFIG = AcceleratorConfig("eia-" + 32 * "0", ("tcp:127.0.0.1:0",), "/store")


@pytest.fixture
def lease() -> LeaseConfig:
    return LeaseConfig(os.memfd_create("rules"), os.memfd_create("turns"), 3)


def test_a_configuration_without_a_lease_comes_by_a_pipe() -> None:
    ours, theirs = os.pipe()
    with open(theirs, "w") as pipe:
        pipe.write(CONFIG.to_json() + "\n")
    assert AcceleratorConfig.receive(ours) == CONFIG
    os.close(ours)


@pytest.mark.parametrize("num_limits", [0, 20_000])  # the latter is larger than what one read returns
def test_a_configuration_comes_by_a_socket_with_its_descriptors(lease: LeaseConfig, num_limits: int) -> None:
    os.write(lease.turns_fd, b"accounts")
    config = replace(CONFIG, lease=lease, limits={f"limit {n}": "held" for n in range(num_limits)})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        config.send(ours)
        received = AcceleratorConfig.receive(theirs.fileno())
    assert received.lease is not None
    assert os.pread(received.lease.turns_fd, 8, 0) == b"accounts"
    assert not os.get_inheritable(received.lease.turns_fd)
    assert replace(received, lease=lease) == config
    for fd in (*lease.fds, *received.lease.fds):
        os.close(fd)


def test_a_lease_whose_descriptors_did_not_come_is_refused(lease: LeaseConfig) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(replace(CONFIG, lease=lease).to_json().encode() + b"\n")
        with pytest.raises(InvalidInput, match="0 descriptors, not 2"):
            AcceleratorConfig.receive(theirs.fileno())
    for fd in lease.fds:
        os.close(fd)


def test_an_input_that_ends_without_a_configuration_is_refused() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(InvalidInput, match="not JSON"):
        AcceleratorConfig.receive(theirs.fileno())
