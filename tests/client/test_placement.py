"""Where a predictor computes: chosen by arguments and environment, with real hosts and accelerators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from elastic_inference import Accelerator, EIPredictor
from elastic_inference.client.host_session import Attachment, HostSession
from elastic_inference.errors import AcceleratorNotFound, ConnectError, InvalidInput, PermissionDenied
from elastic_inference.testing import start_accelerator
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.integration.small_models import NUM_INPUTS, expected, write_saved_model

X = np.ones((2, NUM_INPUTS), np.float32)
VARIABLES = ("EI_HOST", "EI_ACCELERATOR", "EI_TOKEN", "EI_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_saved_model(tmp_path_factory.mktemp("models") / "seven", 7)


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        yield start()


@pytest.fixture(scope="module")
def operator(host: HostProcess) -> HostSession:
    return host.session()


@pytest.fixture(scope="module")
def attached(operator: HostSession) -> tuple[Attachment, Attachment]:
    return (
        operator.attach("cpu.quarter", lease_seconds=None),
        operator.attach("cpu.quarter", lease_seconds=None),
    )


def used(model: Path, **arguments: object) -> str | None:
    """The accelerator that a predictor of these arguments computes on; checks what it computes."""
    with EIPredictor(model, **arguments) as predictor:  # type: ignore[arg-type]
        outputs = predictor({"x": X})["outputs"]
        np.testing.assert_allclose(outputs, expected(7, "serving_default", X)["outputs"], rtol=1e-4)
        return predictor.report.accelerator_id


def test_an_attached_accelerator_by_id_with_its_token(
    model: Path, operator: HostSession, attached: tuple[Attachment, Attachment]
) -> None:
    for one in attached:
        found = used(model, host=operator.url, token=one.token, accelerator_id=one.accelerator_id)
        assert found == one.accelerator_id
        assert used(model, host=operator.url, token=one.token) == one.accelerator_id  # it sees but itself
        assert used(model, host=operator.url, token=one.token, accelerator_id=0) == one.accelerator_id


def test_ordinals_count_the_accelerators_of_the_environment(
    model: Path,
    operator: HostSession,
    attached: tuple[Attachment, Attachment],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = (one.accelerator_id for one in attached)
    monkeypatch.setenv("EI_HOST", operator.url)
    monkeypatch.setenv("EI_ACCELERATOR", f"{first},{second}")
    monkeypatch.setenv("EI_TOKEN", ",".join(one.token for one in attached))
    assert used(model) == first
    assert used(model, accelerator_id=1) == second
    assert used(model, accelerator_id=second) == second
    monkeypatch.setenv("EI_VISIBLE_DEVICES", "1")
    assert used(model) == second
    assert used(model, accelerator_id=0) == second
    with pytest.raises(AcceleratorNotFound, match="none of the 1"):
        used(model, accelerator_id=1)
    monkeypatch.setenv("EI_VISIBLE_DEVICES", f"{second},{first}")
    assert [used(model, accelerator_id=ordinal) for ordinal in (0, 1)] == [second, first]
    monkeypatch.setenv("EI_VISIBLE_DEVICES", "")
    with pytest.raises(AcceleratorNotFound, match="is empty"):
        used(model)


def test_an_accelerators_token_opens_no_other(
    model: Path, operator: HostSession, attached: tuple[Attachment, Attachment]
) -> None:
    first, second = attached
    with pytest.raises(AcceleratorNotFound):
        used(model, host=operator.url, token=first.token, accelerator_id=second.accelerator_id)
    with pytest.raises(PermissionDenied):
        used(model, host=operator.url, token="wrong", accelerator_id=second.accelerator_id)


def test_attaching_by_type_prefers_the_unix_socket_and_gives_back(model: Path, operator: HostSession) -> None:
    before = operator.request("GET", "/v1/accelerators")
    arguments = {"host": operator.url, "token": operator.token, "accelerator_type": "cpu.quarter"}
    with EIPredictor(model, **arguments) as predictor:
        assert predictor.report.transport == "unix + shared memory"
        assert predictor.report.limits
    with pytest.raises(ValueError, match="signature"):
        EIPredictor(model, "nope", **arguments)
    with pytest.raises(InvalidInput, match="accelerator_id must be None"):
        EIPredictor(model, **arguments, accelerator_id=0)
    assert [a["accelerator_id"] for a in operator.request("GET", "/v1/accelerators")] == [
        a["accelerator_id"] for a in before
    ]


def test_without_a_host_the_embedded_accelerator_is_number_0(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert used(model, accelerator_id=0)
    with pytest.raises(AcceleratorNotFound, match="none of the 1: embedded"):
        used(model, accelerator_id=1)
    monkeypatch.setenv("EI_VISIBLE_DEVICES", "0")
    assert used(model)
    monkeypatch.setenv("EI_VISIBLE_DEVICES", "")
    with pytest.raises(AcceleratorNotFound, match="is empty"):
        used(model)


def test_an_address_needs_no_host_and_takes_the_environments_token(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_accelerator() as running:
        assert used(model, address=running.address, token=running.token) == running.config.accelerator_id
        with pytest.raises(PermissionDenied):
            used(model, address=running.address)
        monkeypatch.setenv("EI_TOKEN", running.token)
        assert used(model, address=running.address) == running.config.accelerator_id
        with pytest.raises(InvalidInput, match="must be None"):
            used(model, address=running.address, accelerator_id=0)


def test_a_name_wins_over_the_ids_that_begin_with_it(
    operator: HostSession, attached: tuple[Attachment, Attachment]
) -> None:
    first, second = (one.accelerator_id for one in attached)
    assert (
        operator.find_id(first[:12]) == first
    )  # the name that the host made up, and the beginning of one id
    assert operator.find_id(second[:-1]) == second


def test_a_url_is_told_from_an_address() -> None:
    with pytest.raises(InvalidInput, match=r"'http://10\.0\.0\.5:8500' is a URL, as hosts have"):
        Accelerator.at("http://10.0.0.5:8500")


def test_errors_say_which_host_and_which_token(
    operator: HostSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PermissionDenied, match="none was given, nor EI_TOKEN"):
        HostSession(operator.url).request("GET", "/v1/accelerators")
    with pytest.raises(PermissionDenied, match=f"one was given, for the host {operator.url}"):
        HostSession(operator.url, "wrong").request("GET", "/v1/accelerators")
    monkeypatch.setattr("elastic_inference.client.host_session.DEFAULT_HOST_URL", "http://127.0.0.1:1")
    with pytest.raises(ConnectError, match="no host was given, nor EI_HOST"):
        HostSession().request("GET", "/v1/accelerators")
