"""AsyncEIPredictor: EIPredictor for programs on asyncio. What a call is stands in `predictor`, once, for both."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from elastic_inference.client.prediction import Outputs, Prediction
from elastic_inference.client.predictor import EIPredictor, check_in_flight
from elastic_inference.client.remote import LOAD_SECONDS
from elastic_inference.client.report import CallTiming, PredictorReport
from elastic_inference.deadline import Cancellation, Deadline
from elastic_inference.errors import InvalidInput, PredictorClosed

P = ParamSpec("P")
T = TypeVar("T")
_Init = Callable[..., None]


def _with_arguments_of(_: Callable[P, EIPredictor]) -> Callable[[_Init], Callable[Concatenate[Any, P], None]]:
    """Let a constructor that hands all on show, to people and to type checkers, the arguments that it takes."""

    def decorate(init: _Init) -> Callable[Concatenate[Any, P], None]:
        init.__signature__ = inspect.signature(EIPredictor.__init__)  # type: ignore[attr-defined]
        return init

    return decorate


class _Unopened(EIPredictor):
    """Checks its arguments when it is made, and loads the model when it is told to."""

    def _open(self, deadline: Deadline) -> None:
        """Not yet."""

    def open(self, deadline: Deadline) -> None:
        """Load the model."""
        super()._open(deadline)


class AsyncEIPredictor:
    """`await predictor(inputs)` gives what EIPredictor gives, and nothing here blocks the event loop.

    Each call runs on a thread of the predictor, 64 at most. Threads, because the protocol with its retries, shared
    memory and time-outs then exists once; sending, receiving and computing release the interpreter, so the loop goes
    on. The way to the thread and back costs 55 us a call, which took 57 us (1 KB over a Unix socket, busy machine).

    Use it by `async with`, or by `await start()` and `await close()`. A call before either loads the model first. A
    call that is cancelled ends at once: its connection is closed, which gives the thread back; the accelerator may
    finish what it computes.

    The arguments, their defaults and what they raise are those of EIPredictor. They are checked when it is made; what
    is wrong with the model or the accelerator shows when it starts.
    """

    @_with_arguments_of(EIPredictor)
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._predictor = _Unopened(*arguments, **options)
        self._loading: Future[None] | None = None
        self._lock = threading.Lock()
        self._load_cancellation = Cancellation()
        self._has_loaded = False

    async def start(self) -> AsyncEIPredictor:
        """Load the model, on a thread; several callers wait for one load, which goes on when one is cancelled.

        Raises:
            ElasticInferenceError: As EIPredictor raises. It is raised again by each later call.
        """
        if not self._has_loaded:
            await _outcome(self._load())
            self._has_loaded = True
        return self

    def _load(self) -> Future[None]:
        with self._lock:
            if self._loading is None:
                deadline = Deadline(LOAD_SECONDS, self._load_cancellation)
                self._loading = self._predictor.run(self._predictor.open, deadline)
            return self._loading

    async def __call__(self, inputs: Mapping[str, Any]) -> Outputs:
        """Run the model once; see `EIPredictor.__call__`. The arrays must stay unchanged until it returns."""
        return (await self._predict(inputs)).outputs

    async def predict_timed(self, inputs: Mapping[str, Any]) -> tuple[Outputs, CallTiming]:
        """Return the same as a call, and where its time went."""
        start = time.perf_counter()
        prediction = await self._predict(inputs)
        return prediction.outputs, prediction.timing(time.perf_counter() - start)

    async def _predict(self, inputs: Mapping[str, Any]) -> Prediction:
        await self.start()
        cancellation = Cancellation()
        deadline = Deadline(self._predictor.timeout_seconds, cancellation)
        call = self._predictor.run(self._predictor.predict_until, inputs, deadline)
        try:
            return await _outcome(call)
        except asyncio.CancelledError:
            call.cancel()  # where it waits for a thread
            cancellation.cancel()
            raise

    async def map(
        self, inputs: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]], in_flight: int = 2
    ) -> AsyncIterator[Outputs]:
        """Yield the outputs of each input in order, while the next requests are already on their way.

        Args:
            inputs: Read as results are taken, never more than `in_flight` ahead. The next of what is not asynchronous
                is asked for on the event loop, so it should come at once.
            in_flight: Requests at once, 1 to 64.
        """
        check_in_flight(in_flight)
        source = inputs if isinstance(inputs, AsyncIterable) else _each(inputs)
        free = asyncio.Semaphore(in_flight)
        calls: asyncio.Queue[asyncio.Task[Outputs] | None] = asyncio.Queue()
        # A task of its own, so that a result is yielded while the next input is still waited for.
        feeder = asyncio.create_task(self._feed(aiter(source), free, calls))
        call: asyncio.Task[Outputs] | None = None
        try:
            while (call := await calls.get()) is not None:
                outputs = await call
                free.release()
                yield outputs
            await feeder  # which raises what the source raised
        finally:
            feeder.cancel()
            left: list[asyncio.Task[Outputs] | None] = [call]
            while not calls.empty():
                left.append(calls.get_nowait())
            ours = [each for each in left if each is not None]
            for each in ours:
                each.cancel()
            await asyncio.gather(feeder, *ours, return_exceptions=True)

    async def _feed(
        self,
        source: AsyncIterator[Mapping[str, Any]],
        free: asyncio.Semaphore,
        calls: asyncio.Queue[asyncio.Task[Outputs] | None],
    ) -> None:
        try:
            while True:
                await free.acquire()
                calls.put_nowait(asyncio.create_task(self(await anext(source))))
        except StopAsyncIteration:
            pass
        finally:
            calls.put_nowait(None)

    @property
    def report(self) -> PredictorReport:
        """What is in force; InvalidInput before the model is loaded."""
        return self._loaded().report

    async def report_now(self) -> PredictorReport:
        """Return what is in force now; see `EIPredictor.report_now`."""
        await self.start()
        return await _outcome(self._predictor.run(self._predictor.report_now))

    @property
    def feed_tensors(self) -> dict[str, Any]:
        """The input tensors by alias; InvalidInput before the model is loaded."""
        return self._loaded().feed_tensors

    @property
    def fetch_tensors(self) -> dict[str, Any]:
        """The output tensors by alias; InvalidInput before the model is loaded."""
        return self._loaded().fetch_tensors

    def _loaded(self) -> EIPredictor:
        if not self._has_loaded:
            raise InvalidInput("the model is not loaded yet: use `async with`, or `await start()`")
        return self._predictor

    async def close(self) -> None:
        """End what this predictor started, on a thread: the loop goes on meanwhile. Twice is fine.

        Calls that are running are waited for, as `EIPredictor.close` does; a load is broken off.
        """
        await _outcome(self._end())

    def _end(self) -> Future[None]:
        self._load_cancellation.cancel()
        # Of its own: the predictor's threads are what it waits for, and the loop's may all be busy with other things.
        executor = ThreadPoolExecutor(1, "elastic-inference-close")
        ended = executor.submit(self._predictor.close)
        executor.shutdown(wait=False)
        return ended

    async def __aenter__(self) -> AsyncEIPredictor:
        try:
            return await self.start()
        except BaseException:
            self._end()  # not waited for: who was cancelled wants to go on
            raise

    async def __aexit__(
        self, cls: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __reduce__(self) -> NoReturn:
        self._predictor.__reduce__()

    def __repr__(self) -> str:
        return f"Async{self._predictor!r}" if self._has_loaded else "AsyncEIPredictor(not loaded)"


async def _outcome(call: Future[T]) -> T:
    """Return what a call on a thread gives. Whoever is cancelled here leaves the call as it is."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not told.done():
            told.set_result(None)

    def wake(_: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(tell)

    call.add_done_callback(wake)
    await told
    if call.cancelled():  # never begun, by `close`; a CancelledError would say that the caller's task was
        raise PredictorClosed("the predictor was closed before this call")
    return call.result()


async def _each(inputs: Iterable[T]) -> AsyncIterator[T]:
    for value in inputs:
        yield value
