"""docs/async.md: the service runs under uvicorn and answers, the other block runs as it stands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.shared import shared_path

BLOCKS = re.findall(
    r"^```python\n(.*?)^```",
    (Path(__file__).resolve().parents[1] / "docs" / "async.md").read_text(),
    re.MULTILINE | re.DOTALL,
)
SERVE = "import sys, uvicorn; uvicorn.run('app:app', uds='socket', log_level='warning')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(shared_path("predictor_oracle/models/arithmetic"), tmp_path / "model")
    return tmp_path


def test_the_service_answers(folder: Path) -> None:
    (folder / "app.py").write_text(BLOCKS[0])
    with subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SERVE], cwd=folder
    ) as server:
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(folder / "socket"), retries=0)) as client:
                while not (folder / "socket").exists():  # uvicorn listens when the model is loaded
                    assert server.poll() is None
                good = client.post("http://s/predict", json={"x": [1.0, 2.0], "y": [3.0, 4.0]}, timeout=60)
                bad = client.post("http://s/predict", json={"z": [1.0]}, timeout=60)
        finally:
            server.terminate()
            server.wait(60)
    assert (good.status_code, good.json()) == (200, {"outputs": [4.0, 6.0]})
    assert bad.status_code == 422
    assert "unexpected keys" in bad.json()["detail"]


def test_the_other_block_runs(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKS[1]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"[{n + 1}.]" for n in range(10)]
