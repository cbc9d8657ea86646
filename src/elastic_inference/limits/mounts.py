"""Where the control groups of this process are mounted, from /proc; what is done in them is elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class GroupMount:
    """One hierarchy as this process sees it.

    Attributes:
        mount_point: Where the hierarchy is mounted.
        own_group: Directory of the group in which this process is. New groups are made below it, so that a
            limit that this process itself is under, such as a container's, holds for its accelerators too.
    """

    mount_point: Path
    own_group: Path


@dataclass(frozen=True)
class GroupMounts:
    """All hierarchies: one for each v1 controller (some may be the same), and the one of v2 if mounted."""

    v1: dict[str, GroupMount] = field(default_factory=dict)
    v2: GroupMount | None = None


def read_mounts(proc_dir: Path = Path("/proc/self")) -> GroupMounts:
    """Read `mountinfo` and `cgroup`; absent files (not Linux) mean that there are no hierarchies."""
    try:
        mountinfo = (proc_dir / "mountinfo").read_text()
        memberships = _memberships((proc_dir / "cgroup").read_text())
    except OSError:
        return GroupMounts()
    v1: dict[str, GroupMount] = {}
    v2: GroupMount | None = None
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 5 or len(tail) < 3 or tail[0] not in ("cgroup", "cgroup2"):
            continue
        root, mount_point = _unescape(fields[3]), Path(_unescape(fields[4]))
        if tail[0] == "cgroup2":
            v2 = v2 or GroupMount(mount_point, _own_group(mount_point, root, memberships.get("", "/")))
            continue
        for controller in tail[2].split(","):
            if controller in memberships and controller not in v1:
                own = _own_group(mount_point, root, memberships[controller])
                v1[controller] = GroupMount(mount_point, own)
    return GroupMounts(v1, v2)


def _memberships(text: str) -> dict[str, str]:
    """Return controller -> path of the own group; the controller of v2 is the empty name."""
    paths = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def _own_group(mount_point: Path, root: str, path: str) -> Path:
    """Return the directory of a group, where only the part of the hierarchy below `root` is mounted."""
    try:
        below = PurePosixPath(path).relative_to(root)
    except ValueError:  # the own group is not visible from here, as in some containers
        return mount_point
    if ".." in below.parts:
        return mount_point
    return mount_point / below


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
