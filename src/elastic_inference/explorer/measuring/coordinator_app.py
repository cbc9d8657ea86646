"""What the coordinator answers over HTTP. Every path wants the token, and nothing larger than an outcome is read.

`GET /work?client=NAME` waits a while and answers 200 with a task and its number, 204 for none yet, 410 when all is
over; `GET /model` lists the model's files, `GET /files/SHA256` gives one; `GET /input` gives the input file where
there is one; `POST /outcome?client=NAME&number=N` takes what was measured.

Everything runs in the event loop, and what waits in the loop's own executor, which ends with it: what FastAPI would run
in threads of its own may outlive the server.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from elastic_inference.errors import InvalidInput
from elastic_inference.explorer.measuring.assignments import Assignments
from elastic_inference.explorer.measuring.task import Outcome
from elastic_inference.models.package import ModelPackage

MAX_OUTCOME_BYTES = 16 << 20
_BODY_SECONDS = 60.0
_BLOCK_BYTES = 1 << 20


def make_app(
    assignments: Assignments, package: ModelPackage, input_path: Callable[[], Path | None], token: str
) -> FastAPI:
    """Return the application; `input_path` says which input file the current task wants, if any."""

    async def check_token(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    async def known_client(client: str) -> str:
        if not assignments.has_client(client):
            raise HTTPException(404, f"the exploration does not name a client {client!r:.80}")
        return client

    # No pages of documentation: they would be there without the token.
    app = FastAPI(dependencies=[Depends(check_token)], openapi_url=None)
    _answer_errors_in_our_form(app)
    known: str = Depends(known_client)

    @app.get("/work")
    async def work(name: str = known) -> Response:
        assignment = await asyncio.to_thread(assignments.next, name)
        if assignment is not None:
            return JSONResponse(assignment.to_json())
        if not assignments.is_over:
            return Response(status_code=204)

        async def dismiss() -> None:
            assignments.dismiss(name)

        # Only once the answer is out does the client know.
        over = {"error": "the exploration is over"}
        return JSONResponse(over, 410, background=BackgroundTask(dismiss))

    @app.get("/model")
    async def model() -> dict[str, Any]:
        files = [asdict(file) for file in package.files]
        return {"files": files, "main": package.main_path.name, "format": package.format.value}

    @app.get("/files/{sha256}")
    async def model_file(sha256: str) -> Response:
        found = next((file for file in package.files if file.sha256 == sha256), None)
        return _file(None if found is None else package.root / found.path)

    @app.get("/input")
    async def input_file() -> Response:
        return _file(input_path())

    @app.post("/outcome")
    async def outcome(number: int, request: Request, name: str = known) -> dict[str, Any]:
        body = await _read(request)
        try:
            assignments.finish(name, number, Outcome.from_json(json.loads(body)))
        except (ValueError, RecursionError) as error:  # InvalidInput is a ValueError too
            raise HTTPException(400, f"not the outcome of a measurement: {error}") from error
        return {}

    return app


def _file(path: Path | None) -> Response:
    if path is None:
        raise HTTPException(404, "no such file")
    return StreamingResponse(_blocks(path), media_type="application/octet-stream")


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(file.read, _BLOCK_BYTES):
            yield block


async def _read(request: Request) -> bytes:
    """Return the body; it is refused as soon as it is larger than an outcome can be, or when it does not come."""

    async def read() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_OUTCOME_BYTES:
                raise HTTPException(413, f"the outcome exceeds the limit of {MAX_OUTCOME_BYTES} bytes")
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), _BODY_SECONDS)
    except asyncio.TimeoutError as error:
        raise HTTPException(408, f"the outcome did not arrive within {_BODY_SECONDS:g} s") from error


def _answer_errors_in_our_form(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:  # noqa: ARG001
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001
        text = "; ".join(f"{'.'.join(map(str, p['loc'][1:]))}: {p['msg']}" for p in error.errors())
        return JSONResponse({"error": text}, 400)

    @app.exception_handler(InvalidInput)
    async def unreadable(request: Request, error: InvalidInput) -> JSONResponse:  # noqa: ARG001
        return JSONResponse({"error": str(error)}, 400)
