"""Sends each new snapshot to whoever listens: once made into text, then only what changed. Server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from elastic_inference.errors import ComputeQuotaExceeded
from elastic_inference.host.board import Snapshot
from elastic_inference.host.control import ControlApi
from elastic_inference.host.doors.callers import Caller
from elastic_inference.host.doors.middleware import Receive, Scope, Send
from elastic_inference.host.doors.views import BoardViews

MAX_OF_ONE_CALLER = 64
"""Listeners of one token: so one tenant does not take the place of all others."""

_SILENCE_SECONDS = 5.0  # without a snapshot, after which a comment says that the connection lives
_KEPT_VERSIONS = 30  # for which is known what has gone since; whoever was slower gets everything anew


@dataclass(frozen=True)
class _Texts:
    """A snapshot as text.

    Attributes:
        rows: By accelerator: since which version it is so, its JSON, and whose it is.
        gone: Which accelerators went in which version, and whose they were, oldest first.
    """

    version: int = 0
    snapshot: Snapshot = field(default_factory=Snapshot)
    rows: Mapping[str, tuple[int, str, str]] = field(default_factory=dict)
    gone: tuple[tuple[int, str, str], ...] = ()


@dataclass(frozen=True)
class Sent:
    """How far one listener is."""

    version: int
    event_number: int


class Feed:
    """All listeners of a host.

    Args:
        max_listeners: In all; the rest of the connections is for requests.
    """

    def __init__(self, host: ControlApi, max_listeners: int) -> None:
        self._board = host.service.board
        self._views = BoardViews(host)
        self._max_listeners = max_listeners
        self._num_by_caller: dict[str, int] = {}
        self._texts = _Texts()
        self._gone: deque[tuple[int, str, str]] = deque()
        self._operator_frame: tuple[tuple[Sent | None, int], bytes] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._is_closed = False
        self._lock = threading.Lock()
        self._board.listen(self.publish)

    @property
    def num_listeners(self) -> int:
        """How many listen now."""
        return sum(self._num_by_caller.values())

    def publish(self, snapshot: Snapshot) -> None:
        """Take a new snapshot; any thread. Without listeners nothing is made of it."""
        if self._loop is None or not self.num_listeners:
            return
        self._take(snapshot)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """End all streams; called in the loop."""
        self._is_closed = True
        self._wake()

    async def listen(self, find_caller: Callable[[], Caller | None]) -> AsyncGenerator[bytes, None]:
        """Give frames of `text/event-stream` until the caller's token is no longer in force, or the host ends.

        Args:
            find_caller: Says who listens, asked anew for each frame: a token may be changed, an accelerator detached.

        Raises:
            ComputeQuotaExceeded: Too many listen already.
        """
        caller = find_caller()
        key = "" if caller is None else caller.name
        self._enter(key)
        try:
            sent: Sent | None = None
            while caller is not None and not self._is_closed:
                changed = self._changed
                frame, sent = self._frame(caller, sent)
                yield frame
                while not changed.is_set() and not self._is_closed:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(changed.wait(), _SILENCE_SECONDS)
                        break
                    yield b": nothing new\n\n"
                caller = find_caller()
            if caller is None:
                yield b"event: over\ndata: {}\n\n"
        finally:
            self._leave(key)

    def _enter(self, key: str) -> None:
        mine = self._num_by_caller.get(key, 0)
        if mine >= MAX_OF_ONE_CALLER or self.num_listeners >= self._max_listeners:
            raise ComputeQuotaExceeded(
                f"{self.num_listeners} browsers show this host already, {mine} of them with this token (limits "
                f"{self._max_listeners} and {MAX_OF_ONE_CALLER}); close one of them"
            )
        self._loop = asyncio.get_running_loop()
        is_first = not self.num_listeners
        self._num_by_caller[key] = mine + 1
        if is_first:
            self._take(self._board.snapshot)

    def _leave(self, key: str) -> None:
        self._num_by_caller[key] -= 1
        if not self._num_by_caller[key]:
            del self._num_by_caller[key]

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _take(self, snapshot: Snapshot) -> None:
        with self._lock:
            before = self._texts
            if snapshot is before.snapshot:
                return
            version = before.version + 1
            rows: dict[str, tuple[int, str, str]] = {}
            for row in snapshot.rows:
                accelerator_id, text = row["accelerator_id"], _json(row)
                earlier = before.rows.get(accelerator_id)
                rows[accelerator_id] = (
                    earlier if earlier is not None and earlier[1] == text else (version, text, row["tenant"])
                )
            self._gone.extend(
                (version, each, whose) for each, (_, _, whose) in before.rows.items() if each not in rows
            )
            while self._gone and self._gone[0][0] <= version - _KEPT_VERSIONS:
                self._gone.popleft()
            self._texts = _Texts(version, snapshot, rows, tuple(self._gone))

    def _frame(self, caller: Caller, sent: Sent | None) -> tuple[bytes, Sent]:
        texts, last_event = self._texts, self._board.events.last_number
        if sent is not None and sent.version <= texts.version - _KEPT_VERSIONS:
            sent = None
        key = (sent, texts.version)
        after = Sent(texts.version, last_event)
        if caller.is_operator and self._operator_frame is not None and self._operator_frame[0] == key:
            return self._operator_frame[1], after
        frame = self._make_frame(caller, texts, sent, last_event)
        if caller.is_operator:  # most listeners are as far as each other
            self._operator_frame = key, frame
        return frame, after

    def _make_frame(self, caller: Caller, texts: _Texts, sent: Sent | None, last_event: int) -> bytes:
        since = -1 if sent is None else sent.version
        head = {
            "at": texts.snapshot.at,
            "is_whole": sent is None,
            "host": self._views.host(caller, texts.snapshot),
            "devices": self._views.devices(caller, texts.snapshot),
            "events": self._views.events(caller, 0 if sent is None else sent.event_number, last_event),
            "tenants": self._views.tenants(caller, texts.snapshot),
            "waiting": self._views.waiting(caller, texts.snapshot),
            "gone": [
                each for version, each, whose in texts.gone if version > since and caller.may_see(each, whose)
            ],
        }
        rows = ",".join(self._rows(caller, texts, since))
        return f'event: state\ndata: {_json(head)[:-1]},"accelerators":[{rows}]}}\n\n'.encode()

    def _rows(self, caller: Caller, texts: _Texts, since: int) -> list[str]:
        if caller.is_operator:
            return [text for version, text, _ in texts.rows.values() if version > since]
        return [
            _json(self._views.row(caller, row))
            for row in texts.snapshot.rows
            if caller.may_see(row["accelerator_id"], row["tenant"])
            and texts.rows[row["accelerator_id"]][0] > since
        ]


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


class EventStream(Response):
    """An answer that goes on until its source or its reader ends."""

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        self._frames = frames
        self.status_code = 200
        self.background = None
        self.body = b""
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send frames while the reader is there; what the first one raises is answered as an error."""
        async with contextlib.aclosing(self._frames) as frames:
            first = await anext(frames)
            sending = asyncio.ensure_future(self._send(first, frames, send))
            leaving = asyncio.ensure_future(_wait_until_gone(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, leaving):
                    task.cancel()
                await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, first: bytes, frames: AsyncIterator[bytes], send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for frame in frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
