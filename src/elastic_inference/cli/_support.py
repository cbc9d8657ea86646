"""What several commands share: optional parts of the installation, a target of latency, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from elastic_inference import settings
from elastic_inference.errors import ElasticInferenceError, InvalidInput
from elastic_inference.units import parse_seconds

# Logs of machines are read afterwards: a line now and then is enough.
_PLAIN_EVERY_SECONDS = 5.0


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Around imports that need an extra of the installation: says which one where it is missing.

    Raises:
        ElasticInferenceError: A package of the extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("elastic_inference"):
            raise
        raise ElasticInferenceError(
            f"this command needs {error.name}, which is not installed: pip install 'elastic-inference[{name}]'"
        ) from error


def parse_latency(text: str) -> float:
    """Read a duration with its unit: a bare 223 was meant as milliseconds and taken as seconds, which all meet."""
    if text.strip().replace(".", "", 1).isdigit():
        raise InvalidInput(
            f"--target-latency {text!r} has no unit; write {text.strip()}ms or {text.strip()}s"
        )
    return parse_seconds(text)


class Progress:
    """A progress bar on a terminal, a line now and then elsewhere; always on standard error.

    Args:
        is_silent: Show nothing at all.
        unit: What is counted, such as `frames`, or "bytes".
    """

    def __init__(self, title: str, unit: str, is_silent: bool = False) -> None:
        self._title, self._unit, self._is_silent = title, unit, is_silent
        self._bar: Any = None
        self._task: Any = None
        self._first: tuple[float, int] | None = None  # when the first update came, and how far it was then
        self._last_line = 0.0
        given = settings.PROGRESS_SECONDS.get()
        self._every_seconds = _PLAIN_EVERY_SECONDS if given is None else given

    def update(self, done: int, total: int | None) -> None:
        """Show how far it is; may be called from any thread."""
        if self._is_silent:
            return
        if not sys.stderr.isatty():
            self._print_line(done, total)
            return
        if self._bar is None:
            self._bar = self._make_bar()
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def close(self) -> None:
        """Take the bar away; closing twice is fine."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _make_bar(self) -> Any:
        from rich import progress
        from rich.console import Console

        in_bytes = self._unit == "bytes"
        columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
        if in_bytes:
            columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
        else:
            columns += [progress.MofNCompleteColumn(), _SpeedColumn.of(self._unit)]
        columns += [progress.TextColumn("ETA"), progress.TimeRemainingColumn()]
        return progress.Progress(*columns, console=Console(stderr=True), transient=True)

    def _print_line(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._last_line = (now, done), now
        if now - self._last_line < self._every_seconds:
            return
        self._last_line = now
        rate = (done - self._first[1]) / (now - self._first[0])
        of_total = "" if total is None else f" of {total}"
        ends = "" if not total or not rate else f", ETA {max(0, total - done) / rate:.0f} s"
        print(
            f"{self._title}: {done}{of_total} {self._unit}, {rate:.1f} {self._unit}/s{ends}", file=sys.stderr
        )


class _SpeedColumn:
    """Makes rich's column for speed in units a second; rich is imported only where a bar is shown."""

    @staticmethod
    def of(unit: str) -> Any:
        from rich.progress import ProgressColumn, Task
        from rich.text import Text

        class Column(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text("" if task.speed is None else f"{task.speed:.1f} {unit}/s")

        return Column()
