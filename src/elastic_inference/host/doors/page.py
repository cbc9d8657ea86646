"""The page at `/`: its files, signing in and out, and the stream that keeps it up to date.

A browser signs in with a token and gets a cookie that scripts cannot read. What the page changes goes through the
control API; see `callers` for what keeps other sites from doing the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import parse_qs

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from elastic_inference.errors import PermissionDenied
from elastic_inference.host.doors.callers import Callers, is_same_origin
from elastic_inference.host.doors.feed import EventStream, Feed
from elastic_inference.host.doors.sessions import SESSION_SECONDS, Sessions
from elastic_inference.host.tokens import hash_token

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_MAX_TOKEN_LENGTH = 1000


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: dict[str, str]

    @property
    def tag(self) -> str:
        return self.headers["ETag"]


def add_page(app: FastAPI, callers: Callers, sessions: Sessions, feed: Feed, is_over_tls: bool) -> None:
    """Add the page; none of it is part of the API's document.

    Args:
        is_over_tls: Whether browsers are to send the cookie over TLS alone.
    """
    kept = _read_files()
    page, login = kept.pop("page.html"), kept.pop("login.html")

    @app.get("/", include_in_schema=False)
    async def show(request: Request) -> Response:
        return _answer(login if callers.of_session(request.headers) is None else page, request)

    @app.get("/page/{name}", include_in_schema=False)
    async def asset(name: str, request: Request) -> Response:
        file = kept.get(name)
        return Response(status_code=404) if file is None else _answer(file, request)

    @app.post("/page/sign-in", include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        given = parse_qs((await request.body()).decode(errors="replace"), max_num_fields=4).get("token", [""])
        token = given[0].strip()[:_MAX_TOKEN_LENGTH]
        if not is_same_origin(request.headers) or callers.of_token(token) is None:
            text = login.content.replace(b'id="refused" hidden', b'id="refused"')
            return Response(text, 401, {**login.headers, "Cache-Control": "no-store"})
        answer = RedirectResponse("/", 303, _HEADERS)
        answer.set_cookie(
            sessions.cookie_name,
            sessions.open(hash_token(token)),
            max_age=round(SESSION_SECONDS),
            httponly=True,
            samesite="strict",
            secure=is_over_tls,
        )
        return answer

    @app.post("/page/sign-out", include_in_schema=False)
    async def sign_out(request: Request) -> Response:
        answer = RedirectResponse("/", 303, _HEADERS)
        if is_same_origin(request.headers):
            sessions.close(request.headers.get("Cookie", ""))
            answer.delete_cookie(sessions.cookie_name, httponly=True, samesite="strict", secure=is_over_tls)
        return answer

    @app.get("/page/stream/events", include_in_schema=False)
    async def stream(request: Request) -> Response:
        headers = request.headers
        if callers.of_request("GET", headers) is None:
            raise PermissionDenied("the session is over; sign in again")
        return EventStream(feed.listen(lambda: callers.of_request("GET", headers)))


def _read_files() -> dict[str, _File]:
    package = files("elastic_inference")
    paths = [package / "data" / "style.css", *(package / "host" / "page").iterdir()]
    return {path.name: _file(path.name, path.read_bytes()) for path in paths if path.name[0] not in "._"}


def _file(name: str, content: bytes) -> _File:
    tag = hashlib.sha256(content).hexdigest()[:24]
    kind = _TYPES[name.rpartition(".")[2]]
    headers = {
        "Content-Type": f"{kind}; charset=utf-8",
        "ETag": f'"{tag}"',
        "Cache-Control": "no-cache",
        **_HEADERS,
    }
    return _File(content, headers)


def _answer(file: _File, request: Request) -> Response:
    if request.headers.get("If-None-Match") == file.tag:
        return Response(status_code=304, headers={"ETag": file.tag, **_HEADERS})
    return Response(file.content, headers=file.headers)
