"""Processes that share a store and are killed at any moment: what the others find is whole, or is not there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from elastic_inference.models.artifacts.blobs import BlobFolder
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from tests.waiting import files_of, read_line, wait_until

NUM_KILLS = 25
NUM_KEYS = 5
LIMIT_BYTES = 6_000_000
# Puts content of a size and byte that its key tells, finds what is there, and removes when there is no room.
WRITER = """
import random, sys
from pathlib import Path
from elastic_inference.models.artifacts.blobs import BlobFolder
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
store = ArtifactStore(BlobFolder(Path(sys.argv[1]), int(sys.argv[2]), 0))
print("ready", flush=True)
while True:
    number = random.randrange(int(sys.argv[3]))
    content = bytes([number]) * (200_000 * (number + 1))
    def write(file):
        for start in range(0, len(content), 50_000):
            file.write(content[start : start + 50_000])
    with store.making(Kind.COMPILED, {"number": number}):
        store.put(Kind.COMPILED, {"number": number}, {"size": len(content)}, write)
    found = store.get(Kind.COMPILED, {"number": number})
    if found is not None:
        assert found.path.read_bytes() == content
        if random.random() < 0.7:
            found.release()
"""
HOLDER = """
import sys
from pathlib import Path
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
with ArtifactStore.at(Path(sys.argv[1])).making(Kind.COMPILED, {}):
    print("holds", flush=True)
    sys.stdin.read()
"""


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=60)


def check(directory: Path) -> int:
    """Look at all that is there, as another process does; how many contents were found."""
    store = ArtifactStore(BlobFolder(directory, LIMIT_BYTES, 0))
    num_found = 0
    for number in range(NUM_KEYS):
        found = store.get(Kind.COMPILED, {"number": number})
        if found is not None:
            assert found.path is not None
            assert found.path.read_bytes() == bytes([number]) * (200_000 * (number + 1))
            num_found += 1
    store.close()
    return num_found


def test_writers_that_are_killed_at_any_moment_leave_nothing_that_is_wrong(tmp_path: Path) -> None:
    random_moment = random.Random(7)
    writers = [start(WRITER, tmp_path, LIMIT_BYTES, NUM_KEYS) for _ in range(2)]
    num_found = 0
    try:
        for writer in writers:
            assert read_line(writer) == "ready"
        for _ in range(NUM_KILLS):
            time.sleep(random_moment.uniform(0.0, 0.05))  # the moment is what is tested
            position = random_moment.randrange(len(writers))
            writers[position].send_signal(signal.SIGKILL)
            assert writers[position].wait(60) == -signal.SIGKILL, "it had ended by itself"
            end(writers[position])
            writers[position] = start(WRITER, tmp_path, LIMIT_BYTES, NUM_KEYS)
            assert read_line(writers[position]) == "ready"
            num_found += check(tmp_path)
    finally:
        for writer in writers:
            end(writer)
    assert num_found > 0
    # What the dead have left goes as soon as it is old enough to be nobody's.
    later = ArtifactStore(BlobFolder(tmp_path, LIMIT_BYTES, 0, lambda: time.time() + 7200))
    later.blobs.clean()
    assert list((tmp_path / "arriving").iterdir()) == []
    assert list((tmp_path / "open").iterdir()) == []
    assert later.put(Kind.COMPILED, {"number": 9}, {}, lambda file: file.write(b"x" * 5_000_000)) == ""


def test_a_lock_goes_with_the_process_that_holds_it(tmp_path: Path) -> None:
    holder = start(HOLDER, tmp_path)
    waiter = None
    try:
        assert read_line(holder) == "holds"
        (lock,) = (tmp_path / "locks").iterdir()
        waiter = start(HOLDER, tmp_path)
        wait_until(lambda: lock in files_of(waiter.pid), "the other one waits")
        assert waiter.poll() is None
        holder.kill()
        assert read_line(waiter) == "holds"
    finally:
        end(holder)
        if waiter is not None:
            end(waiter)
