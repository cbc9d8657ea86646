"""What one client changes must not break another's open connection: regions, and a token given anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.client.connection import Address, Connection
from elastic_inference.errors import PermissionDenied
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

FRAME = {"inputs": np.zeros((1, 300, 300, 3), np.uint8)}


@pytest.fixture
def accelerator() -> Iterator[RunningAccelerator]:
    with start_accelerator(("unix:{folder}/a.sock",)) as running:
        yield running


def connect(accelerator: RunningAccelerator, token: str) -> Connection:
    return Connection(Address(Endpoint.parse(accelerator.address), token), 10.0)


def test_unregistering_all_regions_leaves_those_of_open_connections(
    accelerator: RunningAccelerator, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.testing")
    with EIPredictor(model, address=accelerator.address, token=accelerator.token) as predictor:
        predictor(FRAME)
        assert "shared memory" in predictor.report.transport
        other = connect(accelerator, accelerator.token)
        other.call("POST", "/v2/systemsharedmemory/unregister")
        other.close()
        assert predictor(FRAME)["outputs"].shape == (1,)


def test_old_token_is_refused_on_a_connection_that_used_it(
    accelerator: RunningAccelerator, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "m.testing")
    with EIPredictor(model, address=accelerator.address, token=accelerator.token) as predictor:
        predictor(FRAME)
        host = connect(accelerator, accelerator.admin_token)
        body = {"token_sha256": hashlib.sha256(b"another").hexdigest()}
        host.call("PUT", "/v2/accelerator/token", json.dumps(body).encode())
        host.close()
        with pytest.raises(PermissionDenied):
            predictor(FRAME)
