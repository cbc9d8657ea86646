"""Accelerator, LoadOptions and Tls: values that check themselves; and the flat keywords that stand for them."""

from __future__ import annotations

import dataclasses
import json
import ssl
from pathlib import Path
from typing import Any

import pytest

from elastic_inference import Accelerator, EIPredictor, LoadOptions, Tls
from elastic_inference.client import shorthand
from elastic_inference.client.accelerator import (
    Embedded,
    FromEnvironment,
    HostAccess,
    Local,
    OfId,
    accelerator_from_json,
)
from elastic_inference.client.shorthand import PlaceKeywords
from elastic_inference.errors import InvalidInput
from elastic_inference.keras import EIKerasModel
from elastic_inference.predictor import from_saved_model
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

URL = "http://10.0.0.5:8500"
TLS = Tls("ca.pem", "cert.pem", "key.pem")
ALL = (
    Accelerator.attach(
        "cpu.half", host=URL, token="secret", tls=TLS, name="mine", lease_seconds=5, doors=["grpc", "http"]
    ),
    Accelerator.of_id("eia-1", host=URL, token="secret"),
    Accelerator.of_id(1),
    Accelerator.at("tls:10.0.0.5:8501", token="secret", tls=TLS),
    Accelerator.embedded(threads=2, cache_dir="kept"),
    Accelerator.local(threads=2),
    Accelerator.from_environment(1),
)


@pytest.mark.parametrize("value", ALL, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_compared_by_value_and_silent_about_its_token(value: Any) -> None:
    assert "secret" not in repr(value)
    assert "secret" not in str(value)
    again = accelerator_from_json(json.loads(json.dumps(value.to_json())))
    assert again == value
    assert hash(again) == hash(value)
    assert [other for other in ALL if other == value] == [value]
    field = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, field, None)


KEYWORDS: list[tuple[dict[str, Any], Accelerator]] = [
    ({}, FromEnvironment()),
    ({"accelerator_id": 1}, FromEnvironment(1)),
    ({"accelerator_id": "1", "num_threads": 2}, FromEnvironment(1, threads=2)),
    ({"accelerator_id": "eia-1"}, OfId("eia-1")),
    ({"host": URL}, OfId(None, HostAccess(URL))),
    ({"host": URL, "accelerator_id": 1, "token": "t"}, Accelerator.of_id(1, host=URL, token="t")),
    ({"accelerator_type": "cpu.half"}, Accelerator.attach("cpu.half")),
    (
        {"accelerator_type": "cpu.half", "host": URL, "token": "t", "tls_ca": "a", "tls_cert": "b", "tls_key": "c"},
        Accelerator.attach("cpu.half", host=URL, token="t", tls=Tls("a", "b", "c")),
    ),
    ({"address": "tcp:h:1", "token": "t"}, Accelerator.at("tcp:h:1", token="t")),
    ({"address": "tls:h:1", "tls_ca": "a"}, Accelerator.at("tls:h:1", tls=Tls("a"))),
]  # fmt: skip


@pytest.mark.parametrize(("keywords", "value"), KEYWORDS, ids=lambda each: str(each)[:40])
def test_flat_keywords_stand_for_a_value(keywords: dict[str, Any], value: Accelerator) -> None:
    assert PlaceKeywords(**keywords).accelerator(use_ei=True) == value
    assert PlaceKeywords(**keywords).accelerator(use_ei=False) == Local(keywords.get("num_threads"))


CONTRADICTIONS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"address": "tcp:h:1", "host": URL}, ("address", "host must be None")),
    ({"address": "tcp:h:1", "accelerator_type": "cpu.half"}, ("address", "accelerator_type must be None")),
    ({"accelerator_type": "cpu.half", "accelerator_id": 0}, ("accelerator_type", "accelerator_id must be None")),
    ({"accelerator": Accelerator.embedded(), "token": "t"}, ("accelerator and token",)),
    ({"accelerator": Accelerator.embedded(), "accelerator_id": 0}, ("accelerator and accelerator_id",)),
    ({"accelerator": Accelerator.embedded(), "num_threads": 2}, ("accelerator and num_threads",)),
    ({"accelerator": Accelerator.at("tcp:h:1"), "use_ei": False}, ("use_ei=False and accelerator",)),
    ({"load": LoadOptions(), "engine": "openvino"}, ("load and engine",)),
    ({"load": LoadOptions(), "warm_up": False}, ("load and warm_up",)),
    (
        {"accelerator": Accelerator.embedded(cache_dir="a"), "load": LoadOptions(cache_dir="b")},
        ("accelerator and load", "'a'", "'b'"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), CONTRADICTIONS, ids=lambda each: str(each)[:60])
def test_contradictions_name_both(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as raised:
        EIPredictor("no/such/model", **arguments)
    for word in words:
        assert word in str(raised.value)


WRONG: list[tuple[Any, str]] = [
    (lambda: Accelerator.attach(None), "accelerator_type must be text, not None"),  # type: ignore[arg-type]
    (lambda: Accelerator.attach(""), "accelerator_type must be text that is not empty"),
    (lambda: Accelerator.attach("t", host=8500), "host must be text that is not empty, or None, not 8500"),  # type: ignore[arg-type]
    (lambda: Accelerator.attach("t", host="ftp://h"), "address 'ftp://h' is not"),
    (lambda: Accelerator.attach("t", lease_seconds=0), "lease_seconds 0 must be above 0"),
    (lambda: Accelerator.attach("t", token="a\nb"), "token must be printable ASCII"),
    (lambda: Accelerator.attach("t", tls="ca.pem"), "tls must be a Tls"),  # type: ignore[arg-type]
    (lambda: Accelerator.attach("t", doors=["grpc"]), "doors must be 'http' and others of"),
    (lambda: Accelerator.attach("t", doors=["http", "smtp"]), "doors must be 'http' and others of"),
    (lambda: Accelerator.attach("t", doors="http"), r"doors must be several texts, such as"),
    (lambda: Accelerator.at("nowhere"), "address 'nowhere' is not"),
    (lambda: Accelerator.at(5), "address must be text, not 5"),  # type: ignore[arg-type]
    (lambda: Accelerator.at("tcp:h:1", tls=Tls("ca.pem")), "address 'tcp:h:1' and tls contradict"),
    (lambda: Accelerator.of_id(True), "accelerator_id must be a whole number"),
    (lambda: Accelerator.of_id(1.5), "accelerator_id must be a whole number"),  # type: ignore[arg-type]
    (lambda: Accelerator.embedded(threads=0), "threads must be 1 to 1024, or None, not 0"),
    (lambda: Accelerator.embedded(threads="2"), "threads must be 1 to 1024, or None, not '2'"),  # type: ignore[arg-type]
    (lambda: Accelerator.local(threads=2000), "threads must be 1 to 1024"),
    (lambda: Accelerator.embedded(cache_dir=5), "cache_dir must be a path, or None, not 5"),  # type: ignore[arg-type]
    (lambda: LoadOptions(engine=None), "engine must be text, not None"),  # type: ignore[arg-type]
    (lambda: LoadOptions(precision=32), "precision must be text, not 32"),  # type: ignore[arg-type]
    (lambda: LoadOptions(warm_up="yes"), "warm_up must be True, False or a shape by input alias"),  # type: ignore[arg-type]
    (lambda: LoadOptions(warm_up={"x": [1.5]}), "warm_up must be"),  # type: ignore[list-item]
    (lambda: Tls(key="key.pem"), "key 'key.pem' needs cert"),
    (lambda: Tls(ca=5), "ca must be a path"),  # type: ignore[arg-type]
    (lambda: Tls(context="c"), "context must be an ssl.SSLContext"),  # type: ignore[arg-type]
    (lambda: Tls(ca="a", context=ssl.create_default_context()), "context and ca contradict each other"),
    (lambda: Tls(context=ssl.create_default_context()).to_json(), "cannot go to another process"),
    (lambda: EIPredictor("m", accelerator="cpu.half"), "accelerator must be made by a method"),  # type: ignore[arg-type]
    (lambda: EIPredictor("m", accelerator=Accelerator()), "accelerator must be made by a method"),
    (lambda: EIPredictor("m", load={"engine": "auto"}), "load must be a LoadOptions"),  # type: ignore[arg-type]
    (lambda: EIPredictor("m", num_threads=0), "num_threads must be 1 to 1024"),
    (lambda: EIPredictor("m", use_ei="no"), "use_ei must be True or False, not 'no'"),  # type: ignore[arg-type]
    (lambda: EIPredictor("m", strict="yes"), "strict must be True or False, not 'yes'"),  # type: ignore[arg-type]
    (lambda: EIPredictor("m", timeout_seconds="1"), "timeout_seconds '1' must be above 0"),  # type: ignore[arg-type]
    (lambda: accelerator_from_json({"kind": "Cloud"}), "kind 'Cloud' is not one of"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_value_is_refused_where_it_is_made(make: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        make()


def test_paths_may_be_path_objects_and_shapes_numpys(tmp_path: Path) -> None:
    import numpy as np

    assert LoadOptions(cache_dir=tmp_path).cache_dir == str(tmp_path)  # type: ignore[arg-type]
    assert Tls(ca=tmp_path).ca == str(tmp_path)  # type: ignore[arg-type]
    shape = np.zeros((1, 2)).shape
    assert json.dumps(LoadOptions(warm_up={"x": [np.int64(1), shape[1]]}).to_json())  # type: ignore[list-item]


def test_a_flat_keyword_without_effect_is_told() -> None:
    place = Accelerator.at("tcp:h:1")
    assert "num_threads=2 is not used" in shorthand.unused(place, PlaceKeywords(num_threads=2))
    assert shorthand.unused(Embedded(2), PlaceKeywords()) == ""
    assert (
        shorthand.unused(Local(), PlaceKeywords(host=URL)) == "host has no effect: use_ei=False computes here"
    )


@pytest.fixture(scope="module")
def running() -> Any:
    with start_accelerator() as accelerator:
        yield accelerator


def place_of(running: RunningAccelerator) -> Accelerator:
    return Accelerator.at(running.address, token=running.token)


def test_one_value_serves_every_way_to_make_a_predictor(running: RunningAccelerator, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.testing")
    load = LoadOptions("testing", warm_up=False)
    for make in (EIPredictor, from_saved_model):
        with make(model, accelerator=place_of(running), load=load) as predictor:
            assert predictor.report.accelerator_id == running.config.accelerator_id
            assert "no warm-up was asked for" in predictor.report.notes
    with EIKerasModel(model, accelerator=place_of(running), load=load) as keras_model:
        assert keras_model.predictor.report.accelerator_id == running.config.accelerator_id
    with pytest.raises(InvalidInput, match="accelerator and address contradict"):
        EIKerasModel(model, accelerator=place_of(running), address=running.address)


def test_a_context_of_the_program_is_used_as_it_is(tmp_path: Path) -> None:
    from benchmarks.dataplane.certificate import write_certificate

    write_certificate(tmp_path)
    model = write_model(tmp_path / "m.testing")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    with start_accelerator(tls_cert=cert, tls_key=key) as running:
        address = running.address.replace("127.0.0.1", "localhost")
        context = ssl.create_default_context(cafile=cert)
        for tls in (Tls(context=context), Tls(ca=cert)):
            place = Accelerator.at(address, token=running.token, tls=tls)
            with EIPredictor(model, accelerator=place) as predictor:
                assert predictor.report.transport.startswith("tls")
