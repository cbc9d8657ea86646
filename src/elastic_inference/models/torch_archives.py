"""What a PyTorch file holds, told by its content and without PyTorch: a program that can be served, or why not.

All that PyTorch writes today are zip archives. Served are programs of torch.export and TorchScript, which hold graphs
or code of a small language of their own. A pickled module or a pickled dictionary of weights holds neither: loading it
would run the Python code that it names, so it is refused with what to do instead. Nothing is unpickled here.
"""

from __future__ import annotations

import pickletools
import zipfile
from enum import Enum
from pathlib import Path

from elastic_inference.errors import InvalidModel, UnsafeModel, UnsupportedModel

HOW_TO_EXPORT = (
    "Export the model where it is defined, torch.export.save(torch.export.export(model.eval(), example_inputs), "
    "'model.pt2'), or attach it with elastic_inference.torch.attach(model, example_inputs)"
)
# Classes that a dictionary of weights consists of.
_PARTS_OF_WEIGHTS = ("torch", "torch._utils", "torch.storage", "torch.serialization", "collections")


class Kind(Enum):
    """What a file holds; the values are those of `ModelFormat`."""

    EXPORT = "torch_export"
    SCRIPT = "torch_script"


def kind_of(path: Path) -> Kind:
    """Look into a PyTorch file.

    Raises:
        InvalidModel: It is no archive, is cut short, or holds weights alone.
        UnsafeModel: It is a pickle, or holds compiled code alone.
        UnsupportedModel: It is of a format that PyTorch itself has given up.
    """
    if not zipfile.is_zipfile(path):
        raise _no_archive(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if min((entry.header_offset for entry in archive.infolist()), default=0) > 0:
                raise InvalidModel(
                    f"{path} is a damaged archive: it does not begin at its first byte, or is cut short"
                )
            return _kind(path, archive)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        if isinstance(error, InvalidModel | UnsafeModel):  # they are OSErrors themselves
            raise
        raise InvalidModel(f"{path} is a damaged archive: {error}") from error


def relative_names(names: list[str]) -> list[str]:
    """Return the names within the one folder that every archive of PyTorch has, whatever it is called."""
    return [name.partition("/")[2] for name in names]


def _kind(path: Path, archive: zipfile.ZipFile) -> Kind:
    names = archive.namelist()
    inner = relative_names(names)
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return Kind.EXPORT
    if "serialized_exported_program.json" in names:  # as torch 2.7 and before wrote them
        return Kind.EXPORT
    if any(name.startswith("code/") for name in inner):
        return Kind.SCRIPT
    if any(name.startswith("data/aotinductor/") for name in inner):
        raise UnsafeModel(
            f"{path} is a package of AOTInductor: native code, which is not run for others. {HOW_TO_EXPORT}"
        )
    if "model.json" in inner:
        raise UnsupportedModel(
            f"{path} is TorchScript as torch 1.3 and before wrote it; load and save it with torch 1.4 to 2.14"
        )
    if "data.pkl" in inner:
        raise _pickle(path, archive.read(names[inner.index("data.pkl")]))
    raise InvalidModel(f"{path} is an archive, but holds no model of PyTorch")


def _no_archive(path: Path) -> InvalidModel | UnsafeModel:
    with open(path, "rb") as file:
        start = file.read(1 << 20)
    if start[:1] == b"\x80":
        return _pickle(path, start)
    return InvalidModel(
        f"{path} is neither an archive nor a pickle of PyTorch, or it is cut short. {HOW_TO_EXPORT}"
    )


def _pickle(path: Path, data: bytes) -> InvalidModel | UnsafeModel:
    """Return the error for a pickle, by the classes that it names."""
    classes = sorted(_classes(data))
    if all(name.rpartition(".")[0] in _PARTS_OF_WEIGHTS for name in classes):
        return InvalidModel(
            f"{path} holds weights (a state dict) and no model. {HOW_TO_EXPORT}, after model.load_state_dict"
        )
    named = [name for name in classes if name.rpartition(".")[0] not in _PARTS_OF_WEIGHTS]
    return UnsafeModel(
        f"{path} is a pickle, and loading it would run Python code: it names {', '.join(named[:5])}. {HOW_TO_EXPORT}"
    )


def _classes(data: bytes) -> set[str]:
    """Return the classes and functions that a pickle names, as far as it can be read; nothing of it runs."""
    found: set[str] = set()
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if isinstance(argument, str) and opcode.name != "GLOBAL":
                strings.append(argument)
            if opcode.name == "GLOBAL":
                found.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) > 1:
                found.add(".".join(strings[-2:]))
    except (ValueError, IndexError, UnicodeDecodeError):
        found = found or {"what cannot be read"}  # cut off, or made to look so
    return found
