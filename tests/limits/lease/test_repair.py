"""When a lease is taken back and when a process is ended, from look to look."""

from __future__ import annotations

from elastic_inference.limits.lease.repair import LEASE_BASE_SECONDS, LOCK_SECONDS, LeaseWatch, Seen

HELD = Seen(holder=0, epoch=7, num_waiting=1)


def stopped(epoch: int = 7) -> Seen:
    return Seen(holder=0, epoch=epoch, is_stopped=True)


def test_a_lease_that_is_held_as_usual_is_left_alone() -> None:
    watch = LeaseWatch()
    assert [watch.judge(HELD, 0.1 * number).take_back for number in range(5)] == [None] * 5


def test_a_dead_holder_loses_its_lease_at_once() -> None:
    verdict = LeaseWatch().judge(Seen(holder=0, epoch=7, is_alive=False), 0.0)
    assert verdict.take_back == "its process has ended"


def test_one_that_is_stopped_in_two_looks_at_one_lease_loses_it() -> None:
    watch = LeaseWatch()
    assert watch.judge(stopped(), 0.0).take_back is None
    assert watch.judge(stopped(), 0.025).take_back == "its process is stopped"


def test_one_that_went_on_between_two_looks_keeps_its_lease() -> None:
    watch = LeaseWatch()
    for number, seen in enumerate((stopped(), HELD, stopped())):
        assert watch.judge(seen, 0.025 * number).take_back is None


def test_a_new_lease_of_a_stopped_process_counts_anew() -> None:
    watch = LeaseWatch()
    watch.judge(stopped(7), 0.0)
    assert watch.judge(stopped(8), 0.025).take_back is None


def test_a_lease_without_end_is_taken_back_for_those_that_wait() -> None:
    watch = LeaseWatch()
    watch.judge(HELD, 0.0)
    assert watch.judge(HELD, LEASE_BASE_SECONDS).take_back is None
    assert "0.9 s, and others wait" in str(watch.judge(HELD, LEASE_BASE_SECONDS + 0.01).take_back)


def test_a_long_lease_may_go_on_while_nobody_waits_or_requests_are_known_to_be_long() -> None:
    for seen in (Seen(holder=0, epoch=7), Seen(holder=0, epoch=7, num_waiting=1, longest_seconds=5.0)):
        watch = LeaseWatch()
        watch.judge(seen, 0.0)
        assert watch.judge(seen, 15.0).take_back is None


def test_only_the_time_in_which_others_wait_counts() -> None:
    watch = LeaseWatch()
    watch.judge(Seen(holder=0, epoch=7), 0.0)
    watch.judge(Seen(holder=0, epoch=7), 3600.0)
    assert watch.judge(HELD, 3600.5).take_back is None
    assert watch.judge(HELD, 3600.01 + LEASE_BASE_SECONDS).take_back is not None


def test_one_that_is_stopped_inside_a_change_is_ended() -> None:
    watch = LeaseWatch()
    seen = Seen(holder=None, epoch=7, lock_pid=42, is_lock_stopped=True)
    assert watch.judge(seen, 0.0).kill_pid is None
    assert watch.judge(seen, 0.025).kill_pid == 42


def test_one_that_does_not_come_out_of_a_change_is_ended() -> None:
    watch = LeaseWatch()
    seen = Seen(holder=None, epoch=7, lock_pid=42)
    watch.judge(seen, 0.0)
    assert watch.judge(seen, LOCK_SECONDS).kill_pid is None
    assert watch.judge(seen, LOCK_SECONDS + 0.01).kill_pid == 42


def test_different_processes_inside_changes_are_left_alone() -> None:
    watch = LeaseWatch()
    for number in range(200):
        assert (
            watch.judge(Seen(None, 7, lock_pid=number, is_lock_stopped=True), 0.025 * number).kill_pid is None
        )
