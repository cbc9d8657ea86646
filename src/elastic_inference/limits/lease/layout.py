"""How a device's turns lie in shared memory: fixed size, versioned, whole at every instant.

Two files. `rules` is the host's alone to write: who has which slot, with which weight. `turns` is written by all
tenants of the device: the accounts twice, and a byte that says which of the two counts. A change writes the other one
and then the byte; whoever is killed in between has changed nothing. Nothing read from `turns` is trusted: figures that
cannot be are replaced, so that a tenant that writes nonsense can take time from others, but cannot make them fail.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import NamedTuple

from elastic_inference.errors import InvalidInput
from elastic_inference.limits.lease.policy import DeviceTurns
from elastic_inference.limits.lease.tenant import Tenant

NUM_SLOTS = 64
VERSION = 1
_MAGIC = b"EILEASE\0"
_HEAD = struct.Struct("=8sII")

_RULES_HEAD_BYTES = 64
_CHANGES = struct.Struct("=Qd")  # number of changes, turn_seconds
_CHANGES_OFFSET = 16
_RULE = struct.Struct("=dII16s")  # weight (0: free), may_burst, generation, accelerator's number
RULES_BYTES = _RULES_HEAD_BYTES + NUM_SLOTS * _RULE.size

ACTIVE_OFFSET = 64
WAKE_OFFSET = 128
_COPY_OFFSETS = (4096, 16384)
# holder, 0, epoch, granted_at, charged_at, lingers_until (0: none), yields_at, renews_until
_COPY_HEAD = struct.Struct("=iIQ5d")
_COPY_HEAD_BYTES = 64
_ACCOUNT = struct.Struct("=9d2QII")
_ACCOUNT_BYTES = 128
TURNS_BYTES = 28672
_IS_WAITING, _IS_NEWCOMER = 1, 2
_CLOCK_SLACK_SECONDS = 1.0
_LARGEST = 1e9
_LARGEST_COUNT = 1 << 62  # so that one more always fits


@dataclass(frozen=True)
class Rule:
    """What the host says of a slot.

    Attributes:
        weight: Share of the device; 0 for a slot that is free.
        generation: How often the slot has been given away; accounts of an earlier tenant do not count.
        owner: The accelerator's 16 bytes.
    """

    weight: float
    may_burst: bool
    generation: int
    owner: bytes


def write_head(buffer: memoryview) -> None:
    """Make an empty file one of this layout."""
    _HEAD.pack_into(buffer, 0, _MAGIC, VERSION, NUM_SLOTS)


def check_head(buffer: memoryview) -> None:
    """Raise InvalidInput for a file of another layout."""
    magic, version, num_slots = _HEAD.unpack_from(buffer, 0)
    if (magic, version, num_slots) != (_MAGIC, VERSION, NUM_SLOTS):
        raise InvalidInput(
            f"this is no lease segment of version {VERSION} with {NUM_SLOTS} slots; another version of this package "
            "made it: detach the device's accelerators and start the host again"
        )


class Peek(NamedTuple):
    """What stands beside the accounts for whoever has the device."""

    holder: int  # -1: nobody
    epoch: int
    granted_at: float
    yields_at: float
    renews_until: float


class Rules:
    """The `rules` file as a mapping holds it; read anew only when the host has changed it."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._seen: int | None = None
        self._rules: dict[int, Rule] = {}
        self.turn_seconds = 0.0

    def in_use(self) -> dict[int, Rule]:
        """Return the slots that are given away."""
        num_changes, turn_seconds = _CHANGES.unpack_from(self._buffer, _CHANGES_OFFSET)
        if num_changes != self._seen:
            self._rules = {slot: rule for slot in range(NUM_SLOTS) if (rule := self.read(slot)).weight > 0}
            self.turn_seconds = turn_seconds
            self._seen = num_changes
        return self._rules

    def read(self, slot: int) -> Rule:
        """One slot's rule."""
        weight, may_burst, generation, owner = _RULE.unpack_from(self._buffer, self._offset(slot))
        return Rule(weight, bool(may_burst), generation, owner)

    def write(self, slot: int, rule: Rule) -> None:
        """Change one slot's rule; for the host, with the lock in its hand."""
        values = (rule.weight, rule.may_burst, rule.generation, rule.owner)
        _RULE.pack_into(self._buffer, self._offset(slot), *values)
        num_changes, turn_seconds = _CHANGES.unpack_from(self._buffer, _CHANGES_OFFSET)
        _CHANGES.pack_into(self._buffer, _CHANGES_OFFSET, num_changes + 1, turn_seconds)

    def write_turn(self, turn_seconds: float) -> None:
        """Change how long a turn of short requests is."""
        num_changes, _ = _CHANGES.unpack_from(self._buffer, _CHANGES_OFFSET)
        _CHANGES.pack_into(self._buffer, _CHANGES_OFFSET, num_changes + 1, turn_seconds)

    @staticmethod
    def _offset(slot: int) -> int:
        return _RULES_HEAD_BYTES + slot * _RULE.size


class Accounts:
    """The two copies of the accounts in the `turns` file."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    def load(self, rules: Rules, now: float) -> DeviceTurns:
        """Return the turns as they stand; accounts of slots that the rules do not know are left out."""
        base = self._active()
        in_use = rules.in_use()
        holder, _, epoch, granted_at, charged_at, lingers_until, _, _ = _COPY_HEAD.unpack_from(
            self._buffer, base
        )
        tenants = {}
        for slot, rule in in_use.items():
            tenant = self._load_one(base, slot, rule, now)
            if tenant is not None:
                tenants[slot] = tenant
        is_held = holder in tenants
        latest = now + _CLOCK_SLACK_SECONDS
        return DeviceTurns(
            tenants,
            holder if is_held else None,
            epoch % _LARGEST_COUNT,
            granted_at if 0 <= granted_at <= latest else now,
            charged_at if 0 <= charged_at <= latest else now,
            lingers_until if is_held and 0 < lingers_until <= latest else None,
            rules.turn_seconds,
        )

    def store(self, turns: DeviceTurns, rules: Rules, now: float) -> None:
        """Write the turns into the copy that does not count, then let it count."""
        index = 1 - (self._buffer[ACTIVE_OFFSET] & 1)
        base = _COPY_OFFSETS[index]
        _COPY_HEAD.pack_into(
            self._buffer,
            base,
            -1 if turns.holder is None else turns.holder,
            0,
            turns.epoch,
            turns.granted_at,
            turns.charged_at,
            turns.lingers_until or 0.0,
            turns.yields_at(now),
            turns.renews_until(now),
        )
        in_use = rules.in_use()
        for slot, tenant in turns.tenants.items():
            self._store_one(base, slot, tenant, in_use[slot].generation)
        self._buffer[ACTIVE_OFFSET] = index

    def peek(self) -> Peek:
        """Return the head without the lock: a look that may be old, never a decision."""
        holder, _, epoch, granted_at, _, _, yields_at, renews_until = _COPY_HEAD.unpack_from(
            self._buffer, self._active()
        )
        return Peek(holder, epoch, granted_at, yields_at, renews_until)

    def _active(self) -> int:
        return _COPY_OFFSETS[self._buffer[ACTIVE_OFFSET] & 1]

    def _load_one(self, base: int, slot: int, rule: Rule, now: float) -> Tenant | None:
        values = _ACCOUNT.unpack_from(self._buffer, base + _COPY_HEAD_BYTES + slot * _ACCOUNT_BYTES)
        *figures, num_leases, num_cuts, flags, generation = values
        if generation != rule.generation:
            return None
        level, settled_at, longest, request, gap, left_at, waiting_since, device, wait = figures
        if not _is_possible(figures, now):
            return Tenant(rule.weight, rule.may_burst, settled_at=now)
        return Tenant(
            rule.weight,
            rule.may_burst,
            level,
            settled_at,
            longest,
            request,
            math.inf if gap < 0 else gap,
            left_at,
            bool(flags & _IS_WAITING),
            waiting_since,
            bool(flags & _IS_NEWCOMER),
            device,
            wait,
            num_leases % _LARGEST_COUNT,
            num_cuts % _LARGEST_COUNT,
        )

    def _store_one(self, base: int, slot: int, tenant: Tenant, generation: int) -> None:
        _ACCOUNT.pack_into(
            self._buffer,
            base + _COPY_HEAD_BYTES + slot * _ACCOUNT_BYTES,
            tenant.level_seconds,
            tenant.settled_at,
            tenant.longest_seconds,
            tenant.request_seconds,
            -1.0 if math.isinf(tenant.gap_seconds) else tenant.gap_seconds,
            tenant.left_at,
            tenant.waiting_since,
            tenant.device_seconds,
            tenant.wait_seconds,
            tenant.num_leases,
            tenant.num_cuts,
            _IS_WAITING * tenant.is_waiting | _IS_NEWCOMER * tenant.is_newcomer,
            generation,
        )


def _is_possible(figures: list[float], now: float) -> bool:
    """Whether nine figures of an account can be: finite, and nothing that happened lies in the future."""
    total = sum(map(abs, figures))
    latest = now + _CLOCK_SLACK_SECONDS
    _, settled_at, longest, request, _, left_at, waiting_since, _, _ = figures
    return (
        total < _LARGEST * len(figures)
        and max(settled_at, left_at, waiting_since) <= latest
        and min(longest, request) >= 0
    )
