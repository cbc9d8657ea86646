"""What is published is what is in the source, under the version that the changelog names, by targets that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import elastic_inference

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools.build_meta import build_wheel; print(build_wheel(sys.argv[1]))"


def test_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    wheel = zipfile.ZipFile(tmp_path / built.stdout.splitlines()[-1])
    wanted = {path.relative_to(ROOT / "src").as_posix() for path in _files(ROOT / "src")}
    assert sorted(wanted - set(wheel.namelist())) == []


def _files(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if "__pycache__" not in path.parts and ".egg-info" not in str(path)]


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0][0] == elastic_inference.__version__
    assert all(re.fullmatch(r"not released|\d{4}-\d\d-\d\d", when) for _, when in headings)


def test_the_workflow_and_the_hooks_run_targets_of_the_makefile() -> None:
    yaml = pytest.importorskip("yaml")
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    runs += [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert {"make lint", "make test", "make release"} <= set(runs)
    for run in runs:
        program, target = run.split()
        assert (program, target in targets) == ("make", True), run
