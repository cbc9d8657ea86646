"""An operator who lets accelerators record requests: it reaches them, and everybody can read that it is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.accounts.wanted import Waiting, Wanted
from elastic_inference.host.host import Host
from tests.host.support import predictor, wait_until
from tests.integration.serve_process import ask_at

KINDS = (AcceleratorType("small", 512 * 1024**2, device_share=0.1),)


@pytest.mark.parametrize("number", [0, 4])
def test_what_the_operator_allows_is_in_force_and_said(
    open_host: Callable[..., Host], model: Path, number: int
) -> None:
    host = open_host(user_types=KINDS, record_requests=number)
    found = host.service.ask(Wanted("small"))
    assert not isinstance(found, Waiting)
    record, token = found
    folder = host.folder.accelerator(record.accelerator_id).store / "recorded"
    (address,) = [each for each in record.endpoints if each.startswith("tcp:")]
    with predictor(address, token, model) as predict:
        for value in range(6):
            predict({"x": np.full(3, value, np.float32)})
        assert len(list(folder.rglob("*.npz"))) == number
    status, report = ask_at(f"http://{address.removeprefix('tcp:')}/v2/accelerator", token=token)
    assert status == 200
    assert ("recording" in report["limits"]) == bool(number)
    if number:
        assert report["limits"]["recording"].startswith("inputs of up to 4 requests of each model (64 MiB")
    host.service.detach(record.accelerator_id)
    wait_until(lambda: not folder.exists(), "the folder is gone")
