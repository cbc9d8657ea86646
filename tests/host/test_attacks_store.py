"""The stores of a host's accelerators are removed under it: answers go on, and models load again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from elastic_inference import Accelerator, EIPredictor, LoadOptions
from elastic_inference.client.host_session import Attachment
from tests.host.conftest import HostProcess
from tests.integration.tiny_model import write_doubling_graph

X = np.arange(3, dtype=np.float32)


def test_stores_that_are_removed_under_a_running_host_change_no_answer(
    start_host: Callable[..., HostProcess], state_dir: Path, model: Path, tmp_path: Path
) -> None:
    host = start_host()
    session = host.session()
    places = [_place(session.attach("cpu.quarter")) for _ in range(2)]
    other_model = write_doubling_graph(tmp_path / "other.pb")
    other_model.write_bytes(
        other_model.read_bytes() + b"\x22\x03\x08\xbf\x08"
    )  # other versions: another model
    with predictor(model, places[0]) as one, predictor(model, places[1]) as neighbour:
        check(one)
        folders = [path for path in state_dir.glob("accelerators/*/*") if path.name in ("artifacts", "store")]
        assert len(folders) == 4
        for folder in folders:
            for inside in folder.iterdir():
                shutil.rmtree(inside)
        check(one)
        check(neighbour)
        with predictor(other_model, places[0]) as another:
            check(another)
        check(neighbour)
    with predictor(model, _place(session.attach("cpu.quarter"))) as anew:
        check(anew)
    assert host.process.poll() is None


def _place(attached: Attachment) -> Accelerator:
    return Accelerator.at(attached.usable_endpoints()[0], token=attached.token)


def predictor(model: Path, place: Accelerator) -> EIPredictor:
    load = LoadOptions(proof="off", warm_up=False)
    return EIPredictor(
        model, accelerator=place, load=load, input_names={"x": "x:0"}, output_names={"y": "y:0"}
    )


def check(predict: EIPredictor) -> None:
    np.testing.assert_array_equal(predict({"x": X})["y"], X * 2)
