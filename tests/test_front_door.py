"""What `import elastic_inference` gives: every name of its list, every error, one version, and a small import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import elastic_inference
from elastic_inference import errors

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]


def test_every_name_of_the_list_is_there_and_every_error_in_it() -> None:
    for name in elastic_inference.__all__:
        assert getattr(elastic_inference, name) is not None
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert classes == set(errors.__all__)
    assert classes <= set(elastic_inference.__all__)
    assert {"Accelerator", "AsyncEIPredictor", "EIPredictor", "LoadOptions", "Tls"} <= set(
        elastic_inference.__all__
    )


def test_the_distribution_takes_its_version_from_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "elastic_inference.__version__"}
    assert elastic_inference.__version__.count(".") == 2


def test_asyncio_is_imported_by_those_who_use_it() -> None:
    program = "import sys, elastic_inference; print('asyncio' in sys.modules, hasattr(elastic_inference, 'Nothing'))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "False False\n"
