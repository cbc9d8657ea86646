"""Which versions may be parts of one pool: those that speak one protocol, whatever they are called."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from elastic_inference.errors import InvalidInput
from elastic_inference.pool.offer import HostOffer
from elastic_inference.pool.refusals import Refusals
from elastic_inference.pool.versions import PROTOCOL, Version, check_together, installed, running
from elastic_inference.testing.clock import ManualClock
from tests.pool.test_store import OFFER

POOL = Version("1.2.0", PROTOCOL)


def test_versions_of_one_protocol_live_together() -> None:
    check_together("host a", Version("1.3.1", PROTOCOL), POOL)


def test_another_protocol_is_refused_with_both_versions() -> None:
    with pytest.raises(
        InvalidInput, match=rf"host a has version 2\.0\.0 \(protocol {PROTOCOL + 1}\), and the pool 1"
    ):
        check_together("host a", Version("2.0.0", PROTOCOL + 1), POOL)


def test_a_host_that_is_refused_is_shown_as_long_as_it_asks() -> None:
    clock = ManualClock()
    refusals = Refusals(clock)
    refusals.note("a", "http://a", "too old")
    clock.advance(20.0)
    refusals.note("b", "http://b", "too new")
    assert refusals.texts() == [
        "host a (http://a) is not taken: too old",
        "host b (http://b) is not taken: too new",
    ]
    clock.advance(10.0)
    refusals.forget("a")
    assert refusals.texts() == ["host b (http://b) is not taken: too new"]
    refusals.forget("b")
    assert refusals.texts() == []


def test_an_offer_says_both_and_one_of_before_is_of_the_first_protocol() -> None:
    offer = replace(OFFER, version=Version("1.0", 7))
    assert HostOffer.load(offer.dump()) == offer
    told = json.loads(offer.dump())
    del told["protocol"]
    assert HostOffer.from_json(told).version == Version("1.0", 1)


def test_what_is_installed_is_asked_of_a_process_of_its_own() -> None:
    assert installed() == running()
