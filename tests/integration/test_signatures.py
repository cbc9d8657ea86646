"""Signatures of one SavedModel and labels of its versions under `ei serve`, as TensorFlow Serving's clients ask."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.serve_process import Serving, serving, wait_for
from tests.integration.small_models import expected, write_saved_model
from tests.waiting import wait_until

X = [[1.0, 2.0, 3.0, 4.0]]


def values(served: Serving, path: str, **body: Any) -> Any:
    """The outputs of a model for X; the status must be 200."""
    status, answer = served.ask(
        f"/v1/models/{path}:predict", {"inputs": X, **body}, door="tensorflow-serving"
    )
    assert status == 200, answer
    return answer["outputs"]


def reported(served: Serving) -> set[tuple[str, str]]:
    """Name and version of all that is loaded, signatures too."""
    _, report = served.ask("/v2/accelerator")
    return {(each["name"], each["version"]) for each in report["models"]}


def label_status(served: Serving, label: str) -> int:
    """HTTP's status of a look at the version of a label."""
    return served.ask(f"/v1/models/linear/labels/{label}", door="tensorflow-serving")[0]


def want(seed: int, key: str = "serving_default") -> Any:
    return pytest.approx(expected(seed, key, np.array(X, np.float32))["outputs"].ravel().tolist(), rel=1e-5)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Two versions of one model, of the seeds 1 and 2."""
    for version in (1, 2):
        write_saved_model(tmp_path / "models" / "linear" / str(version), version)
    return tmp_path / "models"


def serve(models: Path, tmp_path: Path) -> Any:
    return serving(models, "--tf-serving", "0,0", "--http", "0", "--poll", "100ms", scratch=tmp_path)


def test_a_signature_is_loaded_once_by_whoever_asks_first(models: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path) as served, ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(values, served, "linear", signature_name="shifted") for _ in range(16)]
        assert [each.result(60)[0] for each in asked] == [want(2, "shifted")] * 16
        _, metrics = served.ask("/metrics")
        counted = [line for line in metrics.splitlines() if line.startswith("elastic_inference_rows_total")]
        assert 'elastic_inference_rows_total{model="linear@2#shifted"} 16.0' in counted, counted
        assert reported(served) == {("linear", "2"), ("linear#shifted", "2")}
        assert set(served.index()) == {("linear", "2")}


def test_a_new_version_brings_signatures_of_its_own(models: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path) as served:
        assert values(served, "linear", signature_name="shifted")[0] == want(2, "shifted")
        write_saved_model(models / "linear" / "3", 3)
        wait_for(served, "linear", "3")
        assert values(served, "linear", signature_name="shifted")[0] == want(3, "shifted")
        wait_until(
            lambda: reported(served) == {("linear", "3"), ("linear#shifted", "3")}, "the old version is gone"
        )


def test_labels_move_with_the_settings(models: Path, tmp_path: Path) -> None:
    settings = models / "linear" / "model.toml"
    settings.write_text('versions = "all"\nlabels = {stable = 1, canary = 2}\n')
    with serve(models, tmp_path) as served:
        for label, version in (("stable", 1), ("canary", 2)):
            assert values(served, f"linear/labels/{label}")[0] == want(version)
            shifted = values(served, f"linear/labels/{label}", signature_name="shifted")
            assert shifted[0] == want(version, "shifted")
            _, status = served.ask(f"/v1/models/linear/labels/{label}", door="tensorflow-serving")
            assert [each["version"] for each in status["model_version_status"]] == [str(version)]
        settings.write_text('versions = "all"\nlabels = {stable = 2}\n')
        wait_until(lambda: label_status(served, "canary") == 400, "the label is gone")
        assert values(served, "linear/labels/stable")[0] == want(2)
        status, answer = served.ask(
            "/v1/models/linear/labels/canary:predict", {"inputs": X}, door="tensorflow-serving"
        )
        assert (status, "Unrecognized servable version label: canary" in answer["error"]) == (400, True), (
            answer
        )


def test_a_label_of_a_version_that_is_not_served_is_told(models: Path, tmp_path: Path) -> None:
    (models / "linear" / "model.toml").write_text("labels = {stable = 1}\n")
    with serve(models, tmp_path) as served:
        assert values(served, "linear")[0] == want(2)
        row = served.index()["linear", ""]
        assert (row["state"], "'stable' of version 1" in row["reason"]) == ("UNAVAILABLE", True), row


def test_what_is_unloaded_takes_its_signatures_along(models: Path, tmp_path: Path) -> None:
    with serve(models, tmp_path) as served:
        values(served, "linear", signature_name="shifted")
        served.ask("/v2/repository/models/linear/unload", {})
        status, _ = served.ask(
            "/v1/models/linear:predict", {"inputs": X, "signature_name": "shifted"}, door="tensorflow-serving"
        )
        assert status == 404
        assert not {name for name, _ in reported(served)} & {"linear#shifted"}
        served.ask("/v2/repository/models/linear/load", {})
        assert values(served, "linear", signature_name="shifted")[0] == want(2, "shifted")
