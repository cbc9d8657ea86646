"""A reader who does what a document says, block after block, in a folder and with a host of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from elastic_inference import zoo
from tests.documents.blocks import Block, Command, shows
from tests.host.conftest import _measured_cache, free_ports
from tests.host.support import wait_until
from tests.oracle import MODELS
from tests.shared import shared_file

HOST_START = "ei host start"
HOST_ADDRESS = "127.0.0.1:8500"
COMMAND_SECONDS = 240.0
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
EXPLORER_DATA = Path(__file__).resolve().parents[2] / "src" / "elastic_inference" / "explorer" / "data"


class Reader:
    """Runs the blocks of one document.

    What a document takes for granted is there: a SavedModel in `model`, `latencies.csv`, `prices.csv` and `examples/`.
    The host listens elsewhere than the document says, since other tests have hosts too. STATE_DIR is where its state
    is, and ID the accelerator that was attached last, which programs find in their environment.

    Args:
        folder: Empty, and open to other users where the tests run as root, since accelerators are such.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work = folder / "work"
        self._work.mkdir()
        self._ports = free_ports()
        self._accelerator: dict[str, str] = {}
        self._host: subprocess.Popen[str] | None = None
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("EI_")} | {
            "PATH": f"{self._programs()}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self._work),
            "EI_STATE_DIR": str(folder / "state"),
            "XDG_CACHE_HOME": _measured_cache(folder),
        }
        shutil.copytree(MODELS / "arithmetic", self._work / "model")
        shutil.copyfile(EXPLORER_DATA / "article_measurements.csv", self._work / "latencies.csv")
        shutil.copyfile(EXPLORER_DATA / "prices.csv", self._work / "prices.csv")
        (self._work / "examples").symlink_to(EXAMPLES)
        self._link_models()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._host is not None and self._host.poll() is None:
            self._host.terminate()
            try:
                self._host.wait(60)
            finally:
                self._host.kill()

    def _programs(self) -> Path:
        """A folder with `ei`, as an installed package has it, of the interpreter that runs the tests."""
        programs = self._folder / "bin"
        programs.mkdir()
        program = programs / "ei"
        program.write_text(
            f"#!{sys.executable}\nimport sys\nfrom elastic_inference.cli import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        return programs

    def run(self, block: Block) -> None:
        """Run one block; AssertionError with its place and what was printed where it fails."""
        if block.language == "python":
            self._run_program(block)
        for command in block.commands() if block.language == "console" else ():
            if command.text.startswith(HOST_START):
                self._start_host(block, command)
            else:
                self._run_command(block, command)

    def _run_program(self, block: Block) -> None:
        environment = self._environment | {f"EI_{name.upper()}": v for name, v in self._accelerator.items()}
        printed = self._finished(
            [sys.executable, "-W", "error", "-c", self._filled_in(block.text)], environment, block.place
        )
        assert shows(printed, tuple(block.printed)), f"{block.place} printed:\n{printed}"

    def _run_command(self, block: Block, command: Command) -> None:
        place = f"{block.document.name}:{command.line}"
        printed = self._finished(
            ["bash", "-e", "-c", self._filled_in(command.text)], self._environment, place
        )
        if found := re.search(r"eia-[0-9a-f]{32}", printed):
            self._accelerator["accelerator"] = found[0]
        if found := re.search(r'"token": "(\S+)"', printed):
            self._accelerator["token"] = found[1]
        assert printed.strip(), f"{place}: {command.text} printed nothing"
        assert shows(printed, self._wanted(command)), f"{place}: {command.text} printed:\n{printed}"

    def _finished(self, arguments: list[str], environment: dict[str, str], place: str) -> str:
        done = subprocess.run(
            arguments,
            cwd=self._work,
            env=environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"{place}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _start_host(self, block: Block, command: Command) -> None:
        text = self._filled_in(command.text).replace(
            HOST_START, f"exec {HOST_START} --ports {self._ports[1]}-{self._ports[-1]}", 1
        )
        if "--listen" not in text:
            text = text.replace(HOST_START, f"{HOST_START} --listen {self._address}", 1)
        output, log = self._folder / "host.out", self._folder / "host.log"
        with output.open("w") as out, log.open("w") as err:
            host = subprocess.Popen(
                ["bash", "-c", text], cwd=self._work, env=self._environment, stdout=out, stderr=err, text=True
            )
        self._host = host
        wait_until(lambda: bool(output.read_text()) or host.poll() is not None, f"{block.place}: {text}")
        assert host.poll() is None, f"{block.place}: the host ended\n{log.read_text()[-3000:]}"
        assert shows(output.read_text(), self._wanted(command)), (
            f"{block.place} printed:\n{output.read_text()}"
        )
        self._environment["EI_HOST"] = f"http://{self._address}"

    def _wanted(self, command: Command) -> tuple[str, ...]:
        return tuple(map(self._filled_in, command.output))

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._ports[0]}"

    def _filled_in(self, text: str) -> str:
        text = text.replace(HOST_ADDRESS, self._address).replace(
            "STATE_DIR", self._environment["EI_STATE_DIR"]
        )
        return re.sub(r"\bID\b", self._accelerator.get("accelerator", "ID"), text)

    def _link_models(self) -> None:
        """Put what this machine has of the zoo into the document's cache; the rest is fetched when it is named."""
        folder = Path(self._environment["XDG_CACHE_HOME"]) / "elastic-inference" / "models"
        folder.mkdir()
        for model in zoo.MODELS.values():
            fetched = zoo.cached_path(model) if zoo.is_fetched(model) else None
            here = fetched or shared_file(f"assets/models/{model.file_name}")
            if here is not None:
                (folder / model.file_name).symlink_to(here)
