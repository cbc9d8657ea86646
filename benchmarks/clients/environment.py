"""NVIDIA's perf_analyzer and Triton from PyPI, in an environment of their own.

`python -m benchmarks.clients.environment` makes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from ctypes import CDLL

from benchmarks.common import ROOT

HOME = ROOT / ".venv-bench-triton"
REQUIREMENTS = ("tritonclient==2.51.0", "nvidia-pytriton==0.7.0", "nvidia-cuda-runtime-cu12==12.9.79")
"""The first has perf_analyzer 2.51 in its manylinux1 wheel, the second the server; perf_analyzer needs the third."""

_PACKAGES = HOME / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
_SERVER = _PACKAGES / "pytriton" / "tritonserver"
PERF_ANALYZER = HOME / "bin" / "perf_analyzer"
TRITON = _SERVER / "bin" / "tritonserver"
BACKENDS = _SERVER / "backends"
_STAMP = HOME / "made"
_LIBRARIES = (
    _PACKAGES / "nvidia" / "cuda_runtime" / "lib",
    HOME / "debian" / "usr" / "lib" / "x86_64-linux-gnu",
)


def install() -> None:
    """Make the environment, or do nothing where it stands already.

    Raises:
        subprocess.CalledProcessError: A package cannot be had here.
        OSError: A library that perf_analyzer needs cannot.
    """
    if _STAMP.exists():
        return
    venv.create(HOME, with_pip=True, clear=True)
    pip = [HOME / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    subprocess.run([*pip, "numpy<2"], check=True)  # its python backend reads outputs of numpy 2 as empty
    subprocess.run([*pip, "--no-deps", *REQUIREMENTS], check=True)
    stub = f"python_backend_stubs/{sys.version_info[0]}.{sys.version_info[1]}/triton_python_backend_stub"
    shutil.copy(_SERVER / stub, BACKENDS / "python")
    for program in (PERF_ANALYZER, TRITON, BACKENDS / "python" / "triton_python_backend_stub"):
        program.chmod(0o755)
    _install_libb64()
    _STAMP.touch()


def _install_libb64() -> None:
    """Take Debian's libb64, which perf_analyzer is linked with, where the system has none."""
    try:
        CDLL("libb64.so.0d")
        return
    except OSError:
        (HOME / "debian").mkdir()
    subprocess.run(["apt-get", "download", "libb64-0d"], cwd=HOME / "debian", check=True)
    (package,) = (HOME / "debian").glob("libb64-0d*.deb")
    subprocess.run(["dpkg", "-x", package, HOME / "debian"], check=True)


def environ() -> dict[str, str]:
    """Return what the programs need in their environment: their libraries, this Python's, and the models' packages."""
    folders = [
        *map(str, _LIBRARIES),
        sysconfig.get_config_var("LIBDIR"),
        os.environ.get("LD_LIBRARY_PATH", ""),
    ]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(folder for folder in folders if folder),
        # The python backend heeds no PYTHONPATH: it takes the packages of the first python3 that it finds.
        "PATH": f"{HOME / 'bin'}:{os.environ['PATH']}",
    }


if __name__ == "__main__":
    install()
    print(HOME)
