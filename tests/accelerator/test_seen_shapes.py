"""Shapes that a model was called with: remembered beside it, the last ones, and warmed up at its next load."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from elastic_inference.accelerator.seen_shapes import MAX_SHAPES, SeenShapes
from elastic_inference.engines.base import Arrays, EngineReport, LoadedModel
from elastic_inference.engines.warm_up import ALL_SECONDS, QUICK_SECONDS, SeenShape, warm_up
from elastic_inference.errors import ModelError
from elastic_inference.models.artifacts.store import ArtifactStore, Kind
from elastic_inference.models.signature import Signature
from elastic_inference.tensors import TensorSpec
from tests.waiting import wait_until

KEY = {"model": "0" * 64, "signature": "{}"}


def picture(height: int) -> dict[str, npt.NDArray[np.uint8]]:
    return {"image": np.zeros((1, height, 8, 3), np.uint8)}


def kept(store: ArtifactStore) -> list[SeenShape]:
    return SeenShapes(store, KEY).recall()


def test_the_next_process_knows_the_shapes_of_the_last_even_where_that_was_killed(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    seen = SeenShapes(store, KEY)
    seen.saw(picture(480), 0.2)
    wait_until(lambda: kept(store), "the shape is written down without an end in order")
    assert kept(store) == [SeenShape({"image": (1, 480, 8, 3)}, 0.2)]


def test_the_last_called_come_first_with_their_quickest_call(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    seen = SeenShapes(store, KEY)
    for height, seconds in ((1, 0.5), (2, 0.9), (2, 0.1), (1, 0.4), (1, 0.6)):
        seen.saw(picture(height), seconds)
    seen.keep()
    assert [(each.shapes["image"][1], each.seconds) for each in kept(store)] == [(1, 0.4), (2, 0.1)]


def test_shapes_without_end_leave_the_last_few(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    seen = SeenShapes(store, KEY)
    for height in range(1, 1000):
        seen.saw(picture(height), 0.1)
    seen.keep()
    assert [each.shapes["image"][1] for each in kept(store)] == list(range(999, 999 - MAX_SHAPES, -1))


def test_a_process_adds_to_what_it_recalled(tmp_path: Path) -> None:
    store = ArtifactStore.at(tmp_path)
    for height in (1, 2):
        seen = SeenShapes(store, KEY)
        seen.recall()
        seen.saw(picture(height), 0.1)
        seen.keep()
    assert [each.shapes["image"][1] for each in kept(store)] == [2, 1]


@pytest.mark.parametrize(
    "about",
    [{}, {"shapes": 1}, {"shapes": [1]}, {"shapes": [{"shapes": {"image": ["x"]}, "seconds": 1}]}],
)
def test_what_cannot_be_read_is_nothing(tmp_path: Path, about: Mapping[str, Any]) -> None:
    store = ArtifactStore.at(tmp_path)
    store.put(Kind.SHAPES, KEY, about)
    assert kept(store) == []


def test_without_a_store_nothing_is_remembered() -> None:
    seen = SeenShapes()
    seen.saw(picture(1), 0.1)
    seen.keep()
    assert seen.recall() == []


class Recorded(LoadedModel):
    """A model that notes the shapes it was called with."""

    def __init__(self, fails: Callable[[int], bool] = lambda _: False) -> None:
        self.signature = Signature(
            {"image": TensorSpec("image:0", "uint8", (None, None, 8, 3))}, {}, frozenset({"image"})
        )
        self.report = EngineReport("recorded", "1", "cpu:0", "fp32", 1, 0.0)
        self.heights: list[int] = []
        self._fails = fails

    def predict(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        height = inputs["image"].shape[1]
        self.heights.append(height)
        if self._fails(height):
            raise ModelError("too high")
        return {}

    def close(self) -> None: ...


def shape(height: int, seconds: float) -> SeenShape:
    return SeenShape({"image": (1, height, 8, 3)}, seconds)


def test_shapes_seen_before_are_warmed_up_in_place_of_a_made_up_one() -> None:
    model = Recorded()
    assert warm_up(model, True, [shape(480, 0.1), shape(720, 0.2)])[1] == ""
    assert model.heights == [480, 720]


def test_a_long_call_is_its_own_warm_up_and_the_report_says_so() -> None:
    model = Recorded()
    seconds, note = warm_up(model, True, [shape(1080, 1.5)])
    assert note == "no warm-up for [1, 1080, 8, 3]: a call takes 1.5 s, so the first is its own"
    assert model.heights == []
    assert seconds < QUICK_SECONDS


def test_many_shapes_do_not_make_the_load_long() -> None:
    model = Recorded()
    warm_up(model, True, [shape(height, 0.2) for height in range(1, 9)])
    assert len(model.heights) == ALL_SECONDS // 0.2


def test_shapes_that_the_model_does_not_have_any_more_are_left_out() -> None:
    model = Recorded()
    strange = [SeenShape({"other": (1,)}, 0.1), SeenShape({"image": (1, 2)}, 0.1), SeenShape({}, 0.1)]
    warm_up(model, True, strange)
    assert model.heights == [64]  # the made-up one
    warm_up(model, {"image": (1, 5, 8, 3)}, [shape(480, 0.1)])
    assert model.heights == [64, 5]  # the user's own word goes before
    warm_up(model, False, [shape(480, 0.1)])
    assert model.heights == [64, 5]


def test_a_warm_up_that_fails_is_told_and_the_others_go_on() -> None:
    model = Recorded(fails=lambda height: height == 480)
    assert "the warm-up run failed (too high)" in warm_up(model, True, [shape(480, 0.1), shape(720, 0.1)])[1]
    assert model.heights == [480, 720]


def test_a_model_without_inputs_has_a_shape_too() -> None:
    seen = SeenShapes()
    for _ in range(2):
        seen.saw({}, 0.1)
