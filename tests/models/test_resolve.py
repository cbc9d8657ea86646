"""Names, signatures and needs of TensorFlow models, without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from elastic_inference.errors import (
    InvalidInput,
    InvalidModel,
    SignatureNotFound,
    TagsNotFound,
    TensorNotFound,
    UnsupportedModel,
)
from elastic_inference.models.graph_pb2 import GraphDef, SavedModel
from elastic_inference.models.operations import DTYPE_NUMBERS
from elastic_inference.models.package import ModelPackage
from elastic_inference.models.resolve import ResolvedGraph, named_signature, resolve_graph
from elastic_inference.models.signature import SignatureRequest, unfed_text
from elastic_inference.models.surgery import cut
from elastic_inference.tensors import TensorSpec

FLOAT = DTYPE_NUMBERS["float32"]


def node(graph: GraphDef, name: str, op: str, *inputs: str, **types: str) -> None:
    """Add a node whose attributes are all dtypes."""
    added = graph.node.add(name=name, op=op, input=inputs)
    for attribute, dtype in types.items():
        added.attr[attribute].type = DTYPE_NUMBERS[dtype]


def two_branches(producer: int = 1000) -> GraphDef:
    """a, b -> sum -> top values and indices; c -> unused; d stands alone."""
    graph = GraphDef()
    graph.versions.producer = producer
    for name in "abcd":
        node(graph, name, "Placeholder", dtype="float32")
        if name != "d":
            graph.node[-1].attr["shape"].shape.unknown_rank = name == "c"
    graph.node[0].attr["shape"].shape.dim.add(size=-1)
    node(graph, "k", "Const", dtype="int32")
    node(graph, "sum", "AddV2", "a", "b", T="float32")
    node(graph, "top", "TopKV2", "sum", "k", T="float32")
    node(graph, "unused", "Neg", "c", T="float32")
    node(graph, "nothing", "NoOp", "^sum")
    return graph


def frozen(folder: Path, graph: GraphDef) -> ModelPackage:
    path = folder / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    return ModelPackage.read(path)


def resolve(folder: Path, graph: GraphDef, inputs: dict[str, str], outputs: dict[str, str]) -> ResolvedGraph:
    return resolve_graph(frozen(folder, graph), SignatureRequest(input_names=inputs, output_names=outputs))


def test_frozen_graph_without_names_has_its_placeholders_and_terminal_nodes(tmp_path: Path) -> None:
    signature = resolve_graph(frozen(tmp_path, two_branches()), SignatureRequest()).signature
    assert {alias: (spec.name, spec.shape) for alias, spec in signature.inputs.items()} == {
        "a": ("a:0", (None,)),
        "b": ("b:0", ()),
        "c": ("c:0", None),
        "d": ("d:0", None),
    }
    assert {alias: (spec.name, spec.dtype) for alias, spec in signature.outputs.items()} == {
        "d": ("d:0", "float32"),
        "top:0": ("top:0", "float32"),
        "top:1": ("top:1", "int32"),
        "unused": ("unused:0", "float32"),
    }
    assert signature.required_inputs == {"a", "b", "c", "d"}


def test_scalar_placeholder_of_an_old_graph_has_an_unknown_shape(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, two_branches(producer=23), {"b": "b:0", "a": "a:0"}, {"s": "sum:0"})
    assert resolved.inputs["b"].shape is None
    assert resolved.inputs["a"].shape == (None,)


def test_needs(tmp_path: Path) -> None:
    resolved = resolve(tmp_path, two_branches(), {"a": "a:0", "c": "c:0", "s": "sum:0"}, {"t": "top:0"})
    for answers in (resolved, resolved.skeleton()):
        assert [spec.name for spec in answers.missing({"a"})] == ["b:0"]
        assert [spec.name for spec in answers.missing(())] == ["b:0", "a:0"]
        assert answers.missing({"s"}) == ()
        assert answers.used({"a", "c", "s"}) == {"s"}
    assert resolved.signature.required_inputs == {"s"}
    assert resolved.signature.unfed_placeholders == ()


def test_unfed_placeholder(tmp_path: Path) -> None:
    signature = resolve(tmp_path, two_branches(), {"a": "a:0"}, {"t": "top:0"}).signature
    assert [spec.name for spec in signature.unfed_placeholders] == ["b:0"]
    assert signature.required_inputs == {"a"}


@pytest.mark.parametrize(
    ("spec", "ending"),
    [
        (TensorSpec("y:0", "float32", (None, 3)), "tensor 'y' with dtype float and shape [?,3]"),
        (TensorSpec("a/b:0", "float16", ()), "tensor 'a/b' with dtype half and shape []"),
        (TensorSpec("s:0", "string", None), "tensor 's' with dtype string and shape <unknown>"),
    ],
)
def test_text_of_a_missing_placeholder(spec: TensorSpec, ending: str) -> None:
    assert unfed_text(spec) == f"You must feed a value for placeholder {ending}"


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("nope:0", TensorNotFound, "The operation, 'nope', does not exist in the graph."),
        ("top:2", TensorNotFound, "The operation, 'top', exists but only has 2 outputs."),
        ("nothing:0", TensorNotFound, "exists but only has 0 outputs."),
        ("top", InvalidInput, "refers to an Operation, not a Tensor"),
        ("nope", InvalidInput, "looks like an \\(invalid\\) Operation name, not a Tensor"),
        ("top:x", InvalidInput, "looks a like a Tensor name, but is not a valid one"),
        ("top:-1", InvalidInput, "is not a valid one"),
        ("", InvalidInput, "looks like"),
    ],
)
def test_wrong_tensor_name(tmp_path: Path, name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        resolve(tmp_path, two_branches(), {"a": "a:0"}, {"t": name})


def test_dtype_that_no_request_can_carry(tmp_path: Path) -> None:
    graph = two_branches()
    node(graph, "e", "Placeholder", dtype="complex64")
    with pytest.raises(UnsupportedModel, match="complex64"):
        resolve(tmp_path, graph, {"e": "e:0"}, {"t": "sum:0"})


def test_operation_that_tensorflow_does_not_have(tmp_path: Path) -> None:
    graph = two_branches()
    node(graph, "mine", "MyCustomOp", "a")
    with pytest.raises(UnsupportedModel, match="MyCustomOp"):
        resolve(tmp_path, graph, {"a": "a:0"}, {"t": "mine:0"})


def test_graph_that_goes_in_circles(tmp_path: Path) -> None:
    graph = two_branches()
    node(graph, "egg", "Identity", "hen", T="float32")
    node(graph, "hen", "Identity", "egg", T="float32")
    with pytest.raises(InvalidModel, match="needs its own output"):
        resolve(tmp_path, graph, {"a": "a:0"}, {"t": "egg:0"})


def test_operation_that_claims_a_trillion_outputs(tmp_path: Path) -> None:
    graph = two_branches()
    node(graph, "split", "Split", "a", "b", T="float32")
    graph.node[-1].attr["num_split"].i = 10**12
    with pytest.raises(InvalidModel, match="1000000000000 outputs"):
        resolve(tmp_path, graph, {"a": "a:0"}, {"t": "split:5"})


def saved_model(folder: Path, *tag_sets: list[str]) -> ModelPackage:
    model = SavedModel()
    for tags in tag_sets:
        meta_graph = model.meta_graphs.add(graph_def=two_branches())
        meta_graph.meta_info_def.tags.extend(tags)
        for key in ("first", "second"):
            meta_graph.signature_def[key].inputs["x"].name = "a:0"
            meta_graph.signature_def[key].outputs["y"].name = "sum:0"
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return ModelPackage.read(folder)


def test_tags_are_a_set(tmp_path: Path) -> None:
    package = saved_model(tmp_path, ["serve"], ["serve", "gpu"])
    for tags in ("gpu,serve", "serve,gpu"):
        assert resolve_graph(package, SignatureRequest("first", tags=tags)).outputs["y"].name == "sum:0"
    for tags in ("gpu", "serve,tpu", "serve,gpu,tpu"):
        with pytest.raises(TagsNotFound, match=r"available_tags: \[\{'serve'\}, \{'serve', 'gpu'\}\]"):
            resolve_graph(package, SignatureRequest("first", tags=tags))


@pytest.mark.parametrize("key", [None, "", "third"])
def test_unknown_signature_lists_those_that_are_there(tmp_path: Path, key: str | None) -> None:
    with pytest.raises(SignatureNotFound, match=r"Available signatures are 'first', 'second'\."):
        resolve_graph(saved_model(tmp_path, ["serve"]), SignatureRequest(key))


def test_frozen_graph_has_no_other_signature(tmp_path: Path) -> None:
    with pytest.raises(SignatureNotFound, match="'serving_default'"):
        resolve_graph(frozen(tmp_path, two_branches()), SignatureRequest("other"))


@pytest.mark.parametrize(
    "content", [b"\x00", b"text is no model\n" * 5, b"\xff" * 999, b"\x0a\x02\x12\x00", b"\x0a\x00"]
)
def test_files_that_are_no_graph(tmp_path: Path, content: bytes) -> None:
    for name in ("graph.pb", "saved_model.pb"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidModel):
            resolve_graph(ModelPackage.read(tmp_path / name), SignatureRequest())


def test_cutting_at_an_intermediate_tensor(tmp_path: Path) -> None:
    made = cut(
        resolve(tmp_path, two_branches(), {"s": "sum:0"}, {"v": "top:0", "i": "top:1", "s2": "sum:0"}), ["s"]
    )
    assert sorted(node.name for node in made.graph_def.node) == [
        "ei_feed_0",
        "ei_fetch_0",
        "ei_fetch_1",
        "k",
        "top",
    ]
    assert dict(made.feeds) == {"s": "ei_feed_0:0"}
    assert dict(made.fetches) == {"v": "ei_fetch_0:0", "i": "ei_fetch_1:0"}
    assert dict(made.handed_on) == {"s2": "s"}
    assert made.zero is None


def test_names_of_a_model_that_names_its_own() -> None:
    inputs, outputs = [TensorSpec("x", "float32", (None,))], [TensorSpec("y", "float32", None)]
    assert named_signature(SignatureRequest(), inputs, outputs).required_inputs == {"x"}
    request = SignatureRequest(input_names={"a": "x:0"}, output_names={"b": "y", "c": "y"})
    signature = named_signature(request, inputs, outputs)
    assert {alias: spec.name for alias, spec in signature.outputs.items()} == {"b": "y", "c": "y"}
    with pytest.raises(TensorNotFound, match="no output 'x'; it has 'y'"):
        named_signature(SignatureRequest(input_names={"a": "x"}, output_names={"b": "x"}), inputs, outputs)
    with pytest.raises(SignatureNotFound):
        named_signature(SignatureRequest("other"), inputs, outputs)
    unfed = named_signature(SignatureRequest(input_names={}, output_names={"b": "y"}), inputs, outputs)
    assert unfed.unfed_placeholders == (inputs[0],)
