"""Keep the greetings that native libraries print while they are imported off standard error."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

_GREETINGS = re.compile(
    rb"[IW]0000 .*|WARNING: All log messages before absl::InitializeLog.*|To enable the following.*"
)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back what the process writes to file descriptor 2, then pass on all lines that are no greetings."""
    try:
        kept = os.dup(2)
    except OSError:  # the process has no standard error
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _GREETINGS.match(line):
                    os.write(2, line)
