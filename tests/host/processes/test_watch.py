"""When a process is ended by the host: it does not answer, or one request does not end."""

from __future__ import annotations

from elastic_inference.host.processes.watch import Sight, Watch


def test_a_process_that_is_silent_for_too_long_is_ended() -> None:
    watch = Watch(hang_seconds=60.0, turn_limit_seconds=600.0, now=0.0)
    silent = Sight(answers=False)
    assert watch.complaint(silent, 59.0) is None
    assert watch.complaint(Sight(answers=True), 60.0) is None
    assert watch.complaint(silent, 120.0) is None
    assert watch.complaint(silent, 121.0) == "did not answer for 60 s, so the host ended it"


def test_a_request_that_does_not_end_is_ended() -> None:
    watch = Watch(hang_seconds=60.0, turn_limit_seconds=600.0, now=0.0)
    assert watch.complaint(Sight(answers=True, turn_seconds=600.0), 700.0) is None
    told = watch.complaint(Sight(answers=True, turn_seconds=600.5), 700.0)
    assert told == "one request ran for more than 600 s, the host's --turn-limit, so the host ended it"
