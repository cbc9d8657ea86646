"""Whether a PyTorch archive may be loaded: checked before PyTorch sees it, because its own loaders run what they read.

`torch.export.load` (2.14) unpickles weights, constants and example inputs that say they are pickles, resolves operators
by attributes of Python modules, evaluates sizes and guards as Python text, and writes names into source code that it
then compiles. `torch.jit.load` unpickles by a machine of its own that knows no Python classes, but runs the archive's
own `__setstate__`. So every string that reaches such a place is held to a form here: names are identifiers, operators
come from lists, expressions are arithmetic, pickles are read by `torch.load(weights_only=True)` first.
"""

from __future__ import annotations

import io
import json
import re
import tokenize
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from elastic_inference.engines.torch.expressions import check_expression
from elastic_inference.errors import InvalidModel, UnsafeModel
from elastic_inference.models.torch_archives import HOW_TO_EXPORT, relative_names

# Libraries of operations whose code came with torch or torchvision; all others are native code of somebody's own.
_LIBRARIES = ("aten", "prim", "prims", "quantized", "quantized_decomposed", "torchvision")
_UNSAFE_OPERATIONS = frozenset(
    {"aten::save", "aten::from_file", "aten::from_blob", "prim::PythonOp", "prim::IgnoredPythonOp"}
    | {"prim::rpc_async", "prim::rpc_sync", "prim::rpc_remote"}
)
_HIGHER_ORDER = frozenset(
    {"cond", "while_loop", "scan", "map_impl", "map", "associative_scan", "out_dtype", "flex_attention"}
    | {"wrap_with_set_grad_enabled", "wrap_with_autocast", "strict_mode"}
)
_OPERATORS = re.compile(
    r"_operator\.(add|sub|mul|truediv|floordiv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_|xor|not_|invert|lshift"
    r"|rshift|getitem|index)|math\.[a-z0-9]+|torch\.(sym|_sym)_\w+"
)
_IDENTIFIER = re.compile(r"([A-Za-z_]\w*)?", re.ASCII)
_QUALIFIED = re.compile(r"[^\"'\\\x00-\x1f(){}]*")
# The keys of a serialized program whose strings become Python names, and those that become attributes of modules.
_NAME_KEYS = frozenset({"name", "as_name", "user_input_name", "forward_arg_names", "field_names"})
_QUALIFIED_KEYS = frozenset(
    {"parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "fqn", "path_name"}
)
_DICTIONARIES = ("builtins.dict", "collections.OrderedDict")
_CONTAINERS = ("builtins.tuple", "builtins.list", "collections.namedtuple", *_DICTIONARIES)
_HARMLESS_ENTRIES = re.compile(
    r"archive_format|archive_version|version|byteorder|\.data/.*|\.format_version|\.storage_alignment|extra/.*"
    r"|extra_files/.*|models/model\.json|data/(weights|constants)/[\w.-]*|data/sample_inputs/model\.pt"
    r"|serialized_exported_program\.json|serialized_(state_dict|constants|example_inputs)\.pt"
)
_MAX_COMPRESSED_BYTES = 1 << 26  # the code of a large detector has 300 KB
_PROGRAMS = ("models/model.json", "serialized_exported_program.json")
_FORBIDDEN_ATTRIBUTES = frozenset(op.partition("::")[2] for op in _UNSAFE_OPERATIONS)


def check_export(path: Path, load_pickle: Callable[[io.BytesIO], object]) -> dict[str, Any]:
    """Refuse a .pt2 archive that holds more than a program and its tensors.

    Args:
        load_pickle: Reads a pickle with PyTorch's restricted unpickler and raises where it holds more than tensors.

    Returns:
        The serialized program, as it stands in the archive.

    Raises:
        UnsafeModel: Says what was found.
        InvalidModel: The archive holds no program, or it cannot be read.
    """
    program: dict[str, Any] | None = None
    for name, read in _entries(path):
        if name.startswith("data/aotinductor/"):
            raise UnsafeModel(f"{path} holds native code of AOTInductor, which is not run. {HOW_TO_EXPORT}")
        if not _HARMLESS_ENTRIES.fullmatch(name):
            raise UnsafeModel(f"{path} holds an entry that no program of torch.export has: {name!r:.100}")
        if name in _PROGRAMS:
            program = _json(path, name, read())
            _check_program(path, program)
        elif name.endswith("_config.json"):
            _check_payloads(path, _json(path, name, read()))
        elif name.endswith(".pt") and (data := read()):
            _check_pickle(path, name, data, load_pickle)
    if program is None:
        raise InvalidModel(f"{path} holds no program of torch.export under the name 'model'")
    return program


def read_program(path: Path) -> dict[str, Any]:
    """Return the serialized program of a .pt2 archive, unchecked; InvalidModel where there is none."""
    for name, read in _entries(path):
        if name in _PROGRAMS:
            return _json(path, name, read())
    raise InvalidModel(f"{path} holds no program of torch.export under the name 'model'")


def check_script(path: Path) -> None:
    """Refuse TorchScript whose code names operations on files or of libraries that do not come with torch.

    Raises:
        UnsafeModel: Names what was found.
        InvalidModel: The archive or its code cannot be read.
    """
    for name, read in _entries(path):
        if name.startswith("code/") and name.endswith(".py"):
            try:
                _check_code(path, read().decode())
            except (tokenize.TokenError, SyntaxError, UnicodeDecodeError) as error:
                raise InvalidModel(f"{path}: its code {name!r:.100} cannot be read: {error}") from error


def _entries(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Every file of the archive by its name within the archive's one folder, and how to read it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len({name.lower() for name in names}) != len(names):
                raise UnsafeModel(f"{path} holds two entries of one name, which readers may take differently")
            is_flat = _PROGRAMS[1] in names  # as torch 2.7 and before wrote them
            inner = names if is_flat else relative_names(names)
            for entry, name in zip(archive.infolist(), inner, strict=True):
                if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > _MAX_COMPRESSED_BYTES:
                    raise InvalidModel(
                        f"{path}: {name!r:.100} is compressed and has {entry.file_size} bytes; PyTorch compresses "
                        f"code alone, and {_MAX_COMPRESSED_BYTES} are taken"
                    )
                yield name, lambda entry=entry: archive.read(entry)  # type: ignore[misc]
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise InvalidModel(f"{path} is a damaged archive: {error}") from error


def _json(path: Path, name: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{path}: {name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidModel(f"{path}: {name} is not a JSON object")
    return value


def _check_pickle(path: Path, name: str, data: bytes, load_pickle: Callable[[io.BytesIO], object]) -> None:
    try:
        load_pickle(io.BytesIO(data))
    except Exception as error:  # the unpickler raises nearly every class for what it does not take
        text = str(error).strip().splitlines()
        raise UnsafeModel(
            f"{path}: {name} is a pickle of more than tensors and was not loaded: {text[0] if text else error!r}"
        ) from error


def _check_payloads(path: Path, value: dict[str, Any]) -> None:
    """Weights and constants must be plain bytes of tensors."""
    config = value.get("config")
    if not isinstance(config, dict):
        raise InvalidModel(f"{path}: a table of its tensors is malformed")
    for name, payload in config.items():
        place = str(payload.get("path_name")) if isinstance(payload, dict) else ""
        if not _QUALIFIED.fullmatch(name) or not re.fullmatch(r"(weight|tensor)_\d+", place):
            raise UnsafeModel(f"{path} holds an object that is no tensor: {name!r:.100} in {place!r:.100}")
        if payload.get("use_pickle"):
            raise UnsafeModel(f"{path} holds {name!r:.100} as a pickle, which is not loaded. {HOW_TO_EXPORT}")


def _check_program(path: Path, value: Any, key: str = "") -> None:
    """Hold every string of a serialized program to the form that its key asks for."""
    if isinstance(value, dict):
        for inner_key, inner in value.items():
            if inner_key != "metadata":  # notes on where a node came from, which nothing runs
                _check_program(path, inner, inner_key)
    elif isinstance(value, list):
        for inner in value:
            _check_program(path, inner, key)
    elif isinstance(value, str) and (problem := _problem(key, value)):
        raise UnsafeModel(
            f"{path}: {problem}. Allow unsafe operations if you trust the model and have what it needs installed."
        )


def _problem(key: str, text: str) -> str | None:
    if key in ("target", "as_operator"):
        return (
            None if _is_known(text) else f"operation {text!r:.100} is not one that torch or torchvision has"
        )
    if key in _NAME_KEYS:
        return None if _IDENTIFIER.fullmatch(text) else f"the name {text!r:.100} is not an identifier"
    if key in _QUALIFIED_KEYS:
        return None if _QUALIFIED.fullmatch(text) else f"the name {text!r:.100} holds quotes or brackets"
    if key in ("expr_str", "guards_code"):
        return check_expression(text)
    if key in ("in_spec", "out_spec"):
        return _spec_problem(text, is_input=key == "in_spec")
    if key in ("as_custom_obj", "class_fqn", "blob_name"):
        return f"it holds an object of class {text!r:.100}"
    return None


def _is_known(target: str) -> bool:
    match = re.fullmatch(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?", target)
    if match is None:
        return _OPERATORS.fullmatch(target) is not None
    library, name = match[1], match[2]
    if library == "higher_order":
        return name in _HIGHER_ORDER
    return library in _LIBRARIES and f"{library}::{name}" not in _UNSAFE_OPERATIONS


def _spec_problem(text: str, *, is_input: bool) -> str | None:
    """Containers must be Python's own: others are found by importing modules that the file names."""
    if not text:
        return None
    try:
        _, root = json.loads(text)
        return _container_problem(root, depth=0 if is_input else 9)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return f"the structure of its values cannot be read: {error}"


def _container_problem(spec: dict[str, Any], depth: int) -> str | None:
    """`depth` counts from the arguments as a whole; keys of the dictionary at 1 become names of parameters."""
    kind, context = spec["type"], spec["context"]
    if kind is not None and kind not in _CONTAINERS:
        return (
            f"values of class {kind!r:.100} are not taken; use tuples, lists, dictionaries and named tuples"
        )
    if kind in _DICTIONARIES:
        for name in json.loads(context):
            form = _IDENTIFIER if depth == 1 else _QUALIFIED
            if not isinstance(name, str | int) or not form.fullmatch(str(name)):
                return f"the key {name!r:.100} is not a plain name"
    elif isinstance(context, str) and "__enum__" in context:
        return "it names a class of constants to import"
    return next(filter(None, (_container_problem(child, depth + 1) for child in spec["children_spec"])), None)


def _check_code(path: Path, code: str) -> None:
    """Hold the code of TorchScript, which has Python's tokens, to known operations."""
    everything = list(tokenize.generate_tokens(io.StringIO(code).readline))
    if any(token.type == tokenize.ERRORTOKEN and token.string.strip() for token in everything):
        raise SyntaxError("a quote is not closed, or a character is not Python's")
    tokens = [t for t in everything if t.type in (tokenize.NAME, tokenize.OP, tokenize.STRING)]
    texts = [token.string for token in tokens]
    for index, token in enumerate(tokens):
        if token.type == tokenize.STRING and token.string[0] not in "\"'":
            raise UnsafeModel(f"{path}: its code holds a string of a kind that TorchScript does not have")
        if token.type != tokenize.NAME:
            continue
        problem = _name_problem(texts, index)
        if problem:
            raise UnsafeModel(
                f"{path}: its code uses {problem}. Allow unsafe operations if you trust the model and have what it "
                "needs installed."
            )


def _name_problem(texts: list[str], index: int) -> str | None:
    """Return what is wrong with the name at `index`, given what stands around it.

    Any attribute may be an operation, because every operation of torch is also a method of its first argument; and
    `torch` and `ops` themselves must not be handed on under another name.
    """
    name, after = texts[index], texts[index + 1 : index + 5]
    if index and texts[index - 1] == ".":
        if name in _FORBIDDEN_ATTRIBUTES:
            return f"operation {name!r}, which touches files, code or the network"
        is_class = name == "classes" and texts[max(index - 4, 0) : index] == ["__torch__", ".", "torch", "."]
        return "classes of native code (torch.classes)" if is_class else None
    if name == "getattr" and not _is_plain_getattr(texts[index + 1 : index + 6]):
        return "getattr with a name that is computed or is not allowed"
    if name in ("torch", "ops") and after[:1] != ["."]:
        return f"{name!r} as a value"
    if name == "ops" and after[1] not in _LIBRARIES:
        return f"custom operation {'::'.join(after[1::2])}"
    return None


def _is_plain_getattr(texts: list[str]) -> bool:
    """Whether it is `(name, "0")`, as TorchScript writes the names of submodules that are no identifiers."""
    if len(texts) < 5 or [texts[0], texts[2], texts[4]] != ["(", ",", ")"]:
        return False
    name = texts[3][1:-1]
    return re.fullmatch(r"[\w.:/ -]*", name) is not None and name not in _FORBIDDEN_ATTRIBUTES


def uses_torchvision(path: Path) -> bool:
    """Whether the code of a TorchScript archive calls operations of torchvision."""
    return any(
        re.search(rb"ops\s*\.\s*torchvision\b", read()) is not None
        for name, read in _entries(path)
        if name.startswith("code/") and name.endswith(".py")
    )
