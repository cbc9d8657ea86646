"""The OpenVINO engine beyond its answers: threads, precision, cache, memory, and what it refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference.engines.openvino import compile as openvino_compile
from elastic_inference.engines.openvino.runner import translated
from elastic_inference.errors import (
    EngineNotAvailable,
    InvalidArgumentError,
    InvalidInput,
    InvalidModel,
    MemoryQuotaExceeded,
    ModelError,
    PredictorClosed,
    UnsupportedModel,
)
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.models.signature import SignatureRequest
from tests.engines.build import images
from tests.engines.conftest import Load
from tests.engines.fresh import run_without
from tests.oracle import MODELS

FROZEN = SignatureRequest(input_names={"image": "x:0"}, output_names={"p": "probabilities:0"})


@pytest.fixture
def arithmetic() -> Path:
    """sum = x * w + y, product = x * (y * w), with w = 1."""
    return MODELS / "arithmetic"


def by_names(inputs: dict[str, str], **outputs: str) -> SignatureRequest:
    return SignatureRequest(input_names=inputs, output_names=outputs)


def vector(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


def test_tensorflow_is_not_needed(arithmetic: Path, models: Path) -> None:
    code = """
import numpy as np
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

frozen = SignatureRequest(input_names={"image": "x:0"}, output_names={"p": "probabilities:0"})
for path, request in zip(sys.argv[1:], [SignatureRequest()] * 3 + [frozen] + [SignatureRequest()] * 2):
    model = load(ModelPackage.read(path), request, EngineOptions())
    specs = model.signature.inputs.items()
    inputs = {a: np.ones([2 if n is None else n for n in s.shape], s.dtype) for a, s in specs}
    print(model.report.engine, model.report.notes, sorted(model.predict(inputs)))
assert not [name for name, module in sys.modules.items() if name.startswith("tensorflow") and module]
"""
    paths = [
        arithmetic,
        *(models / name for name in ("tf1", "tf2", "frozen.pb", "model.onnx", "model.tflite")),
    ]
    lines = run_without(["tensorflow", "keras", "onnxruntime", "onnx"], code, *map(str, paths)).splitlines()
    assert len(lines) == len(paths)
    assert all(line.startswith("openvino ") for line in lines)
    assert lines[0] == "openvino () ['outputs']"


def test_sixteen_threads_get_their_own_answers(models: Path, load: Load) -> None:
    model = load(models / "frozen.pb", FROZEN)
    batches = [images(1 + n % 5, seed=n) for n in range(16)]
    expected = [model.predict({"image": batch})["p"] for batch in batches]
    together = threading.Barrier(16)

    def call(n: int) -> None:
        together.wait(30)
        for _ in range(50):
            np.testing.assert_allclose(model.predict({"image": batches[n]})["p"], expected[n], atol=1e-6)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(16)))


def test_outputs_stay_as_they_were_when_the_model_runs_again(models: Path, load: Load) -> None:
    model = load(models / "frozen.pb", FROZEN)
    first = model.predict({"image": images(2, seed=1)})["p"]
    kept = first.copy()
    model.predict({"image": images(2, seed=2)})
    np.testing.assert_array_equal(first, kept)


def test_input_in_read_only_memory(models: Path, load: Load) -> None:
    model = load(models / "frozen.pb", FROZEN)
    array = images(2)
    read_only = np.frombuffer(array.tobytes(), np.float32).reshape(array.shape)
    assert not read_only.flags.writeable
    np.testing.assert_array_equal(
        model.predict({"image": read_only})["p"], model.predict({"image": array})["p"]
    )


def test_handed_on_output_is_a_copy(arithmetic: Path, load: Load) -> None:
    model = load(arithmetic, by_names({"z": "sum:0"}, z2="sum:0"))
    given = vector(1, 2)
    result = model.predict({"z": given})["z2"]
    given[:] = 0
    np.testing.assert_array_equal(result, [1, 2])


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_intermediate_tensor_may_be_fed_or_left_out(arithmetic: Path, load: Load, engine: str) -> None:
    names = {"x": "x:0", "y": "y:0", "z": "mul_1:0"}  # mul_1 = y * w
    model = load(arithmetic, by_names(names, p="product:0"), engine=engine)
    assert model.signature.required_inputs == {"x"}
    x, y, z = vector(2), vector(3), vector(10)
    assert model.predict({"x": x, "y": y})["p"] == 6
    assert model.predict({"x": x, "z": z})["p"] == 20
    assert model.predict({"x": x, "y": y, "z": z})["p"] == 20
    with pytest.raises(InvalidArgumentError, match="placeholder tensor 'y' with dtype float and shape"):
        model.predict({"x": x})
    with pytest.raises(InvalidArgumentError, match="placeholder tensor 'x' with dtype float"):
        model.predict({"y": y, "z": z})
    assert model.predict({"x": x, "y": y})["p"] == 6


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_outputs_that_depend_on_no_input(arithmetic: Path, load: Load, engine: str) -> None:
    model = load(arithmetic, by_names({"x": "x:0"}, w="w:0", read="w/read:0", x2="x:0"), engine=engine)
    outputs = model.predict({"x": vector(5)})
    assert {alias: (value.tolist(), value.shape) for alias, value in outputs.items()} == {
        "w": (1.0, ()),
        "read": (1.0, ()),
        "x2": ([5.0], (1,)),
    }


def test_fed_variable_replaces_its_value(arithmetic: Path, load: Load) -> None:
    model = load(arithmetic, by_names({"x": "x:0", "y": "y:0", "w": "w/read:0"}, c="sum:0"))
    inputs = {"x": vector(2), "y": vector(1)}
    assert model.predict(inputs)["c"] == 3
    assert model.predict({**inputs, "w": np.array(10, np.float32)})["c"] == 21


@pytest.mark.parametrize(("asked", "given"), [("fp32", "fp32"), ("bf16", "bf16")])
def test_precision_in_force_is_read_back(models: Path, load: Load, asked: str, given: str) -> None:
    report = load(models / "frozen.pb", FROZEN, precision=asked, num_threads=1).report
    noted = any("bf16 was asked for" in note for note in report.notes)  # on CPUs without bfloat16 units
    assert report.precision == given or noted
    assert report.num_threads == 1


def test_threads_are_not_pinned(models: Path, load: Load) -> None:
    model: Any = load(models / "frozen.pb", FROZEN, engine="openvino")
    (plan,) = model._plans.values()
    assert plan.runner.compiled.get_property("ENABLE_CPU_PINNING") is False


def test_int8_needs_a_model_that_was_quantized_before(models: Path, load: Load) -> None:
    with pytest.raises(
        InvalidInput, match=r"needs a model that was quantized on samples of yours.*no store is in use"
    ):
        load(models / "frozen.pb", FROZEN, precision="int8")


def test_gpu_is_not_promised(models: Path, load: Load) -> None:
    with pytest.raises(EngineNotAvailable, match="cuda:0"):
        load(models / "frozen.pb", FROZEN, engine="openvino", device="cuda:0")


@pytest.mark.parametrize("name", ["frozen.pb", "tf2", "model.onnx", "model.tflite"])
def test_second_load_takes_the_compiled_model_from_the_cache(
    models: Path, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def predict() -> Any:
        model = load(models / name, store=ArtifactStore.at(tmp_path))
        (alias, spec), *_ = model.signature.inputs.items()
        shape = [1 if size is None else size for size in spec.shape or ()]
        outputs = model.predict({alias: np.full(shape, 0.5, np.float32)})
        return model.signature, [outputs[alias] for alias in sorted(outputs)]

    signature, first = predict()
    (kept,) = (tmp_path / "blobs").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(openvino_compile, "_newly_compiled", None)  # a compilation would call it
        again, second = predict()
    assert again == signature
    np.testing.assert_array_equal(first[0], second[0])
    os.chmod(kept, 0o600)
    kept.write_bytes(kept.read_bytes()[:100])
    _, third = predict()
    np.testing.assert_array_equal(first[0], third[0])
    assert all(path.stat().st_size > 100 for path in (tmp_path / "blobs").iterdir())


def test_cache_tells_signatures_and_precisions_apart(arithmetic: Path, load: Load, tmp_path: Path) -> None:
    inputs = {"x": vector(2), "y": vector(5)}
    for _ in range(2):
        for key, expected in (("product", 10), ("difference", -3), ("serving_default", 7)):
            model = load(arithmetic, SignatureRequest(key), store=ArtifactStore.at(tmp_path))
            assert model.predict(inputs)["outputs"] == expected
    load(arithmetic, SignatureRequest("product"), store=ArtifactStore.at(tmp_path), precision="bf16")
    kinds = [found.kind for found in ArtifactStore.at(tmp_path).artifacts()]
    assert kinds.count(Kind.COMPILED) == 4


def write_graph(path: Path, make: Any) -> Path:
    """A frozen graph `x:0` -> `y:0` with whatever `make(tf)` puts between."""
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default() as graph:
        make(tf)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize(
    ("dtype", "words"),
    [("float64", "in float32"), ("uint64", "in int32"), ("uint8", "saturation"), ("int8", "saturation")],
)
def test_dtypes_that_openvino_would_compute_otherwise(
    tmp_path: Path, load: Load, dtype: str, words: str
) -> None:
    def double(tf: Any) -> None:
        x = tf.compat.v1.placeholder(dtype, [None], name="x")
        tf.add(x, x, name="y")

    path = write_graph(tmp_path / "double.pb", double)
    request = by_names({"x": "x:0"}, y="y:0")
    (note,) = load(path, request, engine="openvino").report.notes
    assert note.startswith("OpenVINO does not compute this model as it is written")
    assert words in note
    model = load(path, request)
    (note,) = model.report.notes
    assert model.report.engine == "tensorflow"
    assert note.startswith("Engine openvino was not taken: OpenVINO would")
    large = np.array([200 if dtype == "uint8" else 100], dtype)
    np.testing.assert_array_equal(model.predict({"x": large})["y"], large + large)


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_placeholder_with_a_default_may_be_left_out(tmp_path: Path, load: Load, engine: str) -> None:
    def scaled(tf: Any) -> None:
        x = tf.compat.v1.placeholder("float32", [None], name="x")
        scale = tf.compat.v1.placeholder_with_default(tf.constant(2.0), [], name="scale")
        tf.multiply(x, scale, name="y")

    request = by_names({"x": "x:0", "scale": "scale:0"}, y="y:0")
    model = load(write_graph(tmp_path / "scaled.pb", scaled), request, engine=engine)
    assert model.signature.required_inputs == {"x"}
    assert model.predict({"x": vector(3)})["y"] == 6
    assert model.predict({"x": vector(3), "scale": np.array(5, np.float32)})["y"] == 15
    assert model.predict({"x": vector(3)})["y"] == 6


def test_int64_beyond_int32_is_refused_not_wrapped(tmp_path: Path, load: Load) -> None:
    def choose(tf: Any) -> None:
        x = tf.compat.v1.placeholder("int64", [None], name="x")
        tf.gather(x, tf.constant([0]), name="y")

    path = write_graph(tmp_path / "choose.pb", choose)
    model, guarded = (load(path, by_names({"x": "x:0"}, y="y:0"), engine=e) for e in ("openvino", "auto"))
    assert model.predict({"x": np.array([1 << 30])})["y"] == 1 << 30
    with pytest.raises(InvalidArgumentError, match="computes int64 in int32; engine tensorflow takes them"):
        model.predict({"x": np.array([1 << 40])})
    assert guarded.report.engine == "openvino"
    assert guarded.predict({"x": np.array([1 << 40])})["y"] == 1 << 40


def test_operation_that_openvino_does_not_know_is_named(tmp_path: Path, load: Load) -> None:
    def length(tf: Any) -> None:
        tf.strings.length(tf.compat.v1.placeholder("string", [None], name="x"), name="y")

    with pytest.raises(UnsupportedModel, match="StringLength"):
        load(write_graph(tmp_path / "s.pb", length), by_names({"x": "x:0"}, y="y:0"), engine="openvino")


def test_shapes_that_do_not_fit_together(arithmetic: Path, load: Load) -> None:
    model = load(arithmetic)
    with pytest.raises(InvalidArgumentError, match=r"^Incompatible shapes: \[2\] vs. \[3\]$"):
        model.predict({"x": vector(1, 2), "y": vector(1, 2, 3)})
    assert model.predict({"x": vector(1), "y": vector(1)})["outputs"] == 2


def test_shape_that_the_model_does_not_take(models: Path, load: Load) -> None:
    model = load(models / "frozen.pb", FROZEN)
    with pytest.raises(InvalidArgumentError):
        model.predict({"image": np.zeros((1, 9, 8, 3), np.float32)})


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("frozen.pb", "openvino"),
        ("frozen.pb", "tensorflow"),
        ("model.onnx", "openvino"),
        ("model.onnx", "onnxruntime"),
    ],
)
def test_use_after_close(models: Path, load: Load, name: str, engine: str) -> None:
    model = load(models / name, engine=engine)
    (alias,) = model.signature.inputs
    assert model.predict({alias: images(1)})
    model.close()
    model.close()
    with pytest.raises(PredictorClosed):
        model.predict({alias: images(1)})


@pytest.mark.parametrize("name", ["frozen.pb", "model.onnx", "model.tflite", "tf2"])
@pytest.mark.parametrize("damage", ["cut", "random", "text"])
def test_damaged_files(models: Path, load: Load, tmp_path: Path, name: str, damage: str) -> None:
    source = models / name / "saved_model.pb" if name == "tf2" else models / name
    path = tmp_path / source.name
    good = source.read_bytes()
    path.write_bytes(
        {
            "cut": good[: len(good) // 2],
            "random": np.random.default_rng(1).bytes(5000),
            "text": b"no model\n" * 99,
        }[damage]
    )
    with pytest.raises(InvalidModel):
        load(path)


@pytest.mark.parametrize("name", ["tf1", "tf2"])
@pytest.mark.parametrize("damage", ["index", "data", "all"])
def test_saved_model_with_damaged_variables(
    models: Path, load: Load, tmp_path: Path, name: str, damage: str
) -> None:
    shutil.copytree(models / name, tmp_path / name)
    for path in (tmp_path / name / "variables").iterdir():
        if damage == "all":
            path.unlink()
        elif damage in path.name:
            path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(InvalidModel, match="missing or damaged"):
        load(tmp_path / name)


def test_errors_of_the_engine_become_ours() -> None:
    assert isinstance(translated(RuntimeError("std::bad_alloc")), MemoryQuotaExceeded)
    assert isinstance(translated(MemoryError()), MemoryQuotaExceeded)
    assert isinstance(translated(RuntimeError("something else")), ModelError)


def test_nothing_is_reported_to_anybody(models: Path) -> None:
    code = """
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

load(ModelPackage.read(sys.argv[1]), SignatureRequest(), EngineOptions(engine="openvino"))
print(sys.modules.get("openvino_telemetry"), "openvino" in sys.modules)
"""
    assert run_without([], code, str(models / "model.onnx")).split() == ["None", "True"]


CLOSING = """
import gc, sys, threading
from pathlib import Path
import numpy as np
from elastic_inference.engines import select
from elastic_inference.engines.base import EngineOptions
from elastic_inference.errors import PredictorClosed
from elastic_inference.models.artifacts.store import ArtifactStore
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

package = ModelPackage.read(sys.argv[1])
pixels = {"x": np.full((64, 8, 8, 3), 0.5, np.float32)}
for number in range(12):
    options = EngineOptions(engine="openvino", num_threads=1, store=ArtifactStore.at(Path(sys.argv[2])))
    model = select.load(package, SignatureRequest(), options)
    assert model.report.source.startswith("from the store") or not number, model.report.source
    begun = threading.Event()

    def call(model=model):
        try:
            for _ in range(1000):
                model.predict(pixels)
                begun.set()
        except PredictorClosed:
            pass

    caller = threading.Thread(target=call)
    caller.start()
    begun.wait(60)
    model.close()
    del model, call
    gc.collect()
    caller.join()
"""


def test_a_model_from_the_store_may_be_closed_while_it_runs(models: Path, tmp_path: Path) -> None:
    """Its weights lie in the mapped file; freed under a call, they took the process with them."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, str(models / "frozen.pb"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
