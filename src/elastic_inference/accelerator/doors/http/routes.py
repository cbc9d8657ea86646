"""Which request does what: the Open Inference Protocol, its repository and shared memory extensions, and ours.

Ours is what the protocol lacks: uploading files (`/v2/blobs/`), what is in force (`/v2/accelerator`), and what only
the host may do (a new token, draining).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from elastic_inference.accelerator.doors.http.body import Body
from elastic_inference.accelerator.doors.http.messages import Request, Response
from elastic_inference.accelerator.doors.http.session import Session
from elastic_inference.accelerator.inference import Inference
from elastic_inference.accelerator.metrics import AcceleratorCollector, render
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.reply import Call, Door
from elastic_inference.accelerator.switches import Switches
from elastic_inference.errors import HttpError, InvalidInput
from elastic_inference.protocol.doors import DOORS

DOOR = "http"
CHUNK_BYTES = 1 << 20
_MODELS, _INFER = ("v2", "models"), ("infer",)
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Service:
    """Answers requests; one for all connections of an accelerator.

    Args:
        others: Doors that translate other interfaces over HTTP, by their names and the first segments of their paths.
    """

    def __init__(
        self, inference: Inference, store: ModelStore, others: Mapping[str, Mapping[str, Door]] | None = None
    ) -> None:
        self.inference = inference
        self._all_others = others or {}
        self._others = _by_segment(self._all_others, DOORS)
        self._is_open = True
        self.store = store
        self.reload_tls: Callable[[], None] = lambda: None  # the server's, as soon as it listens
        shared = inference.shared
        self._collector = AcceleratorCollector(
            shared.queue, shared.models, inference.config.memory_limit_bytes
        )

    def opening(self, doors: Sequence[str]) -> Service:
        """Return what answers where these doors alone are open; paths of the others are not there."""
        found = copy.copy(self)
        found._is_open = DOOR in doors
        found._others = _by_segment(self._all_others, doors)
        return found

    def answer(self, session: Session, request: Request, body: Body) -> Response:
        """Route one request; raises our errors, which the connection turns into responses."""
        segments = request.segments
        is_open = self._is_open
        # First, because it is the hot path.
        if is_open and segments[-1:] == _INFER and segments[:2] == _MODELS:
            session.check_token(request, needs_admin=False)
            _needs(request, "POST")
            name, version = (segments[2], "") if len(segments) == 4 else _model_of(segments[2:-1], request)
            return session.infer.handle(request, body, name, version)
        if is_open and segments[:2] == ("v2", "health"):
            return self._health(
                request, segments[2:]
            )  # without a token: it says only whether something works
        door = self._others.get(segments[0]) if segments else None
        if door is None or door.needs_token:
            needs_admin = segments[:2] == ("v2", "accelerator") and len(segments) > 2
            session.check_token(request, needs_admin=needs_admin)
        if is_open and segments == ("metrics",):
            _needs(request, "GET")
            text = render(self._collector)
            return Response(200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}, [text])
        if not is_open or segments[:1] != ("v2",):
            return self._other(door, request, body)
        return self._route(session, request, body, segments[1:])

    def _other(self, door: Door | None, request: Request, body: Body) -> Response:
        if door is None:
            raise _no_such_path(request)
        limit = self.inference.shared.body_limit_bytes
        call = Call(request.method, request.segments, request.headers, lambda: body.read(limit))
        reply = door.answer(call)
        return Response(reply.status, {"Content-Type": reply.content_type}, [reply.body])

    def _health(self, request: Request, rest: tuple[str, ...]) -> Response:
        if rest == ("live",):
            return Response.of_json({"live": True})
        if rest == ("ready",):
            is_ready = self.inference.is_ready()
            return Response.of_json({"ready": is_ready}, 200 if is_ready else 503)
        raise _no_such_path(request)

    def _route(self, session: Session, request: Request, body: Body, rest: tuple[str, ...]) -> Response:
        match rest:
            case ():
                _needs(request, "GET")
                return Response.of_json(self.inference.server_metadata())
            case ("models", "stats"):
                _needs(request, "GET")
                return Response.of_json({"model_stats": self.inference.statistics()})
            case ("models", *tail):
                return self._model(request, tuple(tail))
            case ("repository", *tail):
                _needs(request, "POST")
                return self._repository(body, request, tuple(tail))
            case ("systemsharedmemory", *tail):
                return self._shared_memory(session, request, body, tuple(tail))
            case ("cudasharedmemory", *tail):
                return _cuda_shared_memory(request, tuple(tail))
            case ("trace", "setting"):
                return Response.of_json(self._switches(request, body, self.inference.trace))
            case ("logging",):
                return Response.of_json(self._switches(request, body, self.inference.logs))
            case ("blobs", sha256):
                return self._blob(session, request, body, sha256)
            case ("accelerator", *tail):
                return self._accelerator(request, body, tuple(tail))
        raise _no_such_path(request)

    def _model(self, request: Request, rest: tuple[str, ...]) -> Response:
        inference = self.inference
        if rest[-2:] == ("trace", "setting"):
            raise HttpError("trace settings are of the whole accelerator, not of a model", status=501)
        _needs(request, "GET")
        action = rest[-1] if len(rest) > 1 and rest[-1] in ("ready", "config", "stats") else ""
        name, version = _model_of(rest[:-1] if action else rest, request)
        match action:
            case "ready":
                is_ready = inference.is_model_ready(name, version)
                return Response.of_json({"name": name, "ready": is_ready}, 200 if is_ready else 503)
            case "stats":
                return Response.of_json({"model_stats": inference.statistics(name, version)})
            case "config":
                return Response.of_json(inference.model_config(name, version))
        return Response.of_json(inference.metadata(name, version))

    def _repository(self, body: Body, request: Request, rest: tuple[str, ...]) -> Response:
        match rest:
            case ("index",):
                only_ready = body.read_json().get("ready", False)
                if not isinstance(only_ready, bool):
                    raise InvalidInput(f"ready must be true or false, not {only_ready!r:.80}")
                return Response.of_json(self.inference.index(only_ready))
            case ("models", name, "load"):
                value = body.read_json(self.inference.shared.body_limit_bytes)  # it may bring its files
                parameters = value.get("parameters", value)
                if not isinstance(parameters, dict):
                    raise InvalidInput("parameters of load must be an object")
                return Response.of_json(self.inference.load(name, parameters))
            case ("models", name, "alias"):
                self.inference.alias(name, body.read_json().get("of"))
                return Response.of_json({})
            case ("models", name, "unload"):
                self.inference.unload(name)
                return Response.of_json({})
        raise _no_such_path(request)

    @staticmethod
    def _switches(request: Request, body: Body, switches: Switches) -> dict[str, Any]:
        if request.method == "POST":
            switches.change(body.read_json())
        else:
            _needs(request, "GET")
        return switches.values()

    def _shared_memory(
        self, session: Session, request: Request, body: Body, rest: tuple[str, ...]
    ) -> Response:
        self.inference.check_shared_memory()
        regions = self.inference.shared.regions
        match rest:
            case ("status",):
                return Response.of_json([asdict(s) for s in regions.statuses()])
            case ("region", name, "status"):
                return Response.of_json([asdict(s) for s in regions.statuses(name)])
            case ("region", name, "register"):
                _needs(request, "POST")
                self._register(session, name, body.read_json())
                return Response.of_json({})
            case ("region", name, "unregister"):
                _needs(request, "POST")
                regions.unregister(name)
                session.bound_regions.discard(name)
                return Response.of_json({})
            case ("unregister",):
                _needs(request, "POST")
                regions.unregister_all()
                return Response.of_json({})
        raise _no_such_path(request)

    def _register(self, session: Session, name: str, value: dict[str, Any]) -> None:
        is_bound = value.get("bound_to_connection") is True
        key, offset, size = value.get("key"), value.get("offset", 0), value.get("byte_size")
        self.inference.register_region(name, key, offset, size, session.peer_uid, is_bound)
        if is_bound:
            session.bound_regions.add(name)

    def _blob(self, session: Session, request: Request, body: Body, sha256: str) -> Response:
        if request.method in ("GET", "HEAD"):
            present, is_whole = self.store.num_bytes(sha256)
            return Response.of_json({"num_bytes": present, "is_whole": is_whole}, 200 if is_whole else 404)
        _needs(request, "PUT")
        body.open(self.inference.shared.body_limit_bytes)
        length = body.remaining
        first, total = _content_range(request.header(b"content-range"), length)

        def chunks(wanted: int) -> memoryview:
            view = session.buffer.take(CHUNK_BYTES)[: min(wanted, CHUNK_BYTES)]
            body.read_into(view)
            return view

        present, is_whole = self.store.append(sha256, first, total, chunks, length)
        return Response.of_json({"num_bytes": present, "is_whole": is_whole}, 201 if is_whole else 200)

    def _accelerator(self, request: Request, body: Body, rest: tuple[str, ...]) -> Response:
        match rest:
            case ():
                _needs(request, "GET")
                return Response.of_json(self.inference.report())
            case ("token",):
                _needs(request, "PUT")
                self._change_token(body.read_json())
                return Response.of_json({})
            case ("tls",):
                _needs(request, "POST")
                self.reload_tls()
                return Response.of_json({})
            case ("drain",):
                _needs(request, "POST")
                self.inference.drained.set()
                timeout = body.read_json().get("timeout_seconds", 30)
                if not isinstance(timeout, int | float) or not 0 <= timeout <= 3600:
                    raise InvalidInput(f"timeout_seconds must be 0 to 3600, not {timeout!r:.80}")
                return Response.of_json({"is_drained": self.inference.shared.queue.drain(timeout)})
        raise _no_such_path(request)

    def _change_token(self, value: dict[str, Any]) -> None:
        digest, generation = value.get("token_sha256"), value.get("generation")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise InvalidInput("token_sha256 must be a SHA-256 in 64 hexadecimal digits")
        if generation is not None and not isinstance(generation, int):
            raise InvalidInput(f"generation must be an integer, not {generation!r:.80}")
        self.inference.tokens.change(digest, generation)


def _by_segment(others: Mapping[str, Mapping[str, Door]], doors: Sequence[str]) -> dict[str, Door]:
    return {segment: door for name, own in others.items() if name in doors for segment, door in own.items()}


def _content_range(header: str | None, length: int) -> tuple[int, int]:
    """First byte and total of an upload of `length` bytes; without the header they are the whole."""
    if header is None:
        return 0, length
    match = _RANGE.fullmatch(header)
    if match is None or int(match[2]) - int(match[1]) + 1 != length:
        raise HttpError(
            "Content-Range must be 'bytes FIRST-LAST/TOTAL' and agree with Content-Length", status=416
        )
    return int(match[1]), int(match[3])


def _needs(request: Request, method: str) -> None:
    if request.method != method:
        raise HttpError(f"{request.path:.200} takes {method}, not {request.method}", status=405, allow=method)


def _no_such_path(request: Request) -> HttpError:
    return HttpError(f"no such path: {request.path:.200}", status=404)


def _model_of(rest: tuple[str, ...], request: Request) -> tuple[str, str]:
    """Return name and version of `NAME[/versions/VERSION]`, "" for the newest."""
    match rest:
        case (name,):
            return name, ""
        case (name, "versions", version):
            return name, version
    raise _no_such_path(request)


def _cuda_shared_memory(request: Request, rest: tuple[str, ...]) -> Response:
    """Answer as a server does with which no region is registered: clients tidy up without asking what there is."""
    match rest:
        case ("status",):
            return Response.of_json([])
        case ("unregister",) | ("region", _, "unregister"):
            _needs(request, "POST")
            return Response.of_json({})
        case ("region", name, "status"):
            raise InvalidInput(f"unable to find CUDA shared memory region {name!r:.80}")
        case ("region", _, "register"):
            raise InvalidInput(
                "CUDA shared memory is not offered; use system shared memory, or send the tensors"
            )
    raise _no_such_path(request)
