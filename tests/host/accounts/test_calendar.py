"""The host's calendar: it runs as the machine does, over restarts of the host and of the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.host.accounts import calendar as module
from elastic_inference.host.accounts.calendar import Anchor, Calendar

HOUR = 3600.0


class Machine:
    """A clock that is set at will, and an uptime that only goes on."""

    def __init__(self) -> None:
        self.wall_seconds = 1_000_000.0
        self.uptime_seconds = 100.0

    def pass_by(self, seconds: float) -> None:
        self.wall_seconds += seconds
        self.uptime_seconds += seconds


@pytest.fixture
def machine() -> Machine:
    return Machine()


def start(machine: Machine, path: Path, is_free: bool = False) -> Calendar:
    return Calendar(path, is_free, lambda: machine.wall_seconds, lambda: machine.uptime_seconds)


@pytest.mark.parametrize("jump", [6 * HOUR, -6 * HOUR])
def test_a_clock_that_is_set_changes_no_duration(machine: Machine, tmp_path: Path, jump: float) -> None:
    calendar = start(machine, tmp_path / "calendar")
    began_at = calendar.now()
    assert began_at == 1_000_000.0
    machine.wall_seconds += jump
    machine.pass_by(60.0)
    assert calendar.now() - began_at == 60.0
    again = start(machine, tmp_path / "calendar")  # the host starts again in the same run of the machine
    assert again.now() - began_at == 60.0
    assert again.ended_at is None


def test_where_nothing_is_billed_a_start_takes_the_clock_as_it_is(machine: Machine, tmp_path: Path) -> None:
    start(machine, tmp_path / "calendar")
    machine.wall_seconds -= 6 * HOUR
    assert start(machine, tmp_path / "calendar", is_free=True).now() == 1_000_000.0 - 6 * HOUR


@pytest.mark.parametrize("off_seconds", [HOUR, -HOUR])
def test_the_time_for_which_the_machine_was_off_is_nobodys(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_seconds: float
) -> None:
    calendar = start(machine, tmp_path / "calendar")
    machine.pass_by(60.0)
    calendar.save()
    monkeypatch.setattr(module, "boot_id", lambda: "the next run")
    machine.wall_seconds += off_seconds
    machine.uptime_seconds = 5.0
    again = start(machine, tmp_path / "calendar")
    assert again.ended_at == 1_000_060.0
    assert again.now() == 1_000_060.0 + max(0.0, off_seconds)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot_id": 1}'])
def test_a_file_that_cannot_be_read_begins_anew(machine: Machine, tmp_path: Path, text: str) -> None:
    (tmp_path / "calendar").write_text(text)
    assert start(machine, tmp_path / "calendar").now() == 1_000_000.0


def test_a_folder_that_cannot_be_written_stops_nothing(machine: Machine, tmp_path: Path) -> None:
    assert start(machine, tmp_path / "none" / "calendar").now() == 1_000_000.0


def test_an_anchor_goes_on_within_a_run() -> None:
    last = Anchor("a", 900.0, 1000.0)
    assert Anchor.at_start(last, "a", 200.0, 5000.0, is_free=False) == last
