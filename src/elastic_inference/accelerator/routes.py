"""Which request does what: the Open Inference Protocol, its repository and shared memory extensions, and ours.

Ours is what the protocol lacks: uploading files (`/v2/blobs/`), what is in force (`/v2/accelerator`), and what only
the host may do (a new token, draining).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from elastic_inference.accelerator import descriptions
from elastic_inference.accelerator.config import AcceleratorConfig
from elastic_inference.accelerator.http import Body, Request, Response
from elastic_inference.accelerator.infer import Shared
from elastic_inference.accelerator.metrics import AcceleratorCollector, render
from elastic_inference.accelerator.model_store import ModelStore
from elastic_inference.accelerator.model_table import ModelState
from elastic_inference.accelerator.session import Session, Tokens
from elastic_inference.errors import HttpError, InvalidInput, ModelNotFound

EXTENSIONS = (
    "binary_tensor_data", "system_shared_memory", "model_repository", "model_configuration", "statistics",
    "elastic_inference",
)  # fmt: skip
CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Service:
    """Answers requests; one for all connections of an accelerator."""

    def __init__(self, config: AcceleratorConfig, shared: Shared, store: ModelStore) -> None:
        self.config = config
        self.shared = shared
        self.store = store
        self.tokens = Tokens(config.token_sha256, config.admin_token_sha256)
        self.drained = threading.Event()
        self.reload_tls: Callable[[], None] = lambda: None  # the server's, as soon as it listens
        self._collector = AcceleratorCollector(shared.queue, shared.models, config.memory_limit_bytes)

    def answer(self, session: Session, request: Request, body: Body) -> Response:
        """Route one request; raises our errors, which the connection turns into responses."""
        segments = request.segments
        if segments[:3] == ("v2", "health", "live"):
            return Response()  # the one thing that needs no token: it says only that something listens
        session.check_token(request, needs_admin=segments[:2] == ("v2", "accelerator") and len(segments) > 2)
        if segments[:2] == ("v2", "models") and segments[-1:] == ("infer",):
            _needs(request, "POST")
            return session.infer.handle(request, body, _model_name(segments))
        if segments == ("metrics",):
            _needs(request, "GET")
            text = render(self._collector)
            return Response(200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}, [text])
        if not segments or segments[0] != "v2":
            raise HttpError(f"no such path: {request.path:.200}", status=404)
        return self._route(session, request, body, segments[1:])

    def _route(self, session: Session, request: Request, body: Body, rest: tuple[str, ...]) -> Response:
        match rest:
            case () | ("",):
                return self._server_metadata(request)
            case ("health", "ready"):
                return Response(200 if not self.drained.is_set() else 503)
            case ("models", "stats"):
                return Response.of_json(
                    {"model_stats": [descriptions.statistics(e) for e in self.shared.models.entries()]}
                )
            case ("models", *_):
                return self._model(request, rest)
            case ("repository", "index"):
                _needs(request, "POST")
                return Response.of_json([descriptions.index_entry(e) for e in self.shared.models.entries()])
            case ("repository", "models", name, "load"):
                _needs(request, "POST")
                return self._load(name, body)
            case ("repository", "models", name, "unload"):
                _needs(request, "POST")
                self.shared.models.unload(name)
                return Response.of_json({})
            case ("systemsharedmemory", *tail):
                return self._shared_memory(session, request, body, tuple(tail))
            case ("cudasharedmemory", *_):
                raise HttpError("CUDA shared memory is not offered", status=501)
            case ("blobs", sha256):
                return self._blob(session, request, body, sha256)
            case ("accelerator", *tail):
                return self._accelerator(request, body, tuple(tail))
        raise HttpError(f"no such path: {request.path:.200}", status=404)

    def _server_metadata(self, request: Request) -> Response:
        _needs(request, "GET")
        return Response.of_json(
            {
                "name": "elastic-inference",
                "version": version("elastic-inference"),
                "extensions": list(EXTENSIONS),
            }
        )

    def _model(self, request: Request, rest: tuple[str, ...]) -> Response:
        _needs(request, "GET")
        name, action = (
            _model_name(("v2", *rest)),
            rest[-1] if rest[-1] in ("ready", "config", "stats") else "",
        )
        if rest not in _model_paths(name, action):
            raise HttpError(f"no such path: {request.path:.200}", status=404)
        entry = self.shared.models.entry(name)
        if action == "ready":
            return Response(200 if entry.state is ModelState.READY else 503)
        if action == "stats":
            return Response.of_json({"model_stats": [descriptions.statistics(entry)]})
        entry = self.shared.models.ready(name)
        return Response.of_json(
            descriptions.config(entry) if action == "config" else descriptions.metadata(entry)
        )

    def _load(self, name: str, body: Body) -> Response:
        value = body.read_json()
        parameters = value.get("parameters", value)
        if not isinstance(parameters, dict):
            raise InvalidInput("parameters of load must be an object")
        if "package" not in parameters:
            # The protocol's own load names a model of the server's repository: here, one that is loaded already.
            if parameters:
                raise InvalidInput(
                    f"load: parameter {min(parameters)!r:.80} would change the model, and there is no repository here "
                    "to load it from; upload its files and give a package"
                )
            self.shared.models.ready(name)
            return Response.of_json({})
        return Response.of_json(descriptions.config(self.shared.models.load(name, parameters)))

    def _shared_memory(
        self, session: Session, request: Request, body: Body, rest: tuple[str, ...]
    ) -> Response:
        if not self.config.use_shared_memory:
            raise InvalidInput("shared memory is switched off on this accelerator")
        regions = self.shared.regions
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
        raise HttpError(f"no such path: {request.path:.200}", status=404)

    def _register(self, session: Session, name: str, value: dict[str, Any]) -> None:
        key, size, offset = value.get("key"), value.get("byte_size"), value.get("offset", 0)
        if not isinstance(key, str) or not isinstance(size, int) or not isinstance(offset, int):
            raise InvalidInput("register needs a key (string), a byte_size and an offset (integers)")
        is_bound = value.get("bound_to_connection") is True
        self.shared.regions.register(name, key, offset, size, session.peer_uid, is_bound)
        if is_bound:
            session.bound_regions.add(name)

    def _blob(self, session: Session, request: Request, body: Body, sha256: str) -> Response:
        if request.method in ("GET", "HEAD"):
            present, is_whole = self.store.num_bytes(sha256)
            return Response.of_json({"num_bytes": present, "is_whole": is_whole}, 200 if is_whole else 404)
        _needs(request, "PUT")
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
                return Response.of_json(self.statistics())
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
                self.drained.set()
                timeout = body.read_json().get("timeout_seconds", 30)
                if not isinstance(timeout, int | float) or not 0 <= timeout <= 3600:
                    raise InvalidInput(f"timeout_seconds must be 0 to 3600, not {timeout!r:.80}")
                return Response.of_json({"is_drained": self.shared.queue.drain(timeout)})
        raise HttpError(f"no such path: {request.path:.200}", status=404)

    def _change_token(self, value: dict[str, Any]) -> None:
        digest, generation = value.get("token_sha256"), value.get("generation")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise InvalidInput("token_sha256 must be a SHA-256 in 64 hexadecimal digits")
        if generation is not None and not isinstance(generation, int):
            raise InvalidInput(f"generation must be an integer, not {generation!r:.80}")
        self.tokens.change(digest, generation)

    def statistics(self) -> dict[str, Any]:
        """Return what is in force here and what was done, as `GET /v2/accelerator` answers it."""
        return {
            "accelerator_id": self.config.accelerator_id,
            "accelerator_type": self.config.accelerator_type,
            "device": self.config.device,
            "limits": self.config.limits or {},
            "memory_limit_bytes": self.config.memory_limit_bytes,
            "queue": asdict(self.shared.queue.statistics()),
            "models": [descriptions.summary(entry) for entry in self.shared.models.entries()],
        }


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
        raise HttpError(f"{request.path:.200} takes {method}, not {request.method}", status=405)


def _model_name(segments: tuple[str, ...]) -> str:
    """Return the name in `/v2/models/NAME[/versions/1][/ACTION]`; there is one version of each, "1"."""
    if len(segments) >= 5 and segments[3] == "versions" and segments[4] not in ("1", ""):
        raise ModelNotFound(f"model {segments[2]!r} has version 1 only, not {segments[4]!r:.80}")
    return segments[2] if len(segments) > 2 else ""


def _model_paths(name: str, action: str) -> list[tuple[str, ...]]:
    tail = (action,) if action else ()
    return [("models", name, *tail), ("models", name, "versions", "1", *tail)]
