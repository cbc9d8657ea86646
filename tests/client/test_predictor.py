"""EIPredictor beyond the recorded checks: names, partial feeds, tags, objects that stand for TensorFlow's."""

from __future__ import annotations

import gc
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from elastic_inference import EIPredictor
from elastic_inference.errors import InvalidArgumentError, InvalidInput, TagsNotFound, TensorNotFound
from tests.oracle import MODELS


@pytest.fixture(scope="module")
def models() -> Path:
    return MODELS


@pytest.fixture(scope="module", params=["accelerator", "tensorflow in process"])
def where(request: pytest.FixtureRequest, models: Path) -> Iterator[dict[str, Any]]:
    """Arguments for each place; the accelerator stays for all tests of this file."""
    if request.param != "accelerator":
        pytest.importorskip("tensorflow")
        yield {"use_ei": False}
        return
    with EIPredictor(models / "scalar"):
        yield {}


def value_of(predictor: EIPredictor, **inputs: Any) -> Any:
    with predictor:
        (output,) = predictor(inputs).values()
    return output.tolist() if hasattr(output, "tolist") else output


X, Y = [1.0, 2.0], [10.0, 20.0]


def test_an_intermediate_tensor_may_be_fed_or_left_out(models: Path, where: dict[str, Any]) -> None:
    names = {"a": "x:0", "b": "y:0", "total": "sum:0"}
    with EIPredictor(
        models / "arithmetic", input_names=names, output_names={"t": "sum:0"}, **where
    ) as predictor:
        assert predictor({"a": X, "b": Y})["t"].tolist() == [11.0, 22.0]
        assert predictor({"total": [5.0]})["t"].tolist() == [5.0]
        assert predictor({"total": [5.0], "a": X})["t"].tolist() == [5.0]
        assert predictor({"a": X, "b": Y, "total": None})["t"].tolist() == [11.0, 22.0]
        for inputs in ({"a": X}, {"a": X, "b": None}):
            with pytest.raises(
                InvalidArgumentError, match=r"placeholder tensor 'y' with dtype float and shape \[\?\]"
            ):
                predictor(inputs)
        assert predictor({"a": X, "b": Y})["t"].tolist() == [11.0, 22.0]


def test_only_what_is_needed_must_be_fed(models: Path, where: dict[str, Any]) -> None:
    names = {"a": "x:0", "b": "y:0", "both": "sum:0"}
    outputs = {"s": "sum:0", "p": "product:0"}
    with EIPredictor(models / "arithmetic", input_names=names, output_names=outputs, **where) as predictor:
        answer = predictor({"a": X, "b": Y, "both": [7.0, 7.0]})
        assert (answer["s"].tolist(), answer["p"].tolist()) == ([7.0, 7.0], [10.0, 40.0])
        with pytest.raises(InvalidArgumentError, match="'y'"):
            predictor({"a": X, "both": [7.0, 7.0]})
    with (
        EIPredictor(models / "arithmetic", input_names={}, output_names={"p": "product:0"}, **where) as unfed,
        pytest.raises(InvalidArgumentError, match="You must feed a value for placeholder tensor"),
    ):
        unfed({})


def test_a_tensor_that_no_computation_reaches_may_be_asked_back(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(
        models / "arithmetic", input_names={"a": "x:0"}, output_names={"b": "x:0"}, **where
    ) as p:
        assert p({"a": X})["b"].tolist() == X
    with EIPredictor(models / "scalar", input_names={"a": "a:0"}, output_names={"b": "a:0"}, **where) as p:
        # TensorFlow hands a fed value back as the array that it made of it, not as a scalar.
        assert (type(p({"a": 2.0})["b"]), p({"a": 2.0})["b"].shape) == (np.ndarray, ())


@pytest.mark.parametrize("tags", ["serve,gpu", "gpu,serve"])
def test_tags_are_a_set(models: Path, where: dict[str, Any], tags: str) -> None:
    assert value_of(EIPredictor(models / "arithmetic", tags=tags, **where), x=X, y=Y) == [11.0, 22.0]


@pytest.mark.parametrize(
    ("tags", "named"),
    [
        ("gpu", "'gpu'"),
        ("gpu,serve,tpu", "'gpu', 'serve', 'tpu'"),
        ("serve,", "'serve', ''"),
        ("SERVE", "'SERVE'"),
    ],
)
def test_other_tags_are_refused(models: Path, where: dict[str, Any], tags: str, named: str) -> None:
    with pytest.raises(TagsNotFound, match=f"MetaGraphDef associated with tags {named} could not be found"):
        EIPredictor(models / "arithmetic", tags=tags, **where)


def test_a_signature_def_gives_the_names(models: Path, where: dict[str, Any]) -> None:
    def info(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name)

    definition = SimpleNamespace(
        inputs={"l": info("x:0"), "r": info("y:0")}, outputs={"o": info("product:0")}
    )
    predictor = EIPredictor(models / "arithmetic", signature_def=definition, **where)
    assert value_of(predictor, l=X, r=Y) == [10.0, 40.0]
    for more in (
        {"signature_def_key": "both"},
        {"input_names": {"a": "x:0"}, "output_names": {"b": "sum:0"}},
    ):
        with pytest.raises(ValueError, match="You must specify at most one of signature_def_key OR"):
            EIPredictor(models / "arithmetic", signature_def=definition, **more, **where)


@pytest.mark.parametrize("inputs", [{1, 2}, [("x", X)], "x", 5, None])
def test_what_is_no_dictionary_has_no_keys(models: Path, where: dict[str, Any], inputs: Any) -> None:
    words = f"'{type(inputs).__name__}' object has no attribute 'keys'"
    with EIPredictor(models / "arithmetic", **where) as predictor, pytest.raises(AttributeError, match=words):
        predictor(inputs)


class Table:
    """Has what TensorFlow's predictor asked of its input, and no more."""

    def keys(self) -> list[str]:
        return ["x", "y"]

    def get(self, key: str) -> Any:
        return {"x": X, "y": Y}[key]


def test_whatever_has_keys_and_get_will_do(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "arithmetic", **where) as predictor:
        for inputs in (Table(), MappingProxyType({"x": X, "y": Y}), OrderedDict(y=Y, x=X)):
            assert predictor(inputs)["outputs"].tolist() == [11.0, 22.0]  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"Got unexpected keys in input_dict: \{5\}"):
            predictor({5: X})  # type: ignore[dict-item]


def test_each_call_gives_a_new_dictionary_and_new_arrays(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "arithmetic", **where) as predictor:
        first = predictor({"x": X, "y": Y})
        second = predictor({"x": X, "y": Y})
        assert first is not second
        first["outputs"][...] = 0
        assert second["outputs"].tolist() == predictor({"x": X, "y": Y})["outputs"].tolist() == [11.0, 22.0]


def test_numpy_scalars_and_rank_0(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "scalar", **where) as predictor:
        for two in (2, 2.0, np.float64(2), np.int8(2), np.array(2), np.array(2.0, ">f4")):
            answer = predictor({"a": two, "b": (1, 2, 3)})
            assert type(answer["twice"]) is np.float32
            assert answer["twice"] == 4
        with pytest.raises(TypeError, match="Type of feed value 16777217 with type <class 'int'>"):
            predictor({"a": 2**24 + 1, "b": (1, 2, 3)})


def test_strings_of_rank_2_are_bytes(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "dtypes", "str", **where) as predictor:
        answer = predictor({"a": np.array([["é", "b\0"], ["", "c"]], dtype=object)})["b"]
        assert answer.tolist() == [["é".encode(), b"b\0"], [b"", b"c"]]
        assert predictor({"a": np.empty((0, 2), dtype=object)})["b"].shape == (0, 2)
        with pytest.raises(ValueError, match=r"Cannot feed value of shape \(1,\) for Tensor 'str:0'"):
            predictor({"a": ["a"]})


def test_strict_refuses_before_anything_is_sent(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "dtypes", "u8", strict=True, **where) as predictor:
        with pytest.raises(InvalidInput, match="input 'a': casting float64 to uint8 changes values"):
            predictor({"a": [[2.9, 1.0]]})
        assert predictor({"a": [[2.0, 1.0]]})["b"].tolist() == [[2, 1]]


def test_graph_and_session_know_the_tensors(models: Path, where: dict[str, Any]) -> None:
    with EIPredictor(models / "image", **where) as predictor:
        tensor = predictor.feed_tensors["inputs"]
        assert predictor.graph.get_tensor_by_name("image_tensor:0") is tensor
        assert predictor.session.graph is predictor.graph is tensor.graph
        assert tensor.name == "image_tensor:0"
        assert tensor.dtype == "uint8"
        assert tensor.dtype == np.uint8
        assert tensor.dtype.as_numpy_dtype is np.uint8
        assert tensor.shape.as_list() == tensor.get_shape().as_list() == [None, None, None, 3]
        assert (tensor.shape.ndims, tensor.shape.rank, len(tensor.shape)) == (4, 4, 4)
        assert tensor.shape[-1] == 3
        with pytest.raises(KeyError):
            predictor.graph.get_tensor_by_name("nope:0")


def test_on_an_accelerator_the_session_says_that_it_runs_nothing(models: Path) -> None:
    with EIPredictor(models / "image") as predictor:
        with pytest.raises(
            NotImplementedError, match="call the predictor, with input_names and output_names"
        ):
            predictor.session.run("best:0", {})
        with pytest.raises(TensorNotFound, match="it knows"):
            predictor.graph.get_tensor_by_name("total:0")


def test_in_process_graph_and_session_are_tensorflows(models: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    graph, config = tf.Graph(), tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1)
    with EIPredictor(models / "arithmetic", use_ei=False, graph=graph, config=config) as predictor:
        assert predictor.graph is graph
        assert isinstance(predictor.session, tf.compat.v1.Session)
        feed = {predictor.feed_tensors["x"]: X, "y:0": Y}
        assert predictor.session.run("product:0", feed).tolist() == [10.0, 40.0]


def test_a_fitting_frame_is_not_copied(models: Path) -> None:
    """Neither by the checks nor on its way into shared memory or the socket."""
    frame = np.zeros((1, 1080, 1920, 3), np.uint8)
    for use_shared_memory in (True, False):
        with EIPredictor(models / "image", "total", use_shared_memory=use_shared_memory) as predictor:
            predictor({"inputs": frame})
            assert predictor._feeds.arrays({"inputs": frame})["inputs"] is frame
            gc.collect()
            tracemalloc.start()
            try:
                predictor({"inputs": frame})
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert peak_bytes < 100_000, f"{peak_bytes} bytes for a frame of {frame.nbytes}"


def test_map_keeps_order_and_reads_no_further_than_it_must(models: Path) -> None:
    taken: list[int] = []

    def inputs() -> Iterator[dict[str, Any]]:
        for number in range(20):
            taken.append(number)
            yield {"x": [float(number)], "y": [1.0]}

    with EIPredictor(models / "arithmetic") as predictor:
        results = predictor.map(inputs(), in_flight=3)
        assert next(results)["outputs"].tolist() == [1.0]
        assert len(taken) <= 5
        assert [r["outputs"].tolist() for r in results] == [[float(n) + 1] for n in range(1, 20)]
        bad = predictor.map([{"x": [1.0], "y": [1.0]}, {"q": 1}], in_flight=2)
        next(bad)
        with pytest.raises(ValueError, match="Got unexpected keys"):
            next(bad)
        for wrong in (0, 65):
            with pytest.raises(InvalidInput, match="in_flight"):
                predictor.map([], in_flight=wrong)


def test_timing_and_report_say_where_the_time_went(models: Path) -> None:
    with EIPredictor(models / "arithmetic") as predictor:
        outputs, timing = predictor.predict_timed({"x": X, "y": Y})
        assert outputs["outputs"].tolist() == [11.0, 22.0]
        assert 0 < timing.service_seconds < timing.latency_seconds
        assert timing.wire_seconds > 0
        told = predictor.report.to_json()
        assert (told["use_ei"], told["precision"]) == (True, "fp32")
        assert told["total_load_seconds"] >= told["load_seconds"] > 0
        assert "EIPredictor(" in repr(predictor)


@pytest.mark.parametrize("timeout_seconds", [0, -1, float("nan")])
def test_a_timeout_must_be_above_0(models: Path, timeout_seconds: float) -> None:
    with pytest.raises(InvalidInput, match="timeout_seconds"):
        EIPredictor(models / "arithmetic", timeout_seconds=timeout_seconds)
