"""AsyncEIPredictor on real accelerators: answers, cancellation, closing, and a loop that is never held up."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elastic_inference import Accelerator, AsyncEIPredictor, EIPredictor, LoadOptions
from elastic_inference.client.connection import _open_connections
from elastic_inference.deadline import Deadline
from elastic_inference.errors import ConnectError, InvalidInput, ModelError, PredictorClosed
from elastic_inference.testing import RunningAccelerator, start_accelerator, write_model

X = {"inputs": np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)}
BOUND_SECONDS = 30.0  # of a wait that would otherwise last as long as the model computes, which is longer


@pytest.fixture(scope="module")
def running() -> Iterator[RunningAccelerator]:
    with start_accelerator(("unix:{folder}/a.sock",)) as accelerator:
        yield accelerator


@pytest.fixture
def place(running: RunningAccelerator) -> Accelerator:
    return Accelerator.at(running.address, token=running.token)


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    return write_model(tmp_path / "quick.testing")


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    return write_model(tmp_path / "slow.testing", wait_seconds=60)


def test_its_arguments_are_those_of_the_other() -> None:
    assert inspect.signature(AsyncEIPredictor) == inspect.signature(EIPredictor)


def test_a_call_gives_what_the_other_gives(quick: Path, place: Accelerator) -> None:
    async def main() -> None:
        async with AsyncEIPredictor(quick, accelerator=place) as predictor:
            outputs, timing = await predictor.predict_timed(X)
            np.testing.assert_array_equal(outputs["outputs"], wanted["outputs"])
            assert 0 < timing.service_seconds < timing.latency_seconds
            many = await asyncio.gather(*(predictor(X) for _ in range(100)))
            assert all(np.array_equal(each["outputs"], wanted["outputs"]) for each in many)
            assert predictor.report.accelerator_id
            assert (await predictor.report_now()).accelerator_id == predictor.report.accelerator_id
            assert list(predictor.feed_tensors) == ["inputs"]
            assert list(predictor.fetch_tensors) == ["outputs"]
            with pytest.raises(InvalidInput, match="unexpected keys"):
                await predictor({"nope": 1})

    with EIPredictor(quick, accelerator=place) as other:
        wanted = other(X)
    asyncio.run(main())


def test_it_works_in_process_and_embedded(tmp_path: Path) -> None:
    from tests.integration.small_models import NUM_INPUTS, expected, write_saved_model

    x = np.ones((2, NUM_INPUTS), np.float32)
    model = write_saved_model(tmp_path / "seven", 7)

    async def main(place: Accelerator) -> None:
        async with AsyncEIPredictor(model, accelerator=place) as predictor:
            outputs = await predictor({"x": x})
            np.testing.assert_allclose(
                outputs["outputs"], expected(7, "serving_default", x)["outputs"], rtol=1e-4
            )

    for place in (Accelerator.local(), Accelerator.embedded(threads=1)):
        asyncio.run(main(place))


def test_wrong_arguments_are_refused_at_once_and_a_bad_model_when_it_starts(
    tmp_path: Path, quick: Path
) -> None:
    with pytest.raises(InvalidInput, match="timeout_seconds"):
        AsyncEIPredictor(quick, timeout_seconds=0)

    async def main() -> None:
        predictor = AsyncEIPredictor(tmp_path / "nothing")
        for _ in range(2):
            with pytest.raises(OSError, match="nothing"):
                await predictor(X)
        with pytest.raises(InvalidInput, match="not loaded yet"):
            predictor.report  # noqa: B018
        await predictor.close()
        unreachable = AsyncEIPredictor(quick, accelerator=Accelerator.at("tcp:127.0.0.1:9"))
        with pytest.raises(ConnectError):
            async with unreachable:
                pass

    asyncio.run(main())


async def until_it_computes(predictor: AsyncEIPredictor) -> None:
    """Wait until the accelerator has a request in its engine."""

    def num_running() -> int:
        pool = predictor._predictor._model._pool  # type: ignore[attr-defined]
        with pool.connection(Deadline(10.0)) as connection:
            return int(connection.call("GET", "/v2/accelerator")["queue"]["num_running"])

    while not await asyncio.to_thread(num_running):
        await asyncio.sleep(0)


def test_a_cancelled_call_ends_at_once_and_gives_thread_and_connection_back(slow: Path) -> None:
    async def main() -> None:
        predictor = AsyncEIPredictor(slow, accelerator=place, load=LoadOptions(warm_up=False))
        await predictor.start()
        call = asyncio.create_task(predictor(X))
        await until_it_computes(predictor)
        before = set(_open_connections)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, BOUND_SECONDS)
        # Closing waits for the threads: it would take as long as the model, had the call not ended.
        await asyncio.wait_for(predictor.close(), BOUND_SECONDS)
        assert all(connection.stream.sock.fileno() == -1 for connection in before)

    with start_accelerator() as running:
        place = Accelerator.at(running.address, token=running.token)
        asyncio.run(main())
        running.process.kill()  # it would finish the model first


def test_a_cancelled_call_takes_no_other_with_it(quick: Path, place: Accelerator) -> None:
    """Connections go back to the pool between calls: the wrong one must never be closed."""

    async def main() -> None:
        async with AsyncEIPredictor(quick, accelerator=place, timeout_seconds=BOUND_SECONDS) as predictor:
            wanted = (await predictor(X))["outputs"]
            for turn in range(200):
                calls = [asyncio.create_task(predictor(X)) for _ in range(4)]
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                calls[0].cancel()
                results = await asyncio.gather(*calls, return_exceptions=True)
                for result in results[1:]:
                    assert isinstance(result, dict), result
                    np.testing.assert_array_equal(result["outputs"], wanted)

    asyncio.run(main())


def test_time_limits_of_asyncio_end_a_call(slow: Path) -> None:
    async def main(place: Accelerator) -> None:
        predictor = AsyncEIPredictor(slow, accelerator=place, warm_up=False)
        await predictor.start()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(predictor(X), 0.05)
        await asyncio.wait_for(predictor.close(), BOUND_SECONDS)

    with start_accelerator() as running:
        asyncio.run(main(Accelerator.at(running.address, token=running.token)))
        running.process.kill()


def test_map_keeps_order_and_reads_no_further_than_it_must(quick: Path, place: Accelerator) -> None:
    taken: list[int] = []

    def plain() -> Iterator[dict[str, Any]]:
        for number in range(20):
            taken.append(number)
            yield {"inputs": np.full((1, 1, 1, 3), number, np.uint8)}

    async def asynchronous() -> AsyncIterator[dict[str, Any]]:
        for value in plain():
            await asyncio.sleep(0)
            yield value

    async def main() -> None:
        async with AsyncEIPredictor(quick, accelerator=place) as predictor:
            for inputs in (plain(), asynchronous()):
                taken.clear()
                results = predictor.map(inputs, in_flight=3)
                await anext(results)
                assert len(taken) <= 5
                assert len([outputs async for outputs in results]) == 19
            assert [each async for each in predictor.map([])] == []
            bad = predictor.map([X, {"nope": 1}, X, X])
            await anext(bad)
            with pytest.raises(InvalidInput, match="unexpected keys"):
                await anext(bad)
            for wrong in (0, 65):
                with pytest.raises(InvalidInput, match="in_flight"):
                    await anext(predictor.map([X], in_flight=wrong))

    asyncio.run(main())


def test_map_yields_what_has_come_while_the_next_input_is_waited_for(quick: Path, place: Accelerator) -> None:
    async def main() -> None:
        has_come: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def live() -> AsyncIterator[dict[str, Any]]:
            yield X
            await has_come
            yield X

        async with AsyncEIPredictor(quick, accelerator=place) as predictor:
            results = predictor.map(live(), in_flight=4)
            await asyncio.wait_for(anext(results), BOUND_SECONDS)
            has_come.set_result(None)
            assert len([each async for each in results]) == 1

    asyncio.run(main())


def test_map_tells_what_the_source_raised_after_what_came_before(quick: Path, place: Accelerator) -> None:
    def breaks() -> Iterator[dict[str, Any]]:
        yield X
        raise RuntimeError("the camera is gone")

    async def main() -> None:
        async with AsyncEIPredictor(quick, accelerator=place) as predictor:
            results = predictor.map(breaks(), in_flight=4)
            await anext(results)
            with pytest.raises(RuntimeError, match="the camera is gone"):
                await anext(results)

    asyncio.run(main())


def test_closing_waits_without_holding_up_the_loop_and_twice_is_fine(
    tmp_path: Path, place: Accelerator
) -> None:
    model = write_model(tmp_path / "m.testing", wait_seconds=1)

    async def main() -> None:
        predictor = await AsyncEIPredictor(model, accelerator=place, warm_up=False).start()
        call = asyncio.create_task(predictor(X))
        await until_it_computes(predictor)
        closing = asyncio.create_task(predictor.close())
        for _ in range(50):  # the loop turns while the thread waits for the call
            await asyncio.sleep(0)
        assert not closing.done()
        assert "outputs" in await call
        await closing
        await predictor.close()
        with pytest.raises(PredictorClosed, match="construct another"):
            await predictor(X)

    asyncio.run(main())


def test_a_start_that_is_cancelled_leaves_no_thread_and_no_connection(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.testing", wait_seconds=60)  # its warm-up takes as long

    async def main(place: Accelerator) -> None:
        before = set(threading.enumerate())
        starting = asyncio.create_task(AsyncEIPredictor(model, accelerator=place).__aenter__())
        while not [one for one in _open_connections if one.stream.sock.fileno() != -1]:
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, BOUND_SECONDS)
        for thread in set(threading.enumerate()) - before:
            await asyncio.to_thread(thread.join, BOUND_SECONDS)
            assert not thread.is_alive() or thread.name.startswith("asyncio")

    with start_accelerator() as running:
        asyncio.run(main(Accelerator.at(running.address, token=running.token)))
        running.process.kill()


def test_an_error_of_the_model_is_raised_where_it_is_awaited(tmp_path: Path, place: Accelerator) -> None:
    model = write_model(tmp_path / "bad.testing", fail="out of luck")

    async def main() -> None:
        async with AsyncEIPredictor(model, accelerator=place, warm_up=False) as predictor:
            with pytest.raises(ModelError, match="out of luck"):
                await predictor(X)

    asyncio.run(main())
