"""The accounts in memory: what is written is read, whole at every instant, and nothing that is read is trusted."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from elastic_inference.accelerator import bodies
from elastic_inference.errors import InvalidInput
from elastic_inference.limits.lease import layout
from elastic_inference.limits.lease.holder import LeaseConfig
from elastic_inference.limits.lease.layout import RULES_BYTES, TURNS_BYTES, Accounts, Rule, Rules
from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.tenant import Tenant

OWNER = bytes(range(16))


def rules_of(*weights: float) -> Rules:
    rules = Rules(memoryview(bytearray(RULES_BYTES)))
    rules.write_turn(0.001)
    for slot, weight in enumerate(weights):
        rules.write(slot, Rule(weight, slot % 2 == 1, slot + 1, OWNER))
    return rules


def turns_of(rules: Rules) -> DeviceTurns:
    turns = DeviceTurns(turn_seconds=0.001)
    for slot, rule in rules.in_use().items():
        turns.join(slot, Tenant(rule.weight, rule.may_burst), 1.0)
    turns.ask(1, 1.0)
    turns.ask(0, 1.5)
    turns.release(1, turns.epoch, 1.75, has_more=True)
    return turns


def test_what_is_written_is_read() -> None:
    rules, accounts = rules_of(0.25, 0.5), Accounts(memoryview(bytearray(TURNS_BYTES)))
    turns = turns_of(rules)
    accounts.store(turns, rules, 2.0)
    assert accounts.load(rules, 2.0) == turns
    assert accounts.peek()[:3] == (turns.holder, turns.epoch, turns.granted_at)


def test_a_change_that_is_not_finished_has_changed_nothing() -> None:
    """Whatever has been written of the other copy: until the last byte, the first one counts."""
    rules = rules_of(0.25, 0.5)
    memory = bytearray(TURNS_BYTES)
    accounts = Accounts(memoryview(memory))
    accounts.store(turns_of(rules), rules, 2.0)
    before = accounts.load(rules, 2.0)
    changed = accounts.load(rules, 2.0)
    changed.take_back(3.0)
    after = bytearray(memory)
    Accounts(memoryview(after)).store(changed, rules, 3.0)
    places = [place for place in range(TURNS_BYTES) if after[place] != memory[place]]
    assert places[0] == 64  # the byte that says which copy counts
    for place in places[1:]:
        memory[place] = after[place]
        assert accounts.load(rules, 2.0) == before
    memory[64] = after[64]
    assert accounts.load(rules, 3.0) == changed


@given(st.binary(min_size=64, max_size=4096), st.floats(0, 1e6))
@example(b"\xff" * 64, 5.0)  # not a number
@example(b"\x7f" * 64, 5.0)  # far beyond what can be
def test_any_bytes_are_read_as_turns_that_can_be_used_and_written(noise: bytes, now: float) -> None:
    rules = rules_of(0.25, 0.5)
    memory = bytearray(noise * (TURNS_BYTES // len(noise) + 1))[:TURNS_BYTES]
    for base in layout._COPY_OFFSETS:  # the accounts are of this generation, so that they are read at all
        for slot, rule in rules.in_use().items():
            end = base + layout._COPY_HEAD_BYTES + slot * layout._ACCOUNT_BYTES + layout._ACCOUNT.size
            struct.pack_into("=I", memory, end - 4, rule.generation)
    accounts = Accounts(memoryview(memory))
    turns = accounts.load(rules, now)
    for slot in turns.tenants:
        turns.ask(slot, now)
        turns.withdraw(slot, now)
        assert abs(turns.tenants[slot].level_seconds) < 1e12
    accounts.store(turns, rules, now)


def test_accounts_of_an_earlier_tenant_of_the_slot_do_not_count() -> None:
    rules, accounts = rules_of(0.25, 0.5), Accounts(memoryview(bytearray(TURNS_BYTES)))
    accounts.store(turns_of(rules), rules, 2.0)
    rules.write(0, Rule(0.1, False, 9, OWNER))
    assert set(accounts.load(rules, 2.0).tenants) == {1}


def test_rules_are_read_anew_when_the_host_has_changed_them() -> None:
    memory = memoryview(bytearray(RULES_BYTES))
    host, tenant = Rules(memory), Rules(memory)
    host.write_turn(0.001)
    assert tenant.in_use() == {}
    host.write(3, Rule(0.5, True, 1, OWNER))
    assert tenant.in_use() == {3: Rule(0.5, True, 1, OWNER)}
    assert tenant.turn_seconds == 0.001
    host.write(3, Rule(0.0, False, 1, bytes(16)))
    assert tenant.in_use() == {}


LEASE = {"rules_fd": 3, "turns_fd": 4, "slot": 5}
INVALID_LEASES = (
    "x",
    {},
    {**LEASE, "slot": "5"},
    {**LEASE, "slot": 64},
    {**LEASE, "slot": -1},
    {**LEASE, "more": 1},
)


@pytest.mark.parametrize("value", INVALID_LEASES, ids=str)
def test_a_lease_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput, match="lease"):
        bodies.read(LeaseConfig, value, "lease")
