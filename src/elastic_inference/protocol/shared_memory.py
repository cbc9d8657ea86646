"""POSIX shared memory regions by key, as the protocol's system shared memory extension names them.

The client makes a region, registers its key with the server and unlinks it at once: both keep their mapping, and a
file is left behind only by a client that is killed within the one exchange between. The same user's next client that
makes a region takes such files away.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import secrets
import socket
import stat
import struct
import time
from pathlib import Path

from elastic_inference.errors import InvalidInput

_DIRECTORY = Path("/dev/shm")  # where Linux keeps what shm_open names
KEY_LIMIT = 200
_NAME = re.compile(r"elastic-inference-(\d+)-[0-9a-f]{32}")
# A name lives for one exchange; its process may be alive where it is not seen, in a container that shares the folder.
_LEFT_SECONDS = 60.0
_ACL_NAME = "system.posix_acl_access"
_NOBODY = 0xFFFFFFFF  # the id of entries that name no one


class Region:
    """One mapped region.

    Attributes:
        key: `/name`, as given to shm_open.
        size_bytes: Of the mapping.
        view: The mapped bytes, writable.
    """

    def __init__(self, key: str, mapping: mmap.mmap) -> None:
        self.key = key
        self.size_bytes = len(mapping)
        self._mapping = mapping
        self.view = memoryview(mapping)

    @classmethod
    def create(cls, size_bytes: int) -> Region:
        """Make a region of at least `size_bytes` under a name that cannot be guessed, for its owner alone.

        Raises:
            OSError: There is no room, or this system has no /dev/shm.
        """
        if not _DIRECTORY.is_dir():
            raise FileNotFoundError(f"this system has no {_DIRECTORY}")
        _remove_left()
        key = f"/elastic-inference-{os.getpid()}-{secrets.token_hex(16)}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_DIRECTORY / key[1:], flags, 0o600)
        try:
            # posix_fallocate, because a full /dev/shm should be an error here and not a SIGBUS at the first write.
            os.posix_fallocate(fd, 0, max(size_bytes, 1))
            # Its pages are mapped at once, not by a fault for each at the first call. Who opens a region does not do
            # so: its maker may have left it without pages, which would then count as the opener's.
            flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
            return cls(key, mmap.mmap(fd, max(size_bytes, 1), flags=flags))
        except BaseException:
            os.unlink(_DIRECTORY / key[1:])
            raise
        finally:
            os.close(fd)

    def grant(self, uid: int) -> None:
        """Let one more user open the region; OSError where /dev/shm has no access control lists.

        An accelerator of a host runs as a user of its own, so that it can open nobody else's.
        """
        os.setxattr(_DIRECTORY / self.key[1:], _ACL_NAME, _acl(uid), follow_symlinks=False)

    @classmethod
    def open(cls, key: str, size_bytes: int, offset: int = 0, peer_uid: int | None = None) -> Region:
        """Map a region that another process made.

        Args:
            peer_uid: The user who asks for it, as the kernel tells (see `peer_uid`): a region of that user may be
                opened besides one's own. None where the kernel tells nothing.

        Raises:
            InvalidInput: The key is malformed, or names nothing that this process may use, or is too small.
        """
        name = key.removeprefix("/")
        if not name or "/" in name or name.startswith(".") or "\0" in name or len(name) > KEY_LIMIT:
            raise InvalidInput(
                f"shared memory key {key!r} must be '/' and a name of 1 to {KEY_LIMIT} characters"
            )
        try:
            fd = os.open(_DIRECTORY / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (OSError, UnicodeError) as error:
            text = error.strerror if isinstance(error, OSError) else "not a name"
            raise InvalidInput(f"unable to open shared memory region {key!r}: {text}") from error
        try:
            status = os.fstat(fd)
            # Root may open anyone's region: ownership, not permission, says whose it is.
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (os.geteuid(), peer_uid):
                raise InvalidInput(f"unable to open shared memory region {key!r}: not owned by this user")
            if size_bytes < 1 or offset < 0 or offset + size_bytes > status.st_size:
                raise InvalidInput(
                    f"shared memory region {key!r}: offset {offset} + byte_size {size_bytes} exceeds its "
                    f"{status.st_size} bytes"
                )
            mapping = mmap.mmap(fd, offset + size_bytes)
        except OSError as error:
            raise InvalidInput(f"unable to map shared memory region {key!r}: {error}") from error
        finally:
            os.close(fd)
        region = cls(key, mapping)
        region.view = region.view[offset:]
        region.size_bytes = size_bytes
        return region

    def is_whole(self) -> bool:
        """Whether the file still is as long as the mapping; touching pages behind its end would be a SIGBUS."""
        return self._mapping.size() >= len(self._mapping)

    def unlink(self) -> None:
        """Take the name away; mappings stay. Fine when it is gone already."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_DIRECTORY / self.key[1:])

    def close(self) -> None:
        """Unmap, as soon as no array looks at the region any more."""
        with contextlib.suppress(BufferError):  # an array still looks at it: its end unmaps
            self.view.release()
            self._mapping.close()


def _remove_left() -> None:
    """Remove what this user's killed clients left."""
    with os.scandir(_DIRECTORY) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None or Path("/proc", match[1]).exists():
                continue
            with contextlib.suppress(OSError):  # another client was quicker
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.geteuid() and time.time() - status.st_mtime > _LEFT_SECONDS:
                    os.unlink(entry)


def peer_uid(sock: socket.socket) -> int | None:
    """Return the user at the other end of a Unix socket, as the kernel tells; None for other sockets."""
    if sock.family != getattr(socket, "AF_UNIX", None):
        return None
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def _acl(uid: int) -> bytes:
    """Read and write for the owner and `uid`, nothing for all others, as linux/posix_acl_xattr.h lays it out."""
    user_obj, user, group_obj, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
    entries = (
        (user_obj, 6, _NOBODY),
        (user, 6, uid),
        (group_obj, 0, _NOBODY),
        (mask, 6, _NOBODY),
        (other, 0, _NOBODY),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
