"""A device shared by lease on a real host: attach, limits told, resize, death, the host's own restart, the end."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_inference.errors import AcceleratorNotFound, InvalidInput
from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.host import Host, HostSettings
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.protocol.requests import request_json
from tests.host.conftest import DEVICE, GIB, HostProcess
from tests.host.support import predictor, wait_until

TYPES = tuple(AcceleratorType(f"share-{share}", GIB // 2, device_share=share / 100) for share in (25, 50))


def open_leased(open_host: Callable[..., Host]) -> Host:
    return open_host(cpu_sharing="lease", user_types=TYPES)


def test_accelerators_of_a_shared_device_compute_and_are_counted_by_their_leases(
    open_host: Callable[..., Host], model: Path
) -> None:
    host = open_leased(open_host)
    attached = [host.service.attach(name) for name in ("share-25", "share-50")]
    for record, token in attached:
        with predictor(record.endpoints[0], token, model) as predict:
            assert predict({"x": [1.0, 2.0]})["y"].tolist() == [2.0, 4.0]
        statistics = host.leases.statistics(record.accelerator_id)
        assert statistics.weight == record.share
        assert statistics.num_leases >= 1
        metrics = request_json(Endpoint.parse(record.endpoints[0]), "GET", "/metrics", token=token)
        assert f"elastic_inference_lease_share {record.share}" in str(metrics)
        assert host.service.limits_of(record)["compute"] == f"{record.share:.0%} of cpu:0's time, by lease"
    assert host.status()["devices"][0]["sharing"] == "lease"


def test_a_resize_weighs_the_lease_of_the_running_process(open_host: Callable[..., Host]) -> None:
    host = open_leased(open_host)
    record, _ = host.service.attach("share-25")
    changed, is_restarted = host.service.resize(record.accelerator_id, "share-50")
    assert not is_restarted
    assert changed.process == host.service.get(record.accelerator_id).process
    assert host.leases.statistics(record.accelerator_id).weight == 0.5


def test_an_accelerator_that_died_has_its_lease_again(open_host: Callable[..., Host], model: Path) -> None:
    host = open_leased(open_host)
    record, token = host.service.attach("share-25")
    assert record.process is not None
    os.kill(record.process.pid, signal.SIGKILL)
    wait_until(
        lambda: (
            host.service.get(record.accelerator_id).num_restarts == 1
            and host.service.get(record.accelerator_id).state.value == "ready"
        ),
        "the accelerator to be started again",
    )
    with predictor(record.endpoints[0], token, model) as predict:
        assert predict({"x": [1.0]})["y"].tolist() == [2.0]
    assert host.leases.statistics(record.accelerator_id).num_leases >= 1


def test_a_detached_accelerator_has_no_lease(open_host: Callable[..., Host]) -> None:
    host = open_leased(open_host)
    record, _ = host.service.attach("share-25")
    host.service.detach(record.accelerator_id, drain_seconds=0)
    with pytest.raises(AcceleratorNotFound):
        host.leases.statistics(record.accelerator_id)


def start_leased(start_host: Callable[..., HostProcess], state_dir: Path, *arguments: str) -> HostProcess:
    types = state_dir.parent / "types.toml"
    types.write_text('["share-25"]\nmemory = "512MiB"\ndevice_share = 0.25\n')
    return start_host("--types", str(types), *arguments)


@pytest.mark.parametrize("sharing", ["lease", "limits"])
def test_a_host_that_was_killed_adopts_those_that_share_the_device_as_it_does(
    start_host: Callable[..., HostProcess], state_dir: Path, model: Path, sharing: str
) -> None:
    host = start_leased(start_host, state_dir, "--cpu-sharing", "lease")
    attachment = host.session().attach("share-25", lease_seconds=None)
    before = socket_owner(attachment.endpoints)
    host.kill()
    again = start_leased(start_host, state_dir, "--cpu-sharing", sharing)

    def serves() -> bool:
        view = again.session().request("GET", f"/v1/accelerators/{attachment.accelerator_id}")
        return bool(view["state"] == "ready")

    wait_until(serves, "the accelerator to serve under the new host")
    with predictor(attachment.endpoints[0], attachment.token, model) as predict:
        assert predict({"x": [1.0]})["y"].tolist() == [2.0]
    assert (socket_owner(attachment.endpoints) == before) == (sharing == "lease")


def socket_owner(endpoints: tuple[str, ...]) -> int:
    """The process at the other end of an accelerator's Unix socket."""
    path = next(text.removeprefix("unix:") for text in endpoints if text.startswith("unix:"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"gpu_sharing": "fifo"}, "'fifo' is not one of lease, mps, mig"),
        ({"cpu_sharing": "mps"}, "'mps' is not one of limits, lease"),
    ],
)
def test_ways_of_sharing_that_are_not_there_are_refused(
    changes: dict[str, str], text: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=text):
        HostSettings(state_dir=tmp_path, devices=(DEVICE,), **changes)  # type: ignore[arg-type]


def test_a_way_of_sharing_must_fit_the_gpus(tmp_path: Path) -> None:
    gpu = replace(DEVICE, name="cuda:0", kind="cuda")
    with pytest.raises(InvalidInput, match="cuda:0 is not divided"):
        HostSettings(state_dir=tmp_path, devices=(DEVICE, gpu), gpu_sharing="mig")
    instance = replace(gpu, name="cuda:0:1")
    with pytest.raises(InvalidInput, match="cuda:0:1 is a MIG instance"):
        HostSettings(state_dir=tmp_path, devices=(DEVICE, instance), gpu_sharing="mps")


def test_gpus_are_shared_by_lease_unless_asked_otherwise(tmp_path: Path) -> None:
    settings = HostSettings(state_dir=tmp_path, devices=(DEVICE,))
    assert settings.sharing(DEVICE) == "limits"
    assert settings.sharing(replace(DEVICE, name="cuda:0", kind="cuda")) == "lease"
