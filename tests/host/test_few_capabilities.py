"""A host as root of a container: without the capabilities that container engines take away by default."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.host.conftest import HostProcess
from tests.host.support import predictor, wait_until
from tests.host.test_recovery import process_of

# Docker's and Podman's defaults.
KEPT = "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,setfcap"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who has capabilities to lose")
def test_a_host_works_with_the_capabilities_of_a_container(
    start_host: Callable[..., HostProcess], state_dir: Path, model: Path
) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("needs setpriv of util-linux")
    bounding = "-all," + ",".join(f"+{name}" for name in KEPT.split(","))
    host = start_host(
        "--limits", "rlimit and duty cycle", "--spares", "1", within=[setpriv, f"--bounding-set={bounding}"]
    )
    log = host.log_path.read_text()
    assert "the host runs at the priority of its accelerators: without CAP_SYS_NICE" in log
    for _ in range(2):  # the second one was started in advance
        attached = host.session().attach("cpu.quarter", lease_seconds=None)
        shown = host.session().request("GET", f"/v1/accelerators/{attached.accelerator_id}")
        assert shown["limits"]["cores"].endswith("by affinity of threads")
        cores = {int(core) for core in shown["limits"]["cores"].partition(" by ")[0].split(", ")}
        pid = process_of(state_dir).pid
        assert os.sched_getaffinity(pid) == cores
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
        with predictor(attached.endpoints[0], attached.token, model) as predict:
            assert predict({"x": np.array([3], np.int32)})["y"].tolist() == [6]
        host.session().detach(attached.accelerator_id)
        wait_until(lambda: host.session().request("GET", "/v1/accelerators") == [], "the detach")
