"""What the environment says: the one module that reads variables, and the rule that all settings follow.

The rule: an argument wins over its variable, and a variable over the default. A variable that is set to nothing counts
as unset, except where the table says otherwise. A value that cannot be read is an InvalidInput that names the variable.
docs/settings.md is this table; a test compares the two.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from elastic_inference.errors import InvalidInput
from elastic_inference.units import parse_bytes, parse_seconds

T = TypeVar("T")

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SHOWN_CHARACTERS = 80
_STORE_BYTES = 8 << 30
_STORE_DISK_SHARE = 0.1
_MAX_RECORDED_REQUESTS = 1024  # of each model, as an accelerator takes it


@dataclass(frozen=True)
class Setting(Generic[T]):
    """One variable of the environment.

    Attributes:
        meaning: For the table in the documents, as is `default`.
        read: From the variable's text to its value; a ValueError says what is wrong with it.
        is_secret: Whether errors must not show its value.
        empty_counts: Whether a variable that is set to nothing is a value of its own.
    """

    name: str
    meaning: str
    default: str
    read: Callable[[str], T]
    is_secret: bool = False
    empty_counts: bool = False

    def get(self) -> T | None:
        """Return the value; None where the variable is unset.

        Raises:
            InvalidInput: The variable holds something else.
        """
        text = os.environ.get(self.name)
        if text is None or (not text and not self.empty_counts):
            return None
        try:
            return self.read(text)
        except ValueError as error:
            raise InvalidInput(f"{self._shown(text)} {error}") from None

    def of(self, argument: T | None) -> T | None:
        """Return the argument, else what the variable says, else None."""
        return self.get() if argument is None else argument

    @contextmanager
    def named(self) -> Iterator[None]:
        """Around the use of the variable's value: what is refused there is refused by the variable's name."""
        try:
            yield
        except InvalidInput as error:
            raise InvalidInput(f"environment variable {self.name}: {error}") from error

    def _shown(self, text: str) -> str:
        value = "" if self.is_secret else f"={text[:_SHOWN_CHARACTERS]!r}"
        return f"environment variable {self.name}{value}"


def _text(text: str) -> str:
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _header_texts(text: str) -> tuple[str, ...]:
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be printable ASCII")
    return _names(text)


def _file(text: str) -> str:
    if not os.path.isfile(text):
        raise ValueError("does not name a file")
    return text


def _folder(text: str) -> Path:
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise ValueError("does not name a folder")
    return path


def _size(text: str) -> int:
    try:
        return parse_bytes(text)
    except InvalidInput:
        raise ValueError("is not a size such as 4GiB or 500MB") from None


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("is neither on nor off")
    return text == "on"


def _folders(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(os.pathsep) if part)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("is not a port, 1 to 65535")
    return int(text)


def _num_requests(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_RECORDED_REQUESTS:
        raise ValueError(f"is not a number of requests, 0 to {_MAX_RECORDED_REQUESTS}")
    return int(text)


def _level(text: str) -> str:
    if text.upper() not in _LEVELS:
        raise ValueError(f"is not one of {', '.join(_LEVELS)}")
    return text.upper()


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except InvalidInput:
        raise ValueError("is not a duration such as 5s or 250ms") from None


HOST = Setting(
    "EI_HOST", "URL of the host: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`", "none for "
    "`EIPredictor`, which then computes on an embedded accelerator; `http://127.0.0.1:8500` for `ei`", _text,
)  # fmt: skip
TOKEN = Setting(
    "EI_TOKEN", "Bearer token; several with commas, in the order of `EI_ACCELERATOR`", "none", _header_texts,
    is_secret=True,
)  # fmt: skip
ACCELERATOR = Setting("EI_ACCELERATOR", "Ids of the attached accelerators, with commas", "none", _names)
VISIBLE_DEVICES = Setting(
    "EI_VISIBLE_DEVICES", "Ids or ordinals of the accelerators that the program may use, with commas; set to nothing: "
    "none of them", "all", _names, empty_counts=True,
)  # fmt: skip
TLS_CA = Setting("EI_TLS_CA", "PEM file of the certificate authority to trust", "the system's", _file)
TLS_CERT = Setting("EI_TLS_CERT", "PEM file of this client's own certificate", "none", _file)
TLS_KEY = Setting("EI_TLS_KEY", "PEM file of its key", "in the file of `EI_TLS_CERT`", _file)
CACHE_DIR = Setting(
    "EI_CACHE_DIR", "Folder of fetched models, the store of embedded accelerators and measured devices",
    "`elastic-inference` in `XDG_CACHE_HOME`", _folder,
)  # fmt: skip
STORE_SIZE = Setting(
    "EI_STORE_SIZE", "What the store of embedded accelerators may hold in `EI_CACHE_DIR`, such as 4GiB, of models and "
    "what was compiled of them; 0 keeps nothing", "8GiB, or a tenth of the disk if that is less", _size,
)  # fmt: skip
STATE_DIR = Setting(
    "EI_STATE_DIR", "What a host keeps, the operator's token among it",
    "`/var/lib/elastic-inference` for root, else `elastic-inference` in `XDG_STATE_HOME`", _folder,
)  # fmt: skip
PYTHON = Setting(
    "EI_PYTHON", "The Python that runs an embedded accelerator, such as under uWSGI or in a frozen program",
    "the program's own", _file,
)  # fmt: skip
PYTHONPATH = Setting(
    "PYTHONPATH", "Where Python looks for packages; a host hands it on to its accelerators", "unset", _folders
)
EMBEDDED = Setting(
    "EI_EMBEDDED", "Set in an embedded accelerator's process: the process that it belongs to", "unset", _text
)
LOG_LEVEL = Setting(
    "EI_LOG_LEVEL", f"What an accelerator process logs at least: {', '.join(_LEVELS)}",
    "WARNING for an embedded one, INFO for a host's", _level,
)  # fmt: skip
PROGRESS_SECONDS = Setting(
    "EI_PROGRESS_SECONDS", "Between two lines of progress where standard error is no terminal", "5s", _seconds
)
CUDA_GRAPHS = Setting(
    "EI_CUDA_GRAPHS", "`on`: engine torch tries CUDA graphs, and takes those that are equal and faster; a host hands "
    "it on to its accelerators", "off", _switch,
)  # fmt: skip
RECORD_REQUESTS = Setting(
    "EI_RECORD_REQUESTS", "How many requests' inputs of each model an embedded accelerator keeps while it is loaded, "
    "to choose int8 or auto by them, 0 to 1024", "0", _num_requests,
)  # fmt: skip
MPS_DIRECTORY = Setting(
    "CUDA_MPS_PIPE_DIRECTORY", "Folder of the pipes of NVIDIA's MPS daemon, for `ei host start --gpu-sharing mps`",
    "`/tmp/nvidia-mps`", _folder,
)  # fmt: skip
DATABASE = Setting(
    "EI_DATABASE",
    "SQLAlchemy URL of a host's database",
    "SQLite in the state directory",
    _text,
    is_secret=True,
)
DATABASE_PASSWORD = Setting("EI_DATABASE_PASSWORD", "Its password", "none", _text, is_secret=True)
SAGEMAKER_BIND_TO_PORT = Setting(
    "SAGEMAKER_BIND_TO_PORT",
    "Set by SageMaker in a container: the port on which `ei serve` answers it",
    "none",
    _port,
)
SAGEMAKER_DEFAULT_MODEL = Setting(
    "SAGEMAKER_TFS_DEFAULT_MODEL_NAME", "Set by SageMaker in a container: the model of requests that name none", "the "
    "only model", _text,
)  # fmt: skip
NO_COLOR = Setting("NO_COLOR", "Set to anything: no styles at a terminal", "styles", _text)
TERM = Setting("TERM", "The terminal; `dumb` shows no styles", "`dumb`", _text)
EXPLORE_TOKEN = Setting(
    "EI_EXPLORE_TOKEN", "Token of `ei explore client`, as the exploration printed it", "none", _text, is_secret=True
)  # fmt: skip
ONEDNN_PRIMITIVE_CACHE_CAPACITY = Setting(
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "Compiled primitives that oneDNN, with which OpenVINO computes, keeps in a "
    "process", "50", _text,
)  # fmt: skip
XDG_CACHE_HOME = Setting("XDG_CACHE_HOME", "The user's folder for caches", "`~/.cache`", _folder)
XDG_STATE_HOME = Setting("XDG_STATE_HOME", "The user's folder for state", "`~/.local/state`", _folder)
OTEL_TRACES_EXPORTER = Setting(
    "OTEL_TRACES_EXPORTER",
    "`otlp` asks for traces, `none` for none",
    "traces where an endpoint is set",
    _text,
)
OTEL_ENDPOINT = Setting(
    "OTEL_EXPORTER_OTLP_ENDPOINT", "Where traces go; OpenTelemetry reads it, and its further variables, too", "none",
    _text,
)  # fmt: skip
OTEL_TRACES_ENDPOINT = Setting(
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "The same, for traces alone", "none", _text
)

SETTINGS: tuple[Setting[object], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Setting)
)
"""All of them, in the order of the table."""


def check() -> None:
    """Refuse wrong values of what a command may come to read late or only in a process that it starts.

    Raises:
        InvalidInput: A variable holds what it cannot mean.
    """
    for setting in (LOG_LEVEL, PROGRESS_SECONDS, CUDA_GRAPHS):
        setting.get()


def cache_dir() -> Path:
    """Where fetched and compiled models and measured devices are kept."""
    return CACHE_DIR.get() or (XDG_CACHE_HOME.get() or Path.home() / ".cache") / "elastic-inference"


def store_dir() -> Path:
    """Where embedded accelerators keep models, and what was compiled of them."""
    return cache_dir() / "store"


def store_limit_bytes() -> int:
    """Return what the store of embedded accelerators may hold; 0: nothing is kept."""
    given = STORE_SIZE.get()
    if given is not None:
        return given
    folder = cache_dir().absolute()
    while not folder.exists():
        folder = folder.parent
    return min(_STORE_BYTES, int(shutil.disk_usage(folder).total * _STORE_DISK_SHARE))


def state_dir() -> Path:
    """Where a host keeps its things when nobody says otherwise."""
    given = STATE_DIR.get()
    if given is not None:
        return given
    if os.geteuid() == 0:
        return Path("/var/lib/elastic-inference")
    return (XDG_STATE_HOME.get() or Path.home() / ".local" / "state") / "elastic-inference"


def with_variables(**variables: str) -> dict[str, str]:
    """Return this process's environment with some variables more, for a process that it starts."""
    return {**os.environ, **variables}


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set a variable of this process, which was unset, while a library reads it."""
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def asks_for_traces() -> bool:
    """Whether OpenTelemetry's variables ask for traces."""
    exporter = OTEL_TRACES_EXPORTER.get()
    endpoint = OTEL_ENDPOINT.get() or OTEL_TRACES_ENDPOINT.get()
    return exporter != "none" and (exporter == "otlp" or endpoint is not None)
