"""What an accelerator's processes wrote to standard error, part by part, for whoever reads along."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from elastic_inference.errors import InvalidInput

MAX_PART_BYTES = 256 << 10
_CURSOR = re.compile(r"(\d{1,9})-(\d{1,20})-(\d{1,15})")


@dataclass(frozen=True)
class LogPart:
    """A part of a log.

    Attributes:
        text: Whole lines, but for the last of a process that is still writing it.
        cursor: Give it for what comes next.
        process: Number of the process that wrote it: how often the accelerator's process had died before it.
        has_more: Whether more is there already.
    """

    text: str
    cursor: str
    process: int
    has_more: bool


@dataclass(frozen=True)
class _Place:
    """Where a reader is: in which process's file (which may have been made anew), and how far in it."""

    process: int
    inode: int
    offset: int

    def __str__(self) -> str:
        return f"{self.process}-{self.inode}-{self.offset}"


class LogReader:
    """Reads the logs in a host's folder; an accelerator's are named `ID.NUMBER.log`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, accelerator_id: str, cursor: str | None, max_bytes: int) -> LogPart:
        """Return the end of the newest log, or what follows a cursor, over the processes that came after.

        Args:
            cursor: Of the part before; None: begin with the last `max_bytes`.
            max_bytes: 1 to `MAX_PART_BYTES`.

        Raises:
            InvalidInput: The cursor is none of ours.
        """
        paths = self._paths(accelerator_id)
        if not paths:
            return LogPart("", cursor or "0-0-0", 0, False)
        place = self._end(paths, max_bytes) if cursor is None else _parse(cursor)
        later = [number for number in paths if number >= place.process]
        number = later[0] if later else max(paths)
        try:
            text, place, size = _read(paths[number], number, place, max_bytes)
        except OSError:  # removed meanwhile: an accelerator that is detached, or one whose oldest log goes
            return LogPart("", str(place), place.process, False)
        has_more = place.offset < size
        if not has_more and number < max(paths):
            place, has_more = _Place(number + 1, 0, 0), True
        return LogPart(text, str(place), number, has_more)

    def _paths(self, accelerator_id: str) -> dict[int, Path]:
        found = {}
        for path in self._folder.glob(f"{accelerator_id}.*.log"):
            number = path.name.removeprefix(f"{accelerator_id}.").removesuffix(".log")
            if number.isdigit():
                found[int(number)] = path
        return dict(sorted(found.items()))

    def _end(self, paths: dict[int, Path], max_bytes: int) -> _Place:
        """Where the last whole lines of the newest log begin."""
        number = max(paths)
        with contextlib.suppress(OSError), open(paths[number], "rb") as file:
            status = os.fstat(file.fileno())
            start = max(0, status.st_size - max_bytes)
            if start:
                file.seek(start)
                start += len(file.readline(max_bytes))
            return _Place(number, status.st_ino, start)
        return _Place(number, 0, 0)


def _read(path: Path, number: int, place: _Place, max_bytes: int) -> tuple[str, _Place, int]:
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        is_same = (place.process, place.inode) == (number, status.st_ino) and place.offset <= status.st_size
        file.seek(place.offset if is_same else 0)  # one that was cut or made anew begins again
        data = file.read(max_bytes)
        whole = data.rfind(b"\n") + 1
        if whole and len(data) == max_bytes:
            data = data[:whole]
        offset = (place.offset if is_same else 0) + len(data)
    return data.decode(errors="replace"), _Place(number, status.st_ino, offset), status.st_size


def _parse(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise InvalidInput(f"cursor {cursor!r:.80} is not one that a host gave")
    return _Place(*map(int, match.groups()))
