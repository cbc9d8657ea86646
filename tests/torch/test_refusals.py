"""Files that are no models, or more than models: refused with what to do, and nothing in them runs."""

from __future__ import annotations

import contextlib
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.torch.device import Cpu, Cuda
from elastic_inference.errors import (
    DeviceLost,
    EngineNotAvailable,
    InvalidInput,
    InvalidModel,
    ModelError,
    TensorNotFound,
    UnsafeModel,
    UnsupportedModel,
)
from elastic_inference.models.package import ModelFormat, ModelPackage
from elastic_inference.models.signature import SignatureRequest
from tests.torch.models import export, nn, script, seeded, torch

SPECS = SignatureRequest(input_specs={"x": "float32:2"})


class _Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Adds(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Saves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "saved-by-a-model")
        return x


class Reads(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 2, dtype=torch.uint8)


def rewritten(
    source: Path, target: Path, change: Callable[[str, bytes], bytes | None], **more: bytes
) -> Path:
    """A copy of an archive with entries changed, left out (None) or added."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for entry in old.infolist():
            data = change(entry.filename.partition("/")[2], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
        for name, data in more.items():
            new.writestr(f"{root}/{name}", data)
    return target


def with_program(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a .pt2 with its serialized program changed."""

    def edit(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return rewritten(source, target, edit)


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    shape = {0: torch.export.Dim("batch", min=1, max=8)}
    return export(
        seeded(lambda: nn.Linear(2, 2)), tmp_path / "linear.pt2", (torch.zeros(2, 2),), dynamic=(shape,)
    )


def test_pickles_say_what_they_are_and_do_not_run(tmp_path: Path) -> None:
    trap, target = tmp_path / "model.pt", tmp_path / "trapped"
    trap.write_bytes(pickle.dumps(_Trap(target)))
    with pytest.raises(UnsafeModel, match=r"is a pickle.*names .*touch.*torch\.export\.save"):
        ModelPackage.read(trap)
    torch.save({"model": _Trap(target)}, trap)
    with pytest.raises(UnsafeModel, match="is a pickle"):
        ModelPackage.read(trap)
    torch.save(nn.Linear(2, 2), trap)
    with pytest.raises(UnsafeModel, match=r"names .*torch\.nn\.modules\.linear\.Linear.*attach"):
        ModelPackage.read(trap)
    for is_new in (True, False):
        torch.save(nn.Linear(2, 2).state_dict(), trap, _use_new_zipfile_serialization=is_new)
        with pytest.raises(InvalidModel, match=r"state dict.*no model.*torch\.export\.save"):
            ModelPackage.read(trap)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"PK", b"hello", b"PK\x05\x06" + bytes(18)])
def test_files_that_are_something_else(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(content)
    with pytest.raises(InvalidModel, match=r"m\.pt"):
        ModelPackage.read(tmp_path / "m.pt")


def test_content_tells_the_format_whatever_the_suffix(tmp_path: Path, linear: Path, load: Any) -> None:
    renamed = linear.rename(tmp_path / "linear.pt")
    assert ModelPackage.read(renamed).format is ModelFormat.TORCH_EXPORT
    assert load(renamed).report.engine == "torch"


@pytest.mark.parametrize("length", [0.5, 0.99])
@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_files_cut_short(tmp_path: Path, linear: Path, load: Any, kind: str, length: float) -> None:
    path = linear if kind == "pt2" else script(nn.Linear(2, 2), tmp_path / "m.pt")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * length)])
    with pytest.raises(InvalidModel, match=r"cut short|damaged"):
        load(path, SPECS if kind == "pt" else None)


@pytest.mark.parametrize(("module", "operation"), [(Saves, "save"), (Reads, "from_file")])
def test_scripts_that_touch_files(tmp_path: Path, load: Any, module: Any, operation: str) -> None:
    with pytest.raises(UnsafeModel, match=f"'{operation}'.*Allow unsafe operations"):
        load(script(module(), tmp_path / "m.pt"), SPECS)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ('x.save("f")', "'save'"),
        ('torch . save(x, "f")', "'save'"),
        ('(torch.  # a comment\n      save)(x, "f")', "'save'"),
        ('t = torch\n    t.save(x, "f")', "'torch' as a value"),
        ('getattr(torch, "save")(x, "f")', "getattr|'torch' as a value"),
        ('getattr(x, "sa\\x76e")("f")', "getattr"),
        ("ops.mine.run(x)", "custom operation mine::run"),
        ("o = ops\n    o.debugprims.load_tensor(x)", "'ops' as a value"),
        ("a : __torch__.torch.classes.mine.Thing = x", "classes of native code"),
        ('r"\\"', "cannot be read|a kind"),
    ],
)
def test_code_of_scripts_that_hides_what_it_calls(tmp_path: Path, load: Any, code: str, text: str) -> None:
    source = script(Adds(), tmp_path / "adds.pt")

    def edit(name: str, data: bytes) -> bytes:
        if not name.endswith(".py"):
            return data
        assert b"    return" in data
        return data.replace(b"    return", f"    {code}\n    return".encode(), 1)

    with pytest.raises((UnsafeModel, InvalidModel), match=text):
        load(rewritten(source, tmp_path / "m.pt", edit), SPECS)


def _target(value: Any) -> None:
    value["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.mine.run.default"


def _file_target(value: Any) -> None:
    value["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"


def _python_target(value: Any) -> None:
    value["graph_module"]["graph"]["nodes"][0]["target"] = "torch.serialization.os.system"


def _size(value: Any) -> None:
    sizes = next(v for k, v in value["graph_module"]["graph"]["tensor_values"].items() if k == "input")[
        "sizes"
    ]
    sizes[0]["as_expr"]["expr_str"] = "__import__('os').system('touch trapped')"


def _guard(value: Any) -> None:
    value["guards_code"] = ["__import__('os').system('touch trapped') or L['input'].size()[0] > 0"]


def _name(value: Any) -> None:
    for node in value["graph_module"]["graph"]["inputs"]:
        if node["as_tensor"]["name"] == "input":
            node["as_tensor"]["name"] = "input=__import__('os').system('touch trapped')"


def _parameter(value: Any) -> None:
    spec = value["graph_module"]["signature"]["input_specs"][0]["parameter"]
    spec["parameter_name"] = 'weight"), __import__("os").system("touch trapped'


def _structure(value: Any) -> None:
    call = value["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace(
        '"builtins.dict", "context": "[]"', '"collections.defaultdict", "context": "{}"'
    )


def _keyword(value: Any) -> None:
    call = value["graph_module"]["module_call_graph"][0]["signature"]
    call["in_spec"] = call["in_spec"].replace('"context": "[]"', '"context": "[\\"a=print(1)\\"]"')


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_target, r"operation 'torch\.ops\.mine\.run\.default' is not one that torch or torchvision has"),
        (_file_target, "from_file"),
        (_python_target, r"os\.system"),
        (_size, "not arithmetic on sizes"),
        (_guard, "not arithmetic on sizes"),
        (_name, "not an identifier"),
        (_parameter, "quotes or brackets"),
        (_structure, "class 'collections.defaultdict'"),
        (_keyword, "not a plain name"),
    ],
)
def test_programs_that_hold_code(
    tmp_path: Path, linear: Path, load: Any, monkeypatch: pytest.MonkeyPatch, change: Any, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = with_program(linear, tmp_path / "m.pt2", change)
    assert path.read_bytes() != linear.read_bytes()
    with pytest.raises(UnsafeModel, match=text):
        load(path)
    assert not (tmp_path / "trapped").exists()


def test_pickles_within_programs(tmp_path: Path, linear: Path, load: Any) -> None:
    target = tmp_path / "trapped"
    torch.save({"x": _Trap(target)}, tmp_path / "trap.pt")
    trap = (tmp_path / "trap.pt").read_bytes()

    def examples(name: str, data: bytes) -> bytes:
        return trap if name.startswith("data/sample_inputs/") else data

    def weights(name: str, data: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return trap
        is_config = name.endswith("weights_config.json")
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if is_config else data

    def objects(name: str, data: bytes) -> bytes:
        if name.endswith("constants_config.json"):
            return json.dumps({"config": {"a": {"path_name": "opaque_obj_0", "use_pickle": True}}}).encode()
        return data

    for change, text in (
        (examples, "pickle of more than tensors"),
        (weights, "as a pickle"),
        (objects, "no tensor"),
    ):
        with pytest.raises(UnsafeModel, match=text):
            load(rewritten(linear, tmp_path / "m.pt2", change))
    assert not target.exists()


def test_native_code_and_unknown_entries(tmp_path: Path, linear: Path, load: Any) -> None:
    for name, text in (
        ("data/aotinductor/model/a.so", "AOTInductor"),
        ("lib/evil.so", "an entry that no program"),
    ):
        with pytest.raises(UnsafeModel, match=text):
            load(rewritten(linear, tmp_path / "m.pt2", lambda _, data: data, **{name: b"\x7fELF"}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's of the name that is there twice
        path = rewritten(linear, tmp_path / "m.pt2", lambda _, data: data, **{"models/model.json": b"{}"})
    with pytest.raises(UnsafeModel, match="two entries of one name"):
        load(path)


def test_what_other_versions_wrote(tmp_path: Path, linear: Path, load: Any) -> None:
    def newer(value: Any) -> None:
        value["schema_version"]["major"] += 1
        value["torch_version"] = "9.9.0"

    with pytest.raises(UnsupportedModel, match=r"which torch 9\.9\.0 wrote"):
        load(with_program(linear, tmp_path / "m.pt2", newer))
    source = script(nn.ReLU(), tmp_path / "relu.pt")
    newer_script = rewritten(source, tmp_path / "m.pt", lambda n, data: b"99\n" if n == "version" else data)
    with pytest.raises(UnsupportedModel, match="version"):
        load(newer_script, SPECS)


def test_names_specs_and_precisions_that_do_not_fit(tmp_path: Path, linear: Path, load: Any) -> None:
    archive = script(nn.Bilinear(2, 3, 4), tmp_path / "m.pt")
    for wanted, text in (
        (SignatureRequest(), "input_specs={'input1': DTYPE:SIZES, 'input2': DTYPE:SIZES}"),
        (SignatureRequest(input_specs={"input1": "float32:1,2"}), "leave out input2"),
        (
            SignatureRequest(input_specs={"a": "float32:1,2", "b": "float32:1,3", "c": "float32"}),
            "name 'c', but",
        ),
        (SignatureRequest(input_specs={"input1": "floats:1", "input2": "float32:1,3"}), "dtype 'floats'"),
    ):
        with pytest.raises(InvalidInput, match=text):
            load(archive, wanted)
    specs = {"input1": "float32:1,2", "input2": "float32:1,3"}
    with pytest.raises(InvalidInput, match="list 2 names, but the model has 1 outputs: out"):
        load(archive, SignatureRequest(input_specs=specs, output_aliases=("a", "b")))
    with pytest.raises(UnsupportedModel, match=r"run on zeros.*failed.*input_specs"):
        load(archive, SignatureRequest(input_specs={"input1": "float32:1,5", "input2": "float32:1,3"}))
    with pytest.raises(TensorNotFound, match="no input 'nothing'; it has 'input'"):
        load(linear, SignatureRequest(input_names={"a": "nothing"}, output_names={"b": "out"}))
    with pytest.raises(InvalidInput, match="input_specs are for TorchScript"):
        load(linear, SPECS)
    for precision in ("tf32", "fp16"):
        with pytest.raises(InvalidInput, match=f"'{precision}' needs a CUDA device"):
            load(linear, precision=precision)


def test_a_device_that_is_not_there(linear: Path, load: Any) -> None:
    index = torch.cuda.device_count()
    with pytest.raises(EngineNotAvailable, match=rf"sees no device cuda:{index}; it sees cpu:0"):
        load(linear, device=f"cuda:{index}")


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: no CUDA-capable device is detected",
        "CUDA error: driver shutting down",
        "CUDA error: unknown error",
        "CUDA error: uncorrectable ECC error encountered",
    ],
)
def test_a_device_whose_driver_vanishes_is_lost_and_not_the_models_fault(
    linear: Path, load: Any, text: str
) -> None:
    model = load(linear)

    def vanishes(_tensors: Any) -> Any:
        raise RuntimeError(text)

    cuda = Cuda.__new__(Cuda)  # whose constructor needs a GPU
    cuda._torch, cuda.name = torch, "cuda:0"
    model._run = vanishes
    with pytest.raises(ModelError, match="PyTorch failed: CUDA error"):
        model.predict({"input": np.zeros((1, 2), np.float32)})  # the CPU is not lost by what a text says
    cuda.computing, cuda.bring = contextlib.nullcontext, list
    model._device = cuda
    with pytest.raises(
        DeviceLost, match=r"^cuda:0 computes nothing in this process any more.*: CUDA error: .*"
    ):
        model.predict({"input": np.zeros((1, 2), np.float32)})
    model._device = Cpu(torch, EngineOptions(), 1)  # which closes it


def test_other_errors_of_cuda_lose_no_device() -> None:
    cuda = Cuda.__new__(Cuda)
    for text in (
        "CUDA out of memory. Tried to allocate 8.00 GiB.",
        "CUDA error: operation not permitted when stream is capturing",
        "CUDA error: invalid configuration argument",
        "shape '[2]' is invalid for input of size 3",
    ):
        assert not cuda.is_lost(RuntimeError(text))
