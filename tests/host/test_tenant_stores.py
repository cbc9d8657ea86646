"""Stores of models: one for each tenant, shared by its accelerators, which are different users; closed to others."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from elastic_inference.host.accounts.records import AcceleratorRecord, State
from elastic_inference.host.accounts.tenants import Quota
from elastic_inference.host.host import Host
from tests.host.support import predictor, wait_until
from tests.host.test_service import SMALL

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only a host that is root gives accelerators users of their own"
)


def as_user(uid: int | None, *command: str | Path) -> str:
    """What a command prints that an accelerator's user runs, or what it says of why it cannot."""
    assert uid is not None
    ended = subprocess.run(
        [*map(str, command)], user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    return ended.stdout if not ended.returncode else ended.stderr


def load(record: AcceleratorRecord, token: str, model: Path) -> str:
    """Run a model on an accelerator; where what it runs came from."""
    with predictor(record.endpoints[0], token, model) as predict:
        assert predict({"x": [2.0]})["y"][0] == 4.0
        return predict.report.source


def test_accelerators_of_a_tenant_share_a_store_and_no_other_user_enters_it(
    open_host: Callable[..., Host], model: Path
) -> None:
    host = open_host(user_types=(SMALL,))
    service, folder = host.service, host.folder
    for name in ("vision", "audio"):
        service.tenancy.add(name, Quota(), None)
    (first, token), (second, second_token) = (service.attach("small", tenant="vision") for _ in range(2))
    other, other_token = service.attach("small", tenant="audio")
    own, own_token = service.attach("small")
    assert len({first.uid, second.uid, other.uid, own.uid}) == 4
    assert load(first, token, model).startswith("compiled here")
    assert load(second, second_token, model).startswith("from the store")
    assert load(other, other_token, model).startswith("compiled here")
    assert load(own, own_token, model).startswith("compiled here")
    store = folder.tenants / "vision" / "artifacts"
    blob = next((store / "blobs").iterdir())
    for record in (first, second):
        assert "blobs" in as_user(record.uid, "ls", store)
        assert as_user(record.uid, "wc", "-c", blob).split()[0] == str(blob.stat().st_size)
    for record in (other, own):
        assert "Permission denied" in as_user(record.uid, "ls", store)
        assert "Permission denied" in as_user(record.uid, "wc", "-c", blob)  # even by its full name
    # What one of them left is used, and removed, by the others; and its user is let in no more.
    service.detach(first.accelerator_id, 0.0)
    assert "Permission denied" in as_user(first.uid, "ls", store)
    third, third_token = service.attach("small", tenant="vision")
    assert load(third, third_token, model).startswith("from the store")
    assert load(second, second_token, model).startswith("from the store")
    service.tenants.remove("vision", with_accelerators=True)
    assert not (folder.tenants / "vision").exists()
    assert load(other, other_token, model)


def test_a_host_that_starts_lets_in_whom_it_has_and_nobody_else(
    open_host: Callable[..., Host], model: Path
) -> None:
    host = open_host(user_types=(SMALL,))
    host.service.tenancy.add("vision", Quota(), None)
    record, token = host.service.attach("small", tenant="vision")
    load(record, token, model)
    store = host.folder.tenants / "vision" / "artifacts"
    host.close()
    stranger = 61090
    subprocess.run(
        ["chmod", "o+x", str(store.parent)], check=True, timeout=60
    )  # as somebody may who tidies up
    assert "blobs" in as_user(stranger, "ls", store)
    again = open_host(user_types=(SMALL,)).service
    assert "Permission denied" in as_user(stranger, "ls", store)
    wait_until(lambda: again.get(record.accelerator_id).state is State.READY, "the accelerator to serve")
    assert "blobs" in as_user(record.uid, "ls", store)
    assert load(again.get(record.accelerator_id), token, model)
