"""Triton's model configuration, `config.pbtxt` or the JSON of a load: what of it is heeded, and what is refused.

Heeded are names, datatypes, shapes, formats and labels, max_batch_size and its delay, versions, warm-up and the
model's file. Engine, threads and which requests run together are decided here. What asks for anything beyond that is
refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from elastic_inference.accelerator.expectations import NO_FORMAT
from elastic_inference.accelerator.repository import text_format
from elastic_inference.errors import InvalidInput

FILE = "config.pbtxt"
_BACKENDS = {
    "", "onnxruntime", "onnxruntime_onnx", "tensorflow", "tensorflow_savedmodel", "tensorflow_graphdef", "pytorch",
    "pytorch_libtorch", "openvino",
}  # fmt: skip
_HEEDED = {
    "name", "platform", "backend", "max_batch_size", "input", "output", "dynamic_batching", "instance_group",
    "version_policy", "model_warmup", "default_model_filename",
}  # fmt: skip
_SAYS_SOMETHING_EMPTY = {"sequence_batching", "ensemble_scheduling"}
_KINDS = {"KIND_AUTO", "KIND_CPU", "KIND_MODEL"}
_MAX_ROWS = 1024
_MAX_LABEL_BYTES = 4 << 20

Message = Mapping[str, Any]


def read(path: Path, name: str, device: str) -> dict[str, Any]:
    """Read a model's `config.pbtxt`; returns fields of ModelSettings.

    Args:
        name: That of the model's folder, which the file may repeat.
        device: What computes, for a configuration that asks for a GPU.

    Raises:
        InvalidInput: It cannot be read, or asks for what is not offered; the error names the field.
    """
    try:
        config = text_format.parse(path.read_text(encoding="utf-8"))
        return settings_of(config, name, device, path.parent)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{FILE} cannot be read: {error}") from error
    except InvalidInput as error:
        raise InvalidInput(f"{FILE}: {error}") from error


def read_json(text: Any, name: str, device: str) -> dict[str, Any]:
    """Read the `config` of a load, JSON of the same message; see `read`."""
    try:
        value = json.loads(text) if isinstance(text, str | bytes) else text
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"config is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"config must be a JSON object, not {value!r:.80}")
    try:
        return settings_of(_snake(value), name, device)
    except InvalidInput as error:
        raise InvalidInput(f"config: {error}") from error


def settings_of(config: Message, name: str, device: str, folder: Path | None = None) -> dict[str, Any]:
    """Return fields of ModelSettings; raises InvalidInput that names what is not offered.

    Args:
        folder: The model's, which holds files of labels; None: there are none.
    """
    _refuse_others(config, _HEEDED, "")
    own_name = _one(config, "name", str, "")
    if own_name not in ("", name):
        raise InvalidInput(f"name is {own_name!r:.80}, the model's is {name!r:.80}")
    for field in ("platform", "backend"):
        wanted = _one(config, field, str, "")
        if wanted not in _BACKENDS:
            raise InvalidInput(
                f"{field} {wanted!r:.80} is not offered; known are {', '.join(sorted(_BACKENDS))[2:]}"
            )
    max_batch_size = _one(config, "max_batch_size", int, 0)
    if max_batch_size < 0:
        raise InvalidInput(f"max_batch_size must be 0 or more, not {max_batch_size}")
    _check_instances(config, device)
    found: dict[str, Any] = {"expects": _expects(config, max_batch_size > 0, folder)}
    if "max_batch_size" in config:
        found |= {"max_batch_rows": min(max_batch_size, _MAX_ROWS)} if max_batch_size else {"batching": "off"}
    found |= _dynamic_batching(config) | _versions(config) | _warm_up(config, max_batch_size > 0)
    model_file = _one(config, "default_model_filename", str, "")
    return found | ({"model_file": model_file} if model_file else {})


def _expects(config: Message, has_rows: bool, folder: Path | None) -> dict[str, Any]:
    return {
        f"{kind}s": {tensor[0]: tensor[1] for tensor in _tensors(config, kind, has_rows, folder)}
        for kind in ("input", "output")
    }


def _tensors(
    config: Message, kind: str, has_rows: bool, folder: Path | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    own = {"format"} if kind == "input" else {"label_filename"} if folder is not None else set()
    for tensor in _messages(config, kind):
        name = _one(tensor, "name", str, "")
        _refuse_others(tensor, {"name", "data_type", "dims", "optional"} | own, f"{kind} {name!r:.80}: ")
        data_type = _one(tensor, "data_type", str, "")
        if not name or not data_type.startswith("TYPE_"):
            raise InvalidInput(f"{kind} {name!r:.80} needs a name and a data_type such as TYPE_FP32")
        wire = data_type.removeprefix("TYPE_")
        entry: dict[str, Any] = {"datatype": "BYTES" if wire == "STRING" else wire}
        dims = _numbers(tensor, "dims")
        if dims:
            entry["shape"] = [-1, *dims] if has_rows else dims
        wanted_format = _one(tensor, "format", str, NO_FORMAT)
        if wanted_format != NO_FORMAT:
            entry["format"] = wanted_format
        label_file = _one(tensor, "label_filename", str, "")
        if label_file and folder is not None:
            entry["labels"] = _labels(folder, label_file)
        yield name, entry


def _labels(folder: Path, name: str) -> list[str]:
    """Read a file of labels, one a line, by the index of the class."""
    if Path(name).name != name:
        raise InvalidInput(f"label_filename {name!r:.80} must be a name within the model's folder")
    try:
        with open(folder / name, "rb") as file:
            data = file.read(_MAX_LABEL_BYTES + 1)
        if len(data) > _MAX_LABEL_BYTES:
            raise InvalidInput(f"label_filename {name!r:.80} has more than {_MAX_LABEL_BYTES >> 20} MiB")
        return data.decode().splitlines()
    except OSError as error:
        raise InvalidInput(
            f"label_filename {name!r:.80} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"label_filename {name!r:.80} is not UTF-8") from error


def _check_instances(config: Message, device: str) -> None:
    for group in _messages(config, "instance_group"):
        _refuse_others(group, {"name", "kind", "count", "gpus"}, "instance_group: ")
        kind, count = _one(group, "kind", str, "KIND_AUTO"), _one(group, "count", int, 1)
        if kind not in _KINDS and not (kind == "KIND_GPU" and not device.startswith("cpu")):
            raise InvalidInput(f"instance_group: kind {kind:.40} is not offered; it computes on {device}")
        if count > 1:
            raise InvalidInput(
                f"instance_group: count {count} is not offered; a model runs once, on all threads"
            )
    if len(_many(config, "instance_group")) > 1:
        raise InvalidInput("instance_group: several are not offered; a model runs once, on all threads")


def _dynamic_batching(config: Message) -> dict[str, Any]:
    for batching in _messages(config, "dynamic_batching"):
        # Which sizes pay is measured here; requests are answered in their order.
        heeded = {"preferred_batch_size", "max_queue_delay_microseconds", "preserve_ordering"}
        _refuse_others(batching, heeded, "dynamic_batching: ")
        delay = _one(batching, "max_queue_delay_microseconds", int, 0)
        if delay:
            return {"max_batch_delay": f"{delay / 1000}ms"}
    return {}


def _versions(config: Message) -> dict[str, Any]:
    for policy in _messages(config, "version_policy"):
        _refuse_others(policy, {"latest", "all", "specific"}, "version_policy: ")
        if "all" in policy:
            return {"versions": "all"}
        for specific in _messages(policy, "specific"):
            return {"versions": _numbers(specific, "versions")}
        for latest in _messages(policy, "latest"):
            return {"versions": _one(latest, "num_versions", int, 1) or 1}
    return {}


def _warm_up(config: Message, has_rows: bool) -> dict[str, Any]:
    samples = list(_messages(config, "model_warmup"))
    if not samples:
        return {}
    if len(samples) > 1:
        raise InvalidInput("model_warmup: several samples are not offered; one call warms a model up")
    (sample,) = samples
    _refuse_others(sample, {"name", "batch_size", "inputs", "count"}, "model_warmup: ")
    rows = [max(1, _one(sample, "batch_size", int, 1))] if has_rows else []
    return {"warm_up": {name: _warm_shape(name, value, rows) for name, value in _entries(sample, "inputs")}}


def _warm_shape(name: str, value: Message, rows: list[int]) -> list[int]:
    _refuse_others(
        value, {"data_type", "dims", "zero_data", "random_data"}, f"model_warmup: input {name!r:.80}: "
    )
    return [*rows, *_numbers(value, "dims")]


def _refuse_others(message: Message, heeded: set[str], where: str) -> None:
    """Refuse fields that say something and are not heeded."""
    for field, value in message.items():
        if field not in heeded and (field in _SAYS_SOMETHING_EMPTY or _says_something(value)):
            raise InvalidInput(f"{where}{field} is not offered here")


def _says_something(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_says_something, value.values()))
    if isinstance(value, list):
        return any(map(_says_something, value))
    return bool(value) and value != NO_FORMAT


def _many(message: Message, field: str) -> list[Any]:
    value = message.get(field, [])
    return value if isinstance(value, list) else [value]


def _messages(message: Message, field: str) -> Iterator[Message]:
    for value in _many(message, field):
        if not isinstance(value, Mapping):
            raise InvalidInput(f"{field} must be a message, not {value!r:.80}")
        yield value


def _entries(message: Message, field: str) -> Iterator[tuple[str, Message]]:
    """Yield the entries of a map: of the text form they have `key` and `value`, JSON's is an object."""
    for entry in _messages(message, field):
        if set(entry) == {"key", "value"} and isinstance(entry["key"], list):
            yield _one(entry, "key", str, ""), next(_messages(entry, "value"))
            continue
        for name, value in entry.items():
            if not isinstance(value, Mapping):
                raise InvalidInput(f"{field}: {name!r:.80} must be a message, not {value!r:.80}")
            yield name, value


def _one(message: Message, field: str, kind: type, default: Any) -> Any:
    values = _many(message, field)
    value = values[-1] if values else default
    if kind is int and isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)  # JSON has int64 as text
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InvalidInput(
            f"{field} must be {'a whole number' if kind is int else 'text'}, not {value!r:.80}"
        )
    return value


def _numbers(message: Message, field: str) -> list[int]:
    return [_one({field: [value]}, field, int, 0) for value in _many(message, field)]


def _snake(value: Any, is_map: bool = False) -> Any:
    """Return a JSON value with its fields in snake case, as the message has them; names in maps stay."""
    if isinstance(value, list):
        return [_snake(each) for each in value]
    if not isinstance(value, dict):
        return value
    named = {
        key if is_map else re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower(): each
        for key, each in value.items()
    }
    return {
        key: _snake(each, is_map=not is_map and key in ("inputs", "parameters"))
        for key, each in named.items()
    }
