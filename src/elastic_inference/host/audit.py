"""Who changed what on a host, from where, and with what outcome: lines of JSON in its state directory, bounded."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_BYTES = 8 << 20  # of the file; then it becomes the older one of two
_MAX_TEXT = 300  # of a path, which a caller may make as long as a head


@dataclass(frozen=True)
class Entry:
    """One request that changed something, or tried to.

    Attributes:
        at: Seconds since 1970, UTC.
        who: `operator`, `tenant NAME`, an accelerator's id where its token was shown, `host` where the host did it by
            itself, or `unknown`.
        address: Where it came from; `unix` for the host's own machine by a Unix socket.
        door: `api`, `page`, `amazon`, or `host` for the host itself.
        accelerator_id: Which one it was about; "" where about none.
        status: Of HTTP; below 400: it was done.
        request_id: Under which the log has more.
        tenant: Whose it was, as far as the host knew; "" for the operator's own and for the host as a whole.
        detail: What else there is to say.
    """

    at: float
    who: str
    address: str
    door: str
    method: str
    path: str
    accelerator_id: str
    status: int
    request_id: str
    tenant: str = ""
    detail: str = ""


class AuditLog:
    """The file of a host; any thread may append or read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._older = path.with_name(f"{path.name}.1")
        self._lock = threading.Lock()

    def append(self, entry: Entry) -> None:
        """Write an entry; a disk that is full is told in the host's log, and does not stop the host."""
        values = {k: v[:_MAX_TEXT] if isinstance(v, str) else v for k, v in asdict(entry).items()}
        line = json.dumps(values) + "\n"
        try:
            with self._lock:
                self._append(line)
        except OSError as error:
            logger.error("not written into the audit log", extra={"why": str(error), **values})

    def last(self, number: int, tenant: str | None = None, since: float = 0.0) -> list[Entry]:
        """Return the last entries, oldest first; of what is one tenant's alone where one is named.

        Args:
            since: In seconds since 1970; an entry says its own to the millisecond.
        """
        with self._lock:
            entries = (
                entry
                for entry in self._read()
                if tenant in (None, entry.tenant) and entry.at >= round(since, 3)
            )
            return list(deque(entries, maxlen=number))

    def _append(self, line: str) -> None:
        with open(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "a") as file:
            file.write(line)
            size = file.tell()
        if size > MAX_BYTES:
            os.replace(self._path, self._older)

    def _read(self) -> Iterator[Entry]:
        for path in (self._older, self._path):
            with contextlib.suppress(FileNotFoundError), open(path) as file:
                for line in file:
                    # The last line of a host that was killed may be half a one.
                    with contextlib.suppress(ValueError, TypeError):
                        yield Entry(**json.loads(line))
