"""A pool whose parts speak TLS by one authority, with one node, from attach to answer."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import HostSession
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.host.tls import init_tls
from tests.pool.cluster import RAY, PoolCluster

pytestmark = pytest.mark.timeout(400)


@pytest.mark.skipif(not RAY.exists(), reason="needs ray (pip install 'elastic-inference[pool]')")
def test_all_parts_speak_tls(tmp_path: Path, model: Path) -> None:
    init_tls(tmp_path / "tls", ("127.0.0.1", _own_address()))
    folder = Path(tempfile.mkdtemp(prefix="eip-", dir="/tmp"))
    folder.chmod(0o711)
    pool = PoolCluster(folder, 1, tls=tmp_path / "tls")
    try:
        assert pool.hosts()[0]["url"].startswith("https://")
        attached = pool.session.attach("tiny", lease_seconds=None)
        assert any(text.startswith("tls:") for text in attached.endpoints)
        with EIPredictor(
            str(model),
            input_names={"x": "x:0"},
            output_names={"y": "y:0"},
            accelerator=Accelerator.of_id(
                attached.accelerator_id, host=pool.url, token=attached.token, tls=pool.tls
            ),
        ) as predictor:
            assert predictor({"x": np.float32([1, 2])})["y"].tolist() == [2, 4]
        with pytest.raises(
            ElasticInferenceError
        ):  # who does not know the authority speaks to none of its parts
            HostSession(pool.url, pool.token).request("GET", "/v1/pool")
        pool.session.detach(attached.accelerator_id)
    finally:
        pool.close()
        shutil.rmtree(folder, ignore_errors=True)


def _own_address() -> str:
    """The address by which Ray knows this machine: that of its way to others; nothing is sent."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("8.8.8.8", 80))
        return str(sock.getsockname()[0])
    return "127.0.0.1"
