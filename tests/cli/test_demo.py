"""`ei demo` on few frames: the table, the remarks, the files; with the reference detector from the shared assets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from elastic_inference import zoo
from elastic_inference.cli._prices import price_basis
from elastic_inference.errors import InvalidInput
from tests.shared import shared_path
from tests.video.clips import read_all


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A model cache that holds the reference detector, so that nothing is fetched."""
    model = zoo.MODELS["ssd_mobilenet_v2_coco"]
    folder = tmp_path / "cache"
    (folder / "models").mkdir(parents=True)
    shutil.copyfile(shared_path(f"assets/models/{model.file_name}"), folder / "models" / model.file_name)
    return folder


def test_the_demo_compares_and_writes_what_it_says(cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "elastic_inference", "demo", "--frames", "6", "-o", str(output)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"EI_CACHE_DIR": str(cache)},
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "without accelerator with accelerator",
        "model load time",
        "number of frames 6 6 average",
        "average inference time",
        "total inference time",
        "client's CPU a frame",
        "USD per 100,000 inferences",
        "speed-up of the average inference",
        "m5.large, us-west-2, 2019-06, the article",
        "both runs found the same (within 0.001)",
        "this machine's own CPU",
    ):
        assert line in " ".join(done.stdout.split()), done.stdout
    assert len(read_all(output / "annotated.mp4")[0]) == 6
    assert (output / "annotated.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads((output / "report.json").read_text())
    without, with_ei = report["without_accelerator"], report["with_accelerator"]
    assert (without["use_ei"], with_ei["use_ei"]) == (False, True)
    assert report["speed_up"] == pytest.approx(
        without["average_inference_seconds"] / with_ei["average_inference_seconds"]
    )
    usd = Decimal(report["costs"]["usd_per_100k_with"])
    assert float(usd) == pytest.approx(0.226 * with_ei["average_inference_seconds"] * 100_000 / 3600)
    assert report["agreement"]["is_same"] is True
    assert report["agreement"]["num_compared"] > 6


def test_prices_are_the_shipped_rows_unless_given(tmp_path: Path) -> None:
    basis = price_basis(None, None, None)
    assert (basis.client_usd_per_hour, basis.accelerator_usd_per_hour) == (Decimal("0.096"), Decimal("0.13"))
    assert "2019-06" in basis.client
    given = price_basis("0.05", "0", None)
    assert (given.client, given.client_usd_per_hour) == ("given by --client-usd-per-hour", Decimal("0.05"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        price_basis(None, None, tmp_path / "none.csv")
