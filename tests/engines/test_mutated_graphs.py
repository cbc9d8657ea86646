"""Valid graphs, changed at random but so that they parse: each loads or is refused, none hangs or crashes OpenVINO."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from elastic_inference.models.graph_pb2 import GraphDef, NodeDef, SavedModel

NUM_MUTANTS = 40
# Kept as files, because TensorFlow numbers its functions otherwise each time: the same mutants in every run. Some other
# mutants do crash OpenVINO in its own code; an accelerator is a process of its own for that reason too.
_MODELS = Path(__file__).parent / "data"
_LOAD_EACH = """
import faulthandler, sys
import numpy as np
from elastic_inference.engines.base import EngineOptions
from elastic_inference.engines.select import load
from elastic_inference.errors import ElasticInferenceError
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.signature import SignatureRequest

for path in sys.argv[1:]:
    faulthandler.dump_traceback_later(60, exit=True)  # a hang
    try:
        options = EngineOptions(engine="openvino", num_threads=1)
        model = load(ModelPackage.read(path), SignatureRequest(), options)
        specs = model.signature.inputs.items()
        model.predict({a: np.ones([min(n or 2, 9) for n in s.shape or ()], s.numpy_dtype) for a, s in specs})
        print("ran")
    except ElasticInferenceError as error:
        print(type(error).__name__)
"""


def rewire(node: NodeDef, other: NodeDef, rng: random.Random) -> None:
    if node.input:
        node.input[rng.randrange(len(node.input))] = other.name


def drop_input(node: NodeDef, other: NodeDef, rng: random.Random) -> None:  # noqa: ARG001
    if node.input:
        del node.input[rng.randrange(len(node.input))]


def add_input(node: NodeDef, other: NodeDef, rng: random.Random) -> None:
    node.input.append(other.name + rng.choice(["", ":1", ":7"]))


def change_operation(node: NodeDef, other: NodeDef, rng: random.Random) -> None:  # noqa: ARG001
    node.op = other.op


def rename(node: NodeDef, other: NodeDef, rng: random.Random) -> None:  # noqa: ARG001
    node.name = other.name


def drop_attribute(node: NodeDef, other: NodeDef, rng: random.Random) -> None:  # noqa: ARG001
    if node.attr:
        del node.attr[rng.choice(sorted(node.attr))]


def swap_attribute(node: NodeDef, other: NodeDef, rng: random.Random) -> None:
    if node.attr and other.attr:
        node.attr[rng.choice(sorted(node.attr))].CopyFrom(other.attr[rng.choice(sorted(other.attr))])


def change_number(node: NodeDef, other: NodeDef, rng: random.Random) -> None:  # noqa: ARG001
    for key in sorted(node.attr):
        value = node.attr[key]
        if value.WhichOneof("value") == "type":
            value.type = rng.choice([0, 1, 3, 7, 9, 20, 99, 101])
        elif value.WhichOneof("value") == "i":
            value.i = rng.choice([-1, 0, 7, 2**31, 2**62])
        elif value.WhichOneof("value") == "shape":
            value.shape.dim.add(size=rng.choice([-7, -1, 0, 5, 2**40]))


MUTATIONS: list[Callable[[NodeDef, NodeDef, random.Random], None]] = [
    rewire, drop_input, add_input, change_operation, rename, drop_attribute, swap_attribute, change_number,
]  # fmt: skip


def mutate(bodies: list[Any], rng: random.Random) -> None:
    """Change one to three nodes of the graph or of its functions."""
    for _ in range(rng.randint(1, 3)):
        nodes = rng.choice([body for body in bodies if body])
        rng.choice(MUTATIONS)(rng.choice(nodes), rng.choice(nodes), rng)


@pytest.mark.parametrize("name", ["frozen.pb", "tf1", "tf2"])
def test_mutants(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    paths = [_write_mutant(_MODELS / name, tmp_path / str(number), rng) for number in range(NUM_MUTANTS)]
    done = subprocess.run(
        [sys.executable, "-c", _LOAD_EACH, *map(str, paths)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=120,
    )
    results = done.stdout.split()
    assert done.returncode == 0, (paths[len(results)], done.stderr[-2000:])
    assert len(results) == NUM_MUTANTS
    assert results.count("ran") < NUM_MUTANTS


def _write_mutant(source: Path, folder: Path, rng: random.Random) -> Path:
    folder.mkdir()
    if source.is_file():
        graph = GraphDef.FromString(source.read_bytes())
        mutate([graph.node], rng)
        (folder / source.name).write_bytes(graph.SerializeToString())
        return folder / source.name
    model = SavedModel.FromString((source / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    mutate([graph.node, *(function.node_def for function in graph.library.function)], rng)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    (folder / "variables").symlink_to(source / "variables")
    return folder
