"""The documents as a site: built strictly, whole, without a request to elsewhere, and legible at two sizes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material", reason="needs the extra docs")
pytest.importorskip("mkdocstrings")
ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
LOADED = re.compile(r"""<(?:script|img|iframe|link)[^>]*?\b(?:src|href)=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(ROOT / "deploy/site/mkdocs.yml"),
    ]
    done = subprocess.run(
        [*command, "-d", str(folder)], capture_output=True, text=True, timeout=240, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_document_and_what_is_made_of_the_program_is_in_it(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} <= pages
    python = (site / "reference/python.html").read_text()
    for name in ("EIPredictor", "predict_timed", "Accelerator", "timeout_seconds"):
        assert name in python
    assert "CapacityExceeded" in (site / "reference/errors.html").read_text()
    rest = (site / "reference/rest.html").read_text()
    for text in ("POST /v1/accelerators", "GET /v1/health", 'href="#'):
        assert text in rest
    assert (site / "examples/report/report.html").stat().st_size > 10_000


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        links = [tag for tag in LOADED.finditer(path.read_text()) if "canonical" not in tag[0]]
        assert links == [], path


@pytest.mark.parametrize("width", [390, 1300])
def test_pages_are_no_wider_than_the_screen(site: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        for name in ("index", "hosts", "measurements", "reference/python", "reference/rest", "commands"):
            page.goto(f"file://{site}/{name}.html")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        browser.close()
