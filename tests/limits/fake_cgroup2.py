"""A plain directory that answers as the v2 hierarchy of the kernel does, for machines that mount v1.

What it holds to, from the kernel's admin-guide/cgroup-v2: files appear with a group and follow the
controllers of its parent's `cgroup.subtree_control`; a group with processes cannot hand controllers on
(EBUSY), nor a controller that it was not handed (ENOENT); a process is in one group; a removed group must be
empty; values are checked.
"""

from __future__ import annotations

import re
from pathlib import Path

from elastic_inference.errors import LimitError
from elastic_inference.limits.files import CgroupFiles

_CORE = {"cgroup.procs": "", "cgroup.subtree_control": "", "cpu.stat": "usage_usec 0\nuser_usec 0\n"}
_BY_CONTROLLER = {
    "cpuset": {"cpuset.cpus": "\n", "cpuset.mems": "\n"},
    "cpu": {"cpu.max": "max 100000\n", "cpu.weight": "100\n"},
    "memory": {
        "memory.max": "max\n",
        "memory.current": "0\n",
        "memory.stat": "anon 0\ninactive_file 0\n",
        "memory.swap.max": "max\n",
        "memory.oom.group": "0\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n",
    },
}
_VALUES = {
    "cpuset.cpus": re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*|"),
    "cpu.max": re.compile(r"(max|[1-9]\d{3,}) [1-9]\d{3,6}"),
    "cpu.weight": re.compile(r"[1-9]\d{0,3}|10000"),
    "memory.max": re.compile(r"max|\d+"),
    "memory.swap.max": re.compile(r"max|\d+"),
    "memory.oom.group": re.compile(r"[01]"),
}


class FakeCgroup2Files(CgroupFiles):
    """Stands in for the kernel below `root`, whose own group has the controllers named."""

    def __init__(self, root: Path, controllers: str = "cpuset cpu io memory pids") -> None:
        self.root = root
        self._fill(root, controllers)

    def make(self, directory: Path) -> None:
        is_new = not directory.exists()
        super().make(directory)
        if is_new:
            self._fill(directory, (directory.parent / "cgroup.subtree_control").read_text())

    def remove(self, directory: Path) -> bool:
        if not directory.exists():
            return True
        if self.processes(directory) or self.groups(directory):
            return False
        for file in directory.iterdir():
            file.unlink()
        return super().remove(directory)

    def write(self, path: Path, value: str | int) -> None:
        text = str(value)
        if not path.exists():
            raise LimitError(f"{path} did not take {text}: No such file or directory")
        if path.name == "cgroup.subtree_control":
            self._hand_on(path.parent, text)
        elif path.name == "cgroup.procs":
            self._move(path, int(text))
        elif path.name in _VALUES and not _VALUES[path.name].fullmatch(text):
            raise LimitError(f"{path} did not take {text}: Invalid argument")
        else:
            path.write_text(text + "\n")

    def _fill(self, directory: Path, controllers: str) -> None:
        (directory / "cgroup.controllers").write_text(controllers)
        files = dict(_CORE)
        for controller in controllers.split():
            files.update(_BY_CONTROLLER.get(controller, {}))
        for name, text in files.items():
            if not (directory / name).exists():
                (directory / name).write_text(text)

    def _hand_on(self, directory: Path, text: str) -> None:
        names = [word.removeprefix("+") for word in text.split()]
        missing = set(names) - set((directory / "cgroup.controllers").read_text().split())
        if missing:
            raise LimitError(f"{directory} does not have {missing}: No such file or directory")
        if directory != self.root.parent and self.processes(directory):
            raise LimitError(f"{directory} holds processes: Device or resource busy")
        (directory / "cgroup.subtree_control").write_text(" ".join(names))
        for child in self.groups(directory):
            self._fill(child, " ".join(names))

    def _move(self, path: Path, pid: int) -> None:
        for procs in self.root.rglob("cgroup.procs"):
            pids = [line for line in procs.read_text().split() if int(line) != pid]
            procs.write_text("".join(f"{line}\n" for line in pids))
        path.write_text(path.read_text() + f"{pid}\n")
