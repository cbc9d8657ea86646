"""The lease among real processes: hand-over, death, SIGSTOP, restart, new weights, many tenants."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from elastic_inference.errors import AcceleratorNotFound, CapacityExceeded, InvalidInput
from elastic_inference.host.processes.leases import LeaseKeeper
from elastic_inference.limits.lease.holder import DeviceLease, LeaseConfig
from elastic_inference.limits.lease.layout import NUM_SLOTS
from tests.limits.lease.tenants import DEVICE, Process, keeper, new_id, processes
from tests.waiting import wait_until


@pytest.fixture
def leases() -> Iterator[LeaseKeeper]:
    with keeper() as one:
        yield one


def admit(leases: LeaseKeeper, *weights: float, may_burst: bool = True) -> list[tuple[str, LeaseConfig]]:
    ids = [new_id() for _ in weights]
    return [
        (one, leases.admit(one, DEVICE, weight, may_burst)) for one, weight in zip(ids, weights, strict=True)
    ]


def waits(leases: LeaseKeeper, one: Process) -> bool:
    """Whether a tenant waits for the device."""
    return leases.is_waiting(one.accelerator_id)


def test_the_device_goes_from_process_to_process(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        assert first.do("acquire") == "held"
        second.tell("acquire")
        wait_until(lambda: waits(leases, second), "the second to wait")
        assert first.do("release", False) > 0
        assert second.hear() == "held"


def test_one_whose_deadline_passes_wants_the_device_no_more(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        assert second.do("acquire", 0.01) == "expired"
        first.do("release", False)
        assert first.do("acquire") == "held"


def test_a_killed_holder_leaves_the_device_to_whoever_waits(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        second.tell("acquire")
        wait_until(lambda: waits(leases, second), "the second to wait")
        first.kill()
        assert second.hear() == "held"
        assert leases.statistics(first.accelerator_id).device_seconds > 0


def test_a_killed_holder_leaves_the_device_also_while_the_host_is_away() -> None:
    with keeper() as host, processes(admit(host, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        second.tell("acquire")
        wait_until(lambda: waits(host, second), "the second to wait")
        host.close()
        first.kill()
        assert second.hear() == "held"


def test_a_killed_waiter_is_never_given_the_device(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.2, 0.4, 0.4)) as (first, second, third):
        first.do("acquire")
        for one in (second, third):
            one.tell("acquire")
            wait_until(lambda one=one: waits(leases, one), "it to wait")  # type: ignore[misc]
        second.kill()
        first.do("release", False)
        assert third.hear() == "held"


def test_a_stopped_holder_loses_its_lease_and_waits_its_turn_when_it_goes_on(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        second.tell("acquire")
        wait_until(lambda: waits(leases, second), "the second to wait")
        first.stop()
        assert second.hear() == "held"
        first.go_on()
        assert first.do("must_yield") is True
        first.tell("checkpoint")
        wait_until(lambda: waits(leases, first), "the first to wait again")
        second.do("release", False)
        assert first.hear() == "held"
        first.do("release", False)
        assert first.do("statistics")["num_lost"] == 1


def test_a_stopped_holder_that_ends_its_request_finds_out_too(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        first.stop()
        assert second.do("acquire") == "held"
        first.go_on()
        first.do("release", False)
        assert first.do("statistics")["num_lost"] == 1
        second.do("release", False)
        assert first.do("acquire") == "held"


def test_a_process_that_is_started_again_takes_the_place_of_the_one_that_died(leases: LeaseKeeper) -> None:
    own, other = admit(leases, 0.5, 0.5)
    with processes([own]) as (first,):
        first.do("acquire")
        first.kill()
    used = leases.statistics(own[0]).device_seconds
    with processes([own, other]) as (again, neighbour):
        assert neighbour.do("acquire") == "held"
        neighbour.do("release", False)
        assert again.do("acquire") == "held"
        assert leases.statistics(own[0]).device_seconds >= used


def test_two_processes_cannot_have_one_slot(leases: LeaseKeeper) -> None:
    (own,) = admit(leases, 0.5)
    with processes([own]), pytest.raises(InvalidInput, match=r"slot 0 is process \d+'s"):
        DeviceLease(own[1]).open()


def test_weights_change_under_running_processes(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        leases.admit(first.accelerator_id, DEVICE, 0.2, may_burst=False)
        assert first.do("statistics")["weight"] == 0.2
        assert second.do("statistics")["weight"] == 0.5
        first.do("release", False)


def test_shares_follow_the_weights(leases: LeaseKeeper) -> None:
    """Turns and not seconds are counted, so a busy machine changes nothing: 3 to 1 until the first has had 60."""
    with processes(admit(leases, 0.25, 0.75)) as (small, large):
        small.tell("turns", 10_000, 0.002)
        wait_until(lambda: leases.statistics(small.accelerator_id).num_leases > 0, "the small one to begin")
        before = leases.statistics(small.accelerator_id).device_seconds
        used = large.do("turns", 150, 0.002)
        got = leases.statistics(small.accelerator_id).device_seconds - before
        assert got / (got + used) == pytest.approx(0.25, abs=0.1)


def test_many_tenants_all_get_their_turns(leases: LeaseKeeper) -> None:
    with processes(admit(leases, *[1 / 32] * 32)) as all_of_them:
        for one in all_of_them:
            one.tell("turns", 5, 0.001)
        assert all(one.hear() > 0 for one in all_of_them)
        assert all(leases.statistics(one.accelerator_id).num_leases >= 5 for one in all_of_them)


def test_turns_are_counted_however_often_somebody_looks(leases: LeaseKeeper) -> None:
    with processes(admit(leases, 0.5)) as (alone,):
        alone.tell("turns", 1_000_000, 0.0)
        for _ in range(3):
            done = leases.statistics(alone.accelerator_id).num_leases
            wait_until(lambda: leases.statistics(alone.accelerator_id).num_leases > done, "it to have turns")  # noqa: B023


def test_killing_tenants_at_any_instant_leaves_the_accounts_whole(leases: LeaseKeeper) -> None:
    """Each is killed in the middle of thousands of changes; the others go on, and the device is free in the end."""
    with processes(admit(leases, *[1 / 8] * 8)) as (survivor, *others):
        for one in others:
            one.tell("turns", 1_000_000, 0.0)
        for one in others:
            done = leases.statistics(one.accelerator_id).num_leases
            wait_until(lambda: leases.statistics(one.accelerator_id).num_leases > done, "it to have turns")  # noqa: B023
            one.kill()
            assert survivor.do("turns", 3, 0.0) > 0
        assert math.isfinite(leases.statistics(survivor.accelerator_id).level_seconds)


def test_a_process_stopped_with_the_lock_in_its_hand_is_ended(leases: LeaseKeeper) -> None:
    (own, other) = admit(leases, 0.5, 0.5)
    with processes([own, other]) as (first, second):
        first.tell("turns", 1_000_000, 0.0)
        wait_until(lambda: leases.statistics(first.accelerator_id).num_leases > 0, "it to have turns")
        while first.popen.poll() is None and not _stopped_inside(leases, first):
            first.go_on()
        assert second.do("acquire") == "held"


def _stopped_inside(leases: LeaseKeeper, one: Process) -> bool:
    """Stop the process; whether it holds the lock of the segment then."""
    one.stop()
    wait_until(lambda: one.popen.poll() is not None or _is_stopped(one), "it to be stopped")
    return leases.lock_owner(DEVICE) == one.popen.pid


def _is_stopped(one: Process) -> bool:
    return Path(f"/proc/{one.popen.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_host_that_starts_again_finds_its_accelerators() -> None:
    with keeper() as host, processes(admit(host, 0.5, 0.5)) as (first, second):
        first.do("acquire")
        host.close()
        again = LeaseKeeper((DEVICE,))
        again.open({one.popen.pid: DEVICE for one in (first, second)})
        try:
            assert again.fits(first.accelerator_id, DEVICE, first.popen.pid)
            assert again.statistics(first.accelerator_id).weight == 0.5
            second.tell("acquire")
            first.kill()
            assert second.hear() == "held"
            again.dismiss(first.accelerator_id)
            with pytest.raises(AcceleratorNotFound):
                again.statistics(first.accelerator_id)
        finally:
            again.close()


def test_slots_are_used_again_without_the_accounts_of_their_earlier_tenants(leases: LeaseKeeper) -> None:
    own, *_ = admit(leases, 0.5, 0.5)
    with processes([own]) as (first,):
        first.do("turns", 3, 0.001)
    leases.dismiss(own[0])
    (again,) = admit(leases, 0.5)
    assert again[1].slot == own[1].slot
    assert leases.statistics(again[0]).num_leases == 0


def test_the_slot_after_the_last_is_refused(leases: LeaseKeeper) -> None:
    admit(leases, *[1 / NUM_SLOTS] * NUM_SLOTS)
    with pytest.raises(CapacityExceeded, match=f"all {NUM_SLOTS} lease slots"):
        admit(leases, 0.5)


def test_a_host_that_starts_again_knows_a_process_with_another_segment() -> None:
    with keeper() as host, processes(admit(host, 0.5)) as (first,), keeper() as other:
        other.admit(first.accelerator_id, DEVICE, 0.5, may_burst=True)
        assert not other.fits(first.accelerator_id, DEVICE, first.popen.pid)
        assert not LeaseKeeper(()).fits(first.accelerator_id, DEVICE, first.popen.pid)
        assert LeaseKeeper(()).fits(first.accelerator_id, DEVICE, os.getppid())


@pytest.mark.parametrize(
    "uid", [None, pytest.param(60700, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root"))]
)
def test_a_tenant_can_neither_change_weights_nor_cut_the_segment_short(
    leases: LeaseKeeper, uid: int | None
) -> None:
    ((_, lease),) = admit(leases, 0.5)
    attack = """
import os, sys
rules, turns = map(int, sys.argv[1:])
for what in (
    lambda: os.pwrite(rules, b"x", 64),
    lambda: os.ftruncate(turns, 0),
    lambda: os.ftruncate(turns, 1 << 20),
    lambda: os.ftruncate(rules, 0),
    lambda: os.open(f"/proc/self/fd/{rules}", os.O_RDWR) if os.geteuid() else os.pwrite(rules, b"x", 64),
):
    try:
        what()
    except OSError:
        print("refused")
    else:
        print("done")
"""
    identity = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
    command = ["/usr/bin/env", "python3", "-c", attack, *map(str, lease.fds)]
    if uid is None and os.geteuid() != 0:
        attack = attack.replace("if os.geteuid() else", "if False else")  # the host's own user may
        command[3] = attack
    done = subprocess.run(
        command,
        pass_fds=lease.fds,
        capture_output=True,
        text=True,
        cwd="/",
        check=True,
        timeout=30,
        **identity,
    )  # type: ignore[call-overload]
    assert done.stdout.split() == ["refused"] * 5


def test_a_segment_of_another_version_is_refused(leases: LeaseKeeper) -> None:
    ((_, lease),) = admit(leases, 0.5)
    data = bytearray(os.pread(lease.rules_fd, 1 << 16, 0))
    data[8] = 0xFF
    other = os.memfd_create("other")
    os.write(other, data)
    with pytest.raises(InvalidInput, match="version 1"):
        DeviceLease(replace(lease, rules_fd=other)).open()
    os.close(other)


def test_nonsense_in_the_segment_makes_nobody_fail(leases: LeaseKeeper) -> None:
    """A tenant that writes nonsense can take time from others; it cannot make them raise or hang."""
    own, other = admit(leases, 0.5, 0.5)
    with processes([own, other]) as (first, second):
        first.do("turns", 2, 0.0)
        for byte in (0x00, 0x7F, 0xFF):
            os.pwrite(own[1].turns_fd, bytes([byte]) * 24576, 4096)
            assert second.do("turns", 2, 0.0) >= 0
            assert first.do("turns", 2, 0.0) >= 0
        assert math.isfinite(leases.statistics(own[0]).level_seconds)
