"""The serving systems that we are measured against: their versions and their environments.

Each has its own virtual environment (`.venv-bench-NAME` beside the checkout's `.venv`), because their
dependencies exclude one another; `setup_peers` makes them.
"""

from __future__ import annotations

import json
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peer:
    """One serving system from PyPI.

    Attributes:
        requirements: What pip installs. Versions are fixed, so that a figure can be had again.
        note: How its usual client sends the frame; it stands in the table.
    """

    name: str
    requirements: tuple[str, ...]
    note: str

    @property
    def home(self) -> Path:
        """Its virtual environment."""
        return ROOT / f".venv-bench-{self.name}"

    @property
    def python(self) -> Path:
        """Its interpreter; absent until `install` ran."""
        return self.home / "bin" / "python"

    def is_installed(self) -> bool:
        """Whether the environment was made from exactly these requirements."""
        stamp = self.home / "requirements.json"
        return stamp.is_file() and json.loads(stamp.read_text()) == list(self.requirements)

    def install(self) -> None:
        """Make the environment, or do nothing where it stands already."""
        if self.is_installed():
            return
        venv.create(self.home, with_pip=True, clear=True)
        subprocess.run([self.python, "-m", "pip", "install", "-q", *self.requirements], check=True)
        (self.home / "requirements.json").write_text(json.dumps(self.requirements))


PEERS = {
    peer.name: peer
    for peer in (
        Peer("mosec", ("mosec==0.9.8", "numpy"), "raw body by http.client"),
        Peer("grpcio", ("grpcio==1.85.1", "protobuf==7.36.2", "numpy"), "protobuf BytesValue"),
        Peer("litserve", ("litserve==0.2.19", "numpy"), "raw body by http.client"),
        Peer("mlserver", ("mlserver==1.7.1", "numpy"), "one BYTES tensor over gRPC"),
    )
}
