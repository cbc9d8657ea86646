"""Accelerators of an earlier run that the database does not know, as when it was lost: found by where they work.

Nobody has their tokens and nobody counts what they use, so they are ended.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

from elastic_inference.errors import LimitError
from elastic_inference.host.processes.folders import GROUP_PREFIX, HostFolder
from elastic_inference.limits.base import is_accelerator_id
from elastic_inference.limits.files import CgroupFiles, kill_all, remove_groups
from elastic_inference.limits.mounts import read_mounts
from elastic_inference.limits.processes import list_processes, process_uid, wait_readable

logger = logging.getLogger(__name__)

_END_SECONDS = 5.0


def end_orphans(
    folder: HostFolder,
    known_ids: frozenset[str],
    known_pids: frozenset[int],
    known_homes: frozenset[Path],
    uids: range | None,
) -> None:
    """End processes and remove folders that belong to none of the host's accelerators.

    Args:
        known_ids: Accelerators of the database.
        known_pids: Their processes.
        known_homes: Where these work. What else works there, such as the process that proves a model, is theirs.
        uids: Users that accelerators have, one each; None: they have the host's own.
    """
    folders = [path for path in folder.accelerators.iterdir() if path.name not in known_ids]
    owners = {path.lstat().st_uid for path in folders}
    users = owners.intersection(uids or ())
    for pid in (*_working_below(folder.homes, known_homes), *_of_users(users)):
        if pid not in known_pids:
            _end(pid)
    for path in folders:
        logger.warning("folder of an unknown accelerator is removed", extra={"accelerator_id": path.name})
        folder.remove_tree(path)


def _working_below(homes: Path, known: frozenset[Path] = frozenset()) -> Iterator[int]:
    """Yield processes that work in a folder below `homes` but those known, also where it has been removed since."""
    top = homes.resolve()
    for pid in list_processes():
        with contextlib.suppress(OSError):
            place = Path(os.readlink(f"/proc/{pid}/cwd"))
            if top in place.parents and known.isdisjoint((place, *place.parents)):
                yield pid


def _of_users(users: Iterable[int]) -> Iterator[int]:
    wanted = set(users)
    if wanted:
        yield from (pid for pid in list_processes() if process_uid(pid) in wanted)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        groups = _groups_of(pid)
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_readable((pidfd,), _END_SECONDS)
            logger.warning("process of an unknown accelerator is ended", extra={"pid": pid})
        finally:
            os.close(pidfd)
        for group in groups:
            _remove_group(group)


def _groups_of(pid: int) -> frozenset[Path]:
    """Return the control groups that its host made for an accelerator: under another id where its folder was lost."""
    mounts = read_mounts(Path(f"/proc/{pid}"))
    found = [mount.own_group for mount in (*mounts.v1.values(), mounts.v2) if mount is not None]
    return frozenset(
        group
        for group in found
        if is_accelerator_id(group.name) and group.parent.name.startswith(GROUP_PREFIX)
    )


def _remove_group(group: Path) -> None:
    files = CgroupFiles()
    try:
        kill_all(files, [group])
        remove_groups(files, [group])
    except LimitError as error:
        logger.error("control group is not removed", extra={"why": str(error)})
    files.remove(group.parent)  # where it was the last one
