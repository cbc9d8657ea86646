"""An older version's host and accelerators, upgraded by the next one's start while clients call.

The older one is no recording: it is the program as it was before the newest change of the database, taken from this
clone's history, and its accelerators run that program to the end.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from elastic_inference.host.accounts import schema
from elastic_inference.host.backup import read_backup, restore_backup, write_backup
from elastic_inference.host.processes.folders import HostFolder
from elastic_inference.limits.processes import ProcessIdentity
from tests.host.conftest import HostProcess
from tests.host.support import wait_until

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = "src/elastic_inference/host/accounts/migrations/versions"
StartHost = Callable[..., HostProcess]
# A client of that time, too: it calls until its standard input ends, and writes what each call came to.
CLIENT = """
import sys, threading
import numpy as np
from elastic_inference import EIPredictor
endpoint, token, model = sys.argv[1:]
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
with EIPredictor(
    model, input_names={"x": "x:0"}, output_names={"y": "y:0"}, address=endpoint, token=token
) as predict:
    while not ended.is_set():
        try:
            print(predict({"x": np.array([3], np.int32)})["y"].tolist(), flush=True)
        except Exception as error:
            print(repr(error), flush=True)
"""


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


def process_in(state_dir: Path) -> ProcessIdentity:
    """The only accelerator's process, from a database of whatever schema."""
    with closing(sqlite3.connect(state_dir / "state.db")) as db:
        ((process,),) = db.execute("SELECT process FROM accelerators")
    return ProcessIdentity(**json.loads(process))


class OldClient:
    """A program of its own that calls; each line of its output is an answer or an error."""

    def __init__(self, sources: Path, output: Path, *arguments: str) -> None:
        self._output = output
        with output.open("w") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-c", CLIENT, *arguments],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(sources)},
            )

    def outcomes(self) -> list[str]:
        return self._output.read_text().splitlines()

    def wait_for_more(self, number: int, why: str) -> None:
        enough = len(self.outcomes()) + number
        wait_until(lambda: len(self.outcomes()) > enough or self._process.poll() is not None, why)
        assert self._process.poll() is None, self.outcomes()[-5:]

    def end(self) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they were before the newest step of the database."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a clone with its history")
    newest = git("log", "-1", "--diff-filter=A", "--format=%H", "--", MIGRATIONS)
    if not newest or git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("needs the history of the database's steps, which this clone does not have")
    folder = tmp_path_factory.mktemp("before")
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", f"{newest}^", "src"], capture_output=True, timeout=60, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, timeout=60, check=True)
    for path in (folder, *folder.parents):
        if path.stat().st_mode & 0o005 != 0o005 and path.owner() == folder.owner():
            path.chmod(0o755)  # accelerators are other users where the tests run as root
    return folder / "src"


def test_an_upgrade_under_running_accelerators_costs_no_call(
    start_host: StartHost,
    state_dir: Path,
    model: Path,
    before: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as changed:
        changed.setenv("PYTHONPATH", str(before))
        host = start_host("--keep-running")
    attached = host.session().attach("cpu.quarter")
    process = process_in(state_dir)
    assert str(before) in Path(f"/proc/{host.process.pid}/environ").read_text()
    arguments = attached.endpoints[0], attached.token, str(model)
    client = OldClient(before, tmp_path / "outcomes", *arguments)
    try:
        client.wait_for_more(5, "first answers")
        old = write_backup(HostFolder(state_dir), None, tmp_path / "old.tar")
        assert old.schema < schema.REVISION
        assert host.end() == 0
        host = start_host("--keep-running")
        client.wait_for_more(20, "answers after the upgrade")
        assert write_backup(HostFolder(state_dir), None, tmp_path / "new.tar").schema == schema.REVISION
        assert (state_dir / f"state.db.before-{old.schema}").exists()
        # And back to the old backup, which is upgraded once more.
        assert host.end() == 0
        restore_backup(tmp_path / "old.tar", HostFolder(state_dir), None)
        assert read_backup(state_dir / "before-restore.tar").schema == schema.REVISION
        host = start_host()
        client.wait_for_more(20, "answers after the restore")
    finally:
        client.end()
    assert set(client.outcomes()) == {"[6]"}
    assert process_in(state_dir) == process
    shown = host.session().request("GET", f"/v1/accelerators/{attached.accelerator_id}")
    assert (shown["state"], shown["num_restarts"]) == ("ready", 0)
    host.session(attached.token).detach(attached.accelerator_id)
    assert not process.is_alive()
