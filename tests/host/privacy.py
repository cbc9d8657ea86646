"""Sends every path of a control API with one tenant's token, and looks for anything of another in the answers."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any

from fastapi import FastAPI

UNKNOWN = {"accelerator_id": "eia-" + "0" * 32, "name": "no-tenant"}

# What a tenant may send to each path that takes a body, so that it gets beyond the check of the body. A path that is
# not here fails the test: whoever adds one says it.
BODIES: dict[str, list[Any]] = {
    "POST /v1/accelerators": [
        {"type": "small"}, {"type": "small", "tenant": "other-tenant"}, {"type": "small", "name": "other-name"},
    ],
    "PATCH /v1/accelerators/{accelerator_id}": [{"type": "bursty"}],
    "POST /v1/accelerators/{accelerator_id}/heartbeat": [None],
    "POST /v1/accelerators/{accelerator_id}/token": [None],
    "DELETE /v1/accelerators/{accelerator_id}": [None],
    "DELETE /v1/accelerators/waiting/{ticket}": [None],
    "POST /v1/host/drain": [{"is_draining": True}],
    "POST /v1/host/stop": [{}],
    "POST /v1/host/token": [None],
    "POST /v1/tenants": [{"name": "third"}],
    "PUT /v1/tenants/{name}": [{}],
    "DELETE /v1/tenants/{name}": [None],
    "POST /v1/tenants/{name}/tokens": [{}],
    "DELETE /v1/tenants/{name}/tokens/{token_id}": [None],
    "POST /page/sign-in": [None],
    "POST /page/sign-out": [None],
    "POST /v1/pool/hosts": [
        {"host_id": "0", "node_id": "", "url": "http://127.0.0.1:1", "token": "x", "offer": {}}
    ],
    "POST /v1/pool/hosts/{host_id}/report": [{"epoch": 1}],
    "POST /v1/pool/hosts/{host_id}/leave": [{"epoch": 1}],
    "POST /v1/pool/hosts/{host_id}/drain": [{"is_draining": True}],
    "POST /v1/pool/hosts/{host_id}/renew": [None],
    "POST /v1/pool/renew": [None],
}  # fmt: skip
QUERIES = {"GET /v1/usage/sums": ["by=type", "by=day", "by=tenant", "by=model"]}
ENDLESS = {"GET /page/stream/events"}


def look_everywhere(app: FastAPI, url: str, token: str, theirs: dict[str, str], words: list[str]) -> None:
    """Try all paths: what is another's reads as what does not exist, and no answer has a word of it.

    Args:
        app: That is served at the URL.
        theirs: What another has, by the name that paths have for it.
        words: That would tell of another.
    """
    # What it only asks first: its own audit log then holds the paths that it tried, others' names in them.
    for route in sorted(_routes_of(app), key=lambda route: (not route.startswith("GET"), route)):
        method, path = route.split()
        assert method == "GET" or route in BODIES or "{" not in path or path.startswith("/aws"), route
        if method != "GET" and not path.startswith("/aws"):
            assert route in BODIES, f"{route}: say in BODIES what a tenant may send to it"
        for name in (None, *theirs):
            for body in BODIES.get(route, [None]):
                for query in QUERIES.get(route, [""]):
                    _check(
                        url,
                        token,
                        route,
                        path,
                        {} if name is None else {name: theirs[name]},
                        body,
                        query,
                        words,
                    )


def _routes_of(app: FastAPI) -> set[str]:
    """Every method and path of an application, those outside its document and those of Amazon's API too."""
    found = set()
    for route in app.routes:
        methods = getattr(route, "methods", None) or {"GET", "POST"}  # a mount has none
        path = getattr(route, "path", "") + ("/" if not hasattr(route, "methods") else "")
        found |= {f"{method} {path}" for method in methods if method != "HEAD"}
    return found


def _send(url: str, token: str, method: str, path: str, body: Any, is_endless: bool) -> tuple[int, str]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Authorization": f"Bearer {token}"}
    data = None if body is None else json.dumps(body)
    if data is not None:
        headers["Content-Type"] = "application/json"
    with closing(connection):
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        if not is_endless:
            return answer.status, answer.read().decode()
        return answer.status, "".join(answer.readline().decode() for _ in range(3))


def _check(
    url: str,
    token: str,
    route: str,
    path: str,
    theirs: dict[str, str],
    body: Any,
    query: str,
    words: list[str],
) -> None:
    if any(f"{{{name}}}" not in path for name in theirs):
        return
    blanks = {**UNKNOWN, "token_id": "0", "ticket": "0", "host_id": "0"}

    def ask(values: dict[str, str]) -> tuple[int, str]:
        full = path.format(**{**blanks, **values}) + (f"?{query}" if query else "")
        return _send(url, token, route.split()[0], full, body, route in ENDLESS)

    status, text = ask(theirs)
    for value in theirs.values():
        text = text.replace(value, "WHAT")
    asked = json.dumps(body)
    assert [word for word in words if word in text and word not in asked] == [], (route, status, text[:2000])
    if theirs and route != "GET /page/{name}":
        ((name, _),) = theirs.items()
        unknown_status, unknown_text = ask({})
        assert (status, text) == (unknown_status, unknown_text.replace(UNKNOWN[name], "WHAT")), route
        assert status == 404, (route, text)
