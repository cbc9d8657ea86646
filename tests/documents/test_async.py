"""The service of docs/async.md under uvicorn; that its blocks run as they stand is test_blocks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import httpx

from tests.documents.blocks import ROOT, blocks_of
from tests.oracle import MODELS
from tests.waiting import wait_until

DOCUMENT = ROOT / "docs" / "async.md"
SERVE = "import uvicorn; uvicorn.run('app:app', uds='socket', log_level='warning')"


def test_the_service_answers(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "arithmetic", tmp_path / "model")
    service = next(block for block in blocks_of(DOCUMENT, DOCUMENT.read_text()) if "FastAPI" in block.text)
    (tmp_path / "app.py").write_text(service.text)
    with subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", SERVE], cwd=tmp_path
    ) as server:
        try:
            # uvicorn listens when the model is loaded.
            wait_until(lambda: (tmp_path / "socket").exists() or server.poll() is not None, "the service")
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(tmp_path / "socket"))) as client:
                good = client.post("http://s/predict", json={"x": [1.0, 2.0], "y": [3.0, 4.0]}, timeout=60)
                bad = client.post("http://s/predict", json={"z": [1.0]}, timeout=60)
        finally:
            server.terminate()
            server.wait(60)
    assert (good.status_code, good.json()) == (200, {"outputs": [4.0, 6.0]})
    assert bad.status_code == 422
    assert "unexpected keys" in bad.json()["detail"]
