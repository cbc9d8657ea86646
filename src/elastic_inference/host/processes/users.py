"""Users of the machine that its hosts give to accelerators, one each; no two hosts ever give the same.

A claim is a file that the host holds locked while it runs. The file names the host's state directory, for a claim
outlives its host: as long as a folder there belongs to the user, or a process runs as it, nobody else gets it.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from elastic_inference.errors import CapacityExceeded, InvalidInput
from elastic_inference.limits.processes import users_with_processes

# Not below /run: what a user's folders hold outlives the machine's run.
CLAIMS = Path("/var/lib/elastic-inference-users")


class Users:
    """The users that this host may give, and those that it has given.

    Args:
        uids: To choose from; None: accelerators run as the host's own user, and nothing is claimed.
        state_dir: The host's own.
        claims: A folder that all hosts of the machine share.
    """

    def __init__(self, uids: range | None, state_dir: Path, claims: Path = CLAIMS) -> None:
        self._uids = uids
        self._state_dir = state_dir
        self._claims = claims
        self._held: dict[int, int] = {}  # the locked file by user
        self._lock = threading.Lock()
        if uids is not None:
            try:
                claims.mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                raise InvalidInput(
                    f"{claims}, in which hosts claim users, cannot be made: {error.strerror}"
                ) from error
            self._prune()

    def take(self) -> int | None:
        """Claim a user that nobody has; None where accelerators run as the host's own.

        Raises:
            CapacityExceeded: All are taken.
        """
        if self._uids is None:
            return None
        with self._lock:
            busy = users_with_processes()
            for uid in self._uids:
                if uid not in self._held and uid not in busy and self._claim(uid):
                    return uid
            num_mine = len(self._held)
        first, last = self._uids[0], self._uids[-1]
        raise CapacityExceeded(
            f"all users {first} to {last} are taken, {num_mine} of {len(self._uids)} by this host; detach "
            "accelerators, or start the host with more (--uids)",
            requested="1 user",
            available=f"none of {len(self._uids)}",
        )

    @property
    def num_left(self) -> int | None:
        """How many this host has not given; None where accelerators run as its own user."""
        with self._lock:
            return None if self._uids is None else len(self._uids) - len(self._held)

    def take_back(self, uid: int) -> bool:
        """Claim the user of an accelerator of an earlier run; False where another host has it."""
        if self._uids is None:
            return True
        with self._lock:
            return uid in self._held or self._claim(uid)

    def give_back(self, uid: int | None) -> None:
        """Let go of a user of which nothing is left; one that is not held is fine."""
        with self._lock:
            file = None if uid is None else self._held.pop(uid, None)
            if file is not None:
                self._path(uid or 0).unlink(missing_ok=True)
                os.close(file)

    def close(self) -> None:
        """Unlock all. The claims stay: their folders are there for the host's next run."""
        with self._lock:
            while self._held:
                os.close(self._held.popitem()[1])

    def _prune(self) -> None:
        """Remove claims of hosts whose folders are gone."""
        busy = users_with_processes()
        for uid in (int(path.name) for path in self._claims.iterdir() if path.name.isdigit()):
            if uid not in busy and self._claim(uid):
                self.give_back(uid)

    def _claim(self, uid: int) -> bool:
        path = self._path(uid)
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = _is_file(file, path) and self._may_take_over(os.pread(file, 4096, 0), uid)
            if is_ours:
                os.ftruncate(file, 0)
                os.pwrite(file, os.fsencode(self._state_dir), 0)
                self._held[uid] = file
        except OSError:  # another host holds it
            is_ours = False
        if not is_ours:
            os.close(file)
        return is_ours

    def _may_take_over(self, claimed_by: bytes, uid: int) -> bool:
        """Whether the last claim is ours, or nothing is left of what it was for."""
        state_dir = Path(os.fsdecode(claimed_by))
        return not claimed_by or state_dir == self._state_dir or not _owns_a_folder(state_dir, uid)

    def _path(self, uid: int) -> Path:
        return self._claims / str(uid)


def _is_file(file: int, path: Path) -> bool:
    """Whether the open file is still the one of that name: it may have been given back before it was locked."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _owns_a_folder(state_dir: Path, uid: int) -> bool:
    try:
        return any(path.lstat().st_uid == uid for path in (state_dir / "accelerators").iterdir())
    except OSError:
        return False
