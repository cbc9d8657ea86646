"""The layers of the package, read from its imports, and what every module owes its reader."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SOURCE / "elastic_inference"
MAX_LINES = 400
LAYERS = {
    "errors": 0, "units": 0, "clock": 0, "settings": 0, "telemetry": 0,
    "tensors": 1, "deadline": 1, "percentiles": 1, "interpreter": 1,
    "models": 2, "proof": 2, "protocol": 2, "limits": 2, "zoo": 2,
    "client": 3, "engines": 3, "accelerator": 3,
    "host": 4, "keras": 4, "torch": 4, "pool": 4, "predictor": 4, "explorer": 4, "video": 4, "testing": 4,
    "cli": 5,
}  # fmt: skip
# Within a layer nothing imports its neighbour, but for these.
ALLOWED_SIBLINGS = {
    ("accelerator", "engines"),
    ("pool", "explorer"),  # a plan's prices
    ("pool", "host"),  # a pool is many hosts
    ("units", "errors"),
    ("telemetry", "errors"),
    ("settings", "errors"),
    ("settings", "units"),
}
# Imported where it is used only, so that what does not use it stays small.
ALLOWED_LAZY = {("client/local.py", "engines")}
# Of the accelerator's side the host knows the configuration that it writes, and nothing that runs there.
HOST_MAY_IMPORT_OF_ACCELERATOR = {"elastic_inference.accelerator.config"}
# The host's ways in, and what each consists of; `app` puts them side by side, `server` serves that.
DOORS = {
    "control": {
        "api",
        "observing",
        "tenants",
        "schemas",
        "board_schemas",
        "tenant_schemas",
        "tenant_changes",
    },
    "page": {"page", "feed"},
    "metrics": {"metrics"},
    "amazon": {"aws", "aws_directory", "aws_signature"},
}
COMMON_TO_DOORS = {
    "admission", "auditing", "callers", "connections", "middleware", "privacy", "sessions", "tracing", "views",
}  # fmt: skip
DOORS_ARE_ASSEMBLED_IN = {"app", "server"}
# What a client of numpy alone must be able to import; `host_session` and the like are part of `client`.
SMALL = (
    "errors.py",
    "units.py",
    "clock.py",
    "tensors.py",
    "settings.py",
    "deadline.py",
    "models/package.py",
    "models/torch_archives.py",
    "models/signature.py",
    "client",
    "protocol",
)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not path.name.endswith("_pb2.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The dotted name of each module that a file imports, and whether only a function does it."""
    tree = ast.parse(path.read_text())
    lazy = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", id(node) in lazy) for alias in node.names)


def part_of(module: str) -> str | None:
    """Which part of the package a dotted name belongs to, None for another package or the front door."""
    names = module.split(".")
    return names[1] if names[0] == "elastic_inference" and len(names) > 1 and names[1] in LAYERS else None


def own_part(path: Path) -> str | None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if part.startswith("__") else part


def violations(path: Path) -> Iterator[str]:
    part = own_part(path)
    if part is None:
        return  # the front door and `python -m` stand above all layers
    for module, is_lazy in imports(path):
        target = part_of(module)
        if target in (None, part) or (part, target) in ALLOWED_SIBLINGS:
            continue
        if is_lazy and (name_of(path), target) in ALLOWED_LAZY:
            continue
        assert target is not None
        if LAYERS[target] >= LAYERS[part]:
            yield f"{name_of(path)} (L{LAYERS[part]}) imports {module} (L{LAYERS[target]})"


def test_every_part_has_a_layer() -> None:
    assert {part for path in modules() if (part := own_part(path)) is not None} <= set(LAYERS)


def test_imports_go_down_only() -> None:
    assert [text for path in modules() for text in violations(path)] == []


def test_client_and_accelerator_never_import_each_other() -> None:
    for part, other in (("client", "accelerator"), ("accelerator", "client")):
        for path in (PACKAGE / part).glob("*.py"):
            assert [module for module, _ in imports(path) if part_of(module) == other] == [], path


def test_the_host_knows_of_accelerators_only_how_to_configure_one() -> None:
    for path in (PACKAGE / "host").rglob("*.py"):
        used = {module.rpartition(".")[0] for module, _ in imports(path) if part_of(module) == "accelerator"}
        assert used <= HOST_MAY_IMPORT_OF_ACCELERATOR, path


def test_no_door_imports_another() -> None:
    folder = PACKAGE / "host" / "doors"
    door_of = {name: door for door, names in DOORS.items() for name in names}
    rooms = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert rooms == set(door_of) | COMMON_TO_DOORS | DOORS_ARE_ASSEMBLED_IN
    for path in folder.glob("*.py"):
        if path.stem in DOORS_ARE_ASSEMBLED_IN:
            continue
        for module, _ in imports(path):
            rest = module.removeprefix("elastic_inference.host.doors.")
            if rest != module:
                assert door_of.get(rest.split(".")[0]) in (None, door_of.get(path.stem)), (path, module)
                assert rest.split(".")[0] not in DOORS_ARE_ASSEMBLED_IN, (path, module)


def test_no_door_of_an_accelerator_imports_another() -> None:
    folder = PACKAGE / "accelerator" / "doors"
    prefix = "elastic_inference.accelerator.doors."
    doors = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert doors >= {"http"}
    for path in folder.rglob("*.py"):
        door = path.relative_to(folder).parts[0]
        others = {module for module, _ in imports(path) if module.startswith(prefix)}
        assert {module.removeprefix(prefix).split(".")[0] for module in others} <= {door}, path


def test_what_is_behind_the_doors_of_an_accelerator_knows_none() -> None:
    for path in (PACKAGE / "accelerator").glob("*.py"):
        if path.stem not in {"server", "process"}:  # which put them together
            assert not [m for m, _ in imports(path) if m.startswith("elastic_inference.accelerator.doors")], (
                path
            )


def test_every_error_lives_in_the_one_tree() -> None:
    from elastic_inference import errors

    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and path.name != "errors.py":
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                assert not [base for base in bases if base in vars(errors)], f"{path}: {node.name}"


def test_inner_modules_do_not_use_the_front_door() -> None:
    for path in modules():
        part = own_part(path)
        if part is not None and LAYERS[part] <= 3:
            names = [module for module, _ in imports(path) if module.startswith("elastic_inference.")]
            assert [module for module in names if part_of(module) is None] == [], path


def test_the_client_needs_numpy_alone() -> None:
    known = set(sys.stdlib_module_names) | {"numpy", "elastic_inference"}
    for path in modules():
        if name_of(path).startswith(SMALL):
            needed = {module.split(".")[0] for module, is_lazy in imports(path) if not is_lazy}
            assert needed <= known, path


def test_a_client_imports_no_engine_and_no_parser_of_models() -> None:
    program = "import sys, elastic_inference; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    heavy = {
        "openvino",
        "tensorflow",
        "onnxruntime",
        "google.protobuf",
        "httptools",
        "psutil",
        "prometheus_client",
    }
    assert heavy & set(loaded) == set()
    assert not [
        name
        for name in loaded
        if name.startswith(("elastic_inference.engines", "elastic_inference.accelerator"))
    ]


def test_every_module_says_what_lives_there() -> None:
    assert [name_of(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_every_module_can_be_read_in_one_sitting() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
