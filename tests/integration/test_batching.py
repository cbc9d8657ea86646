"""Requests of real clients that wait together: each gets its own rows, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt
import pytest

from elastic_inference import EIPredictor, LoadOptions
from elastic_inference.client.connection import Address, Connection
from elastic_inference.errors import DeadlineExceeded, ElasticInferenceError, ModelError, ModelNotReady
from elastic_inference.protocol.endpoint import Endpoint
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model
from tests.waiting import wait_until

ROWS = {"x": ("float32", (None, None))}
WAIT_SECONDS = 0.02  # of one run, however many rows it has: together pays
BAD = 13.0
Result = npt.NDArray[Any]


class Crowd:
    """An accelerator whose turn a test can hold, so that requests wait together; each request is a client of its own.

    Attributes:
        accelerator: The process.
    """

    def __init__(self, accelerator: RunningAccelerator, folder: Path, threads: ThreadPoolExecutor) -> None:
        self.accelerator = accelerator
        self._folder = folder
        self._threads = threads
        self._gate = folder / "gate"
        self._predictors: list[EIPredictor] = []
        holder = write_model(folder / "holder.testing", ROWS, ROWS, until_gone=str(self._gate))
        self._holder = self.predictor(holder, timeout_seconds=30.0)

    def model(self, name: str, **behaviour: Any) -> Path:
        return write_model(
            self._folder / f"{name}.testing", ROWS, ROWS, **{"wait_seconds": WAIT_SECONDS, **behaviour}
        )

    def predictor(self, model: Path, timeout_seconds: float | None = 60.0, **load: Any) -> EIPredictor:
        predictor = EIPredictor(
            model,
            address=self.accelerator.address,
            token=self.accelerator.token,
            load=LoadOptions(**load),
            timeout_seconds=timeout_seconds,
        )
        self._predictors.append(predictor)
        return predictor

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the turn for the block."""
        self._gate.touch()
        holding = self._threads.submit(self._holder, {"x": np.ones((1, 1), np.float32)})
        try:
            wait_until(lambda: self.queue()["num_running"] == 1, "the turn to be held")
            yield
        finally:
            self._gate.unlink()
        holding.result(60)

    def wait_in_line(self, calls: Sequence[tuple[EIPredictor, Result]]) -> list[Future[Result]]:
        """Make calls, each after the one before waits in the queue."""
        futures = []
        for predictor, rows in calls:
            before = self.queue()["num_waiting"]
            futures.append(self._threads.submit(lambda p=predictor, x=rows: p({"x": x})["x"]))  # type: ignore[misc]
            wait_until(lambda n=before: self.queue()["num_waiting"] == n + 1, "the call to wait")  # type: ignore[misc]
        return futures

    def together(self, calls: Sequence[tuple[EIPredictor, Result]]) -> list[Future[Result]]:
        """Let calls wait together, then run."""
        with self.held():
            return self.wait_in_line(calls)

    def tried(self, predictor: EIPredictor, num_columns: int = 4) -> str:
        """Let the accelerator find out whether this model's requests may run together; what it says of that."""
        calls = [(predictor, rows(place, 1, num_columns)) for place in range(4)]
        seen = self.num_trials
        for (_, x), future in zip(calls, self.together(calls), strict=True):
            assert np.array_equal(future.result(60), x)
        wait_until(lambda: self.num_trials > seen, "the trial")
        wait_until(lambda: "being tried" not in predictor.report_now().batching, "the trial's end")
        return predictor.report_now().batching

    @property
    def num_trials(self) -> int:
        """How many trials there were, by the executions that no request counts."""
        state = self.state()
        return int(state["queue"]["num_executions"]) - sum(m["num_executions"] for m in state["models"])

    def state(self) -> dict[str, Any]:
        return self.call("GET", "/v2/accelerator")

    def queue(self) -> dict[str, Any]:
        found: dict[str, Any] = self.state()["queue"]
        return found

    def row_of(self, predictor: EIPredictor) -> dict[str, Any]:
        name = predictor._model.name  # type: ignore[union-attr]
        found: dict[str, Any] = next(row for row in self.state()["models"] if row["name"] == name)
        return found

    def call(self, method: str, path: str, body: bytes = b"", token: str = "") -> Any:
        address = Address(Endpoint.parse(self.accelerator.address), token or self.accelerator.token)
        connection = Connection(address, 60.0)
        try:
            return connection.call(method, path, body)
        finally:
            connection.close()

    def close(self) -> None:
        for predictor in self._predictors:
            predictor.close()


def rows(seed: int, num_rows: int = 1, num_columns: int = 4) -> Result:
    return np.random.default_rng(seed).random((num_rows, num_columns), np.float32)


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    with start_accelerator() as accelerator, ThreadPoolExecutor(24) as threads:
        made = Crowd(accelerator, tmp_path, threads)
        try:
            yield made
        finally:
            made.close()


def test_eight_clients_run_as_one_and_each_gets_its_own_rows(crowd: Crowd) -> None:
    model = crowd.model("m")
    clients = [crowd.predictor(model) for _ in range(8)]
    assert clients[0].report.batching.startswith("not batched yet")
    assert re.match(
        r"batched: up to 32 rows together, in .* ms instead of .* ms; every value as alone",
        crowd.tried(clients[0]),
    )
    before, queue_before = crowd.row_of(clients[0]), crowd.queue()
    calls = [(client, rows(place, num_rows=1 + place % 3)) for place, client in enumerate(clients)]
    for (_, x), future in zip(calls, crowd.together(calls), strict=True):
        assert np.array_equal(future.result(60), x)
    after, queue_after = crowd.row_of(clients[0]), crowd.queue()
    assert after["num_executions"] - before["num_executions"] == 1
    assert after["num_rows"] - before["num_rows"] == sum(len(x) for _, x in calls)
    assert after["num_by_outcome"]["success"] - before["num_by_outcome"]["success"] == 8
    assert queue_after["num_served"] - queue_before["num_served"] == 8 + 1  # and whoever held the turn
    assert queue_after["num_executions"] - queue_before["num_executions"] == 1 + 1


def test_statistics_and_metrics_count_rows_and_executions_apart(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m"))
    crowd.tried(client)
    name = crowd.row_of(client)["name"]

    def counts() -> tuple[int, int]:
        found = crowd.call("GET", f"/v2/models/{name}/stats")["model_stats"][0]
        return found["inference_count"], found["execution_count"]

    num_rows, num_executions = counts()
    for future in crowd.together([(client, rows(place, 2)) for place in range(3)]):
        future.result(60)
    assert counts() == (num_rows + 6, num_executions + 1)
    url = "http://" + crowd.accelerator.address.removeprefix("tcp:") + "/metrics"
    request = Request(url, headers={"Authorization": f"Bearer {crowd.accelerator.token}"})
    with urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    assert f'elastic_inference_rows_total{{model="{name}"}} {num_rows + 6}.0' in text
    assert f'elastic_inference_execution_rows_count{{model="{name}"}} {num_executions + 1}.0' in text
    in_four = re.search(rf'execution_rows_bucket{{le="4",model="{name}"}} ([0-9.]+)', text)
    in_eight = re.search(rf'execution_rows_bucket{{le="8",model="{name}"}} ([0-9.]+)', text)
    assert in_four is not None
    assert in_eight is not None
    assert float(in_eight[1]) - float(in_four[1]) == 1


def test_an_error_is_its_own_requests_alone(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m", fail_at=BAD))
    assert crowd.tried(client).startswith("batched")
    good = [rows(place) for place in range(5)]
    for place in (0, 2, 4):  # who leads, who comes along, who comes last
        calls = [(client, x) for x in good]
        calls.insert(place, (client, np.full((1, 4), BAD, np.float32)))
        answers = crowd.together(calls)
        with pytest.raises(ModelError, match="an input holds 13"):
            answers.pop(place).result(60)
        for x, future in zip(good, answers, strict=True):
            assert np.array_equal(future.result(60), x)
    queue = crowd.queue()
    assert (queue["num_waiting"], queue["num_running"]) == (0, 0)


def test_a_request_whose_time_ends_while_it_waits_hurts_nobody(crowd: Crowd) -> None:
    model = crowd.model("m")
    client, hurried = crowd.predictor(model), crowd.predictor(model, timeout_seconds=1.0)
    crowd.tried(client)
    with crowd.held():
        futures = crowd.wait_in_line([(client, rows(1)), (hurried, rows(2)), (client, rows(3))])
        with pytest.raises(DeadlineExceeded):
            futures[1].result(60)
        wait_until(lambda: crowd.queue()["num_waiting"] == 2, "the late one to leave")
    assert np.array_equal(futures[0].result(60), rows(1))
    assert np.array_equal(futures[2].result(60), rows(3))


def test_models_and_shapes_do_not_mix(crowd: Crowd) -> None:
    one, two = crowd.predictor(crowd.model("one")), crowd.predictor(crowd.model("two", wait_seconds=0.03))
    assert all(crowd.tried(p, columns).startswith("batched") for p in (one, two) for columns in (4, 6))
    calls = [(p, rows(place, 1, columns)) for place in range(3) for p in (one, two) for columns in (4, 6)]
    before = crowd.queue()["num_executions"]
    for (_, x), future in zip(calls, crowd.together(calls), strict=True):
        assert np.array_equal(future.result(60), x)
    assert crowd.queue()["num_executions"] - before == 1 + 4  # whoever held the turn, then each kind once


def test_a_model_is_unloaded_after_those_that_waited_before(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m"))
    crowd.tried(client)
    name = crowd.row_of(client)["name"]
    with crowd.held():
        futures = crowd.wait_in_line([(client, rows(1)), (client, rows(2))])
        unloading = crowd._threads.submit(crowd.call, "POST", f"/v2/repository/models/{name}/unload", b"{}")
        wait_until(lambda: crowd.queue()["num_waiting"] == 3, "the unloading to wait")
        assert not unloading.done()
    unloading.result(60)
    assert [np.array_equal(future.result(60), rows(place)) for place, future in enumerate(futures, 1)] == [
        True
    ] * 2
    assert name not in [row["name"] for row in crowd.state()["models"]]


def test_draining_answers_all_that_wait(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m"))
    crowd.tried(client)
    with crowd.held():
        futures = crowd.wait_in_line([(client, rows(place)) for place in range(4)])
        draining = crowd._threads.submit(
            crowd.call, "POST", "/v2/accelerator/drain", b"{}", crowd.accelerator.admin_token
        )
        late = crowd.predictor(crowd.model("late"), timeout_seconds=0.5, warm_up=False)
        wait_until(lambda: is_refused(late), "the drain to begin")
    for place, future in enumerate(futures):
        assert np.array_equal(future.result(60), rows(place))
    assert draining.result(60) == {"is_drained": True}


def is_refused(predictor: EIPredictor) -> bool:
    try:
        predictor({"x": rows(0)})
    except ModelNotReady:
        return True
    except DeadlineExceeded:
        return False
    raise AssertionError("it ran while the turn was held")


def test_all_that_wait_are_told_when_the_accelerator_is_killed(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m"), timeout_seconds=5.0)
    crowd.tried(client)
    with contextlib.suppress(ElasticInferenceError), crowd.held():  # whose holder is told, too
        futures = crowd.wait_in_line([(client, rows(place)) for place in range(4)])
        crowd.accelerator.process.send_signal(signal.SIGKILL)
        for future in futures:
            with pytest.raises(ElasticInferenceError):
                future.result(60)


@pytest.mark.parametrize(
    ("behaviour", "load", "text"),
    [
        ({"mixes_rows": True}, {}, "not batched: output 'x' of rows together is another than alone"),
        (
            {"wait_seconds": 0, "row_wait_seconds": 0.02},
            {},
            "not batched: 4 rows take .* together and .* one by one",
        ),
    ],
)
def test_a_model_that_must_not_or_need_not_be_batched_runs_as_before(
    behaviour: Mapping[str, Any], load: Mapping[str, Any], text: str, crowd: Crowd
) -> None:
    client = crowd.predictor(crowd.model("m", **behaviour), **load)
    calls = [(client, rows(place)) for place in range(4)]
    factor = 2 if "mixes_rows" in behaviour else 1  # alone, a row's sum is itself
    for _ in range(2):
        for (_, x), future in zip(calls, crowd.together(calls), strict=True):
            assert np.array_equal(future.result(60), factor * x)
        wait_until(lambda: re.match(text, client.report_now().batching), text)
    row = crowd.row_of(client)
    assert row["num_executions"] == row["num_by_outcome"]["success"] == 8


def test_the_user_says_how_many_rows_run_together(crowd: Crowd) -> None:
    client = crowd.predictor(crowd.model("m"), max_batch_rows=2)
    assert crowd.tried(client).startswith("batched: up to 2 rows")
    before = crowd.row_of(client)["num_executions"]
    for place, future in enumerate(crowd.together([(client, rows(place)) for place in range(6)])):
        assert np.array_equal(future.result(60), rows(place))
    assert crowd.row_of(client)["num_executions"] - before == 3


@pytest.mark.parametrize(
    ("shape", "load", "text"),
    [
        ((None, 4), {"batching": "off"}, "not batched: batching='off' was asked for"),
        ((None, 4), {"max_batch_rows": 1}, "not batched: max_batch_rows=1 was asked for"),
        ((1, 4), {}, "not batched: input 'x' has 1 rows, always"),
    ],
)
def test_the_report_says_at_once_why_a_model_is_never_batched(
    shape: tuple[int | None, ...], load: Mapping[str, Any], text: str, crowd: Crowd, tmp_path: Path
) -> None:
    specs = {"x": ("float32", shape)}
    client = crowd.predictor(write_model(tmp_path / "m.testing", specs, specs), **load)
    assert client.report.batching == text
    for place, future in enumerate(crowd.together([(client, rows(place)) for place in range(3)])):
        assert np.array_equal(future.result(60), rows(place))
    assert crowd.row_of(client)["num_executions"] == 3


@pytest.mark.parametrize(
    ("load", "text"),
    [
        ({"batching": "sometimes"}, "batching 'sometimes' is not one of 'auto', 'close', 'off'"),
        ({"max_batch_rows": 0}, "max_batch_rows must be 1 to 1024, not 0"),
        ({"max_batch_rows": 4096}, "max_batch_rows must be 1 to 1024, not 4096"),
        ({"max_batch_delay_seconds": 5.0}, "max_batch_delay_seconds must be 0 to 1, not 5.0"),
    ],
)
def test_what_the_user_asks_for_wrongly_is_refused(load: Mapping[str, Any], text: str, crowd: Crowd) -> None:
    with pytest.raises(ElasticInferenceError, match=re.escape(text)):
        crowd.predictor(crowd.model("m"), **load)


def test_clients_that_call_all_the_time_get_their_own_answers(crowd: Crowd) -> None:
    models = [crowd.model("one", wait_seconds=0.005), crowd.model("two", wait_seconds=0.005, fail_at=BAD)]
    clients = [crowd.predictor(models[place % 2]) for place in range(8)]
    for client in clients[:2]:
        crowd.tried(client)
    before = [crowd.row_of(client) for client in clients[:2]]

    def call(place: int) -> int:
        num_errors = 0
        for number in range(60):
            is_bad = place == 1 and number % 20 == 19
            x = np.full((1, 4), BAD, np.float32) if is_bad else rows(100 * place + number, 1 + number % 4)
            try:
                assert np.array_equal(clients[place]({"x": x})["x"], x)
                assert not is_bad
            except ModelError:
                assert is_bad
                num_errors += 1
        return num_errors

    errors = [future.result(300) for future in [crowd._threads.submit(call, place) for place in range(8)]]
    assert errors == [0, 3, 0, 0, 0, 0, 0, 0]
    for place in (0, 1):
        row = crowd.row_of(clients[place])
        num_served = row["num_by_outcome"]["success"] - before[place]["num_by_outcome"]["success"]
        assert num_served == 240 - sum(errors[place::2])
        assert row["num_executions"] - before[place]["num_executions"] < num_served
    queue = crowd.queue()
    assert (queue["num_waiting"], queue["num_running"], queue["num_expired"], queue["num_refused"]) == (
        0,
        0,
        0,
        0,
    )
