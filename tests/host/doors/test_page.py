"""The page over real HTTP: who sees what, what keeps other sites out, and streams that end when they should."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from elastic_inference.client.host_session import HostSession
from elastic_inference.host.doors.feed import MAX_OF_ONE_CALLER
from tests.host.conftest import HostProcess, _starter, new_state_dir
from tests.host.support import predictor, wait_until


@pytest.fixture(scope="module")
def host() -> Iterator[HostProcess]:
    with new_state_dir() as state_dir, _starter(state_dir) as start:
        types = state_dir.parent / "types.toml"
        types.write_text('["small"]\nmemory = "256MiB"\ndevice_share = 0.1\nusd_per_hour = "0.13"\n')
        yield start("--types", str(types))


@pytest.fixture
def operator(host: HostProcess) -> Iterator[HostSession]:
    session = host.session()
    yield session
    for accelerator in session.request("GET", "/v1/accelerators"):
        session.detach(accelerator["accelerator_id"], drain_seconds=0)


def ask(
    host: HostProcess, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=30)
    with contextlib.closing(connection):
        connection.request(
            method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
        )
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read().decode()


def sign_in(host: HostProcess, token: str, **headers: str) -> tuple[int, str]:
    """The status, and the cookie."""
    status, given, _ = ask(
        host, "POST", "/page/sign-in", urlencode({"token": token}),
        Content_Type="application/x-www-form-urlencoded", **headers,
    )  # fmt: skip
    return status, given.get("set-cookie", "").partition(";")[0]


class Stream:
    """The stream of events of a caller."""

    def __init__(self, host: HostProcess, **headers: str) -> None:
        self._connection = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=60)
        self._connection.request("GET", "/page/stream/events", headers=headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status

    def next(self) -> tuple[str, dict[str, Any]]:
        """The next event's kind and data; ("", {}) at the end."""
        kind = ""
        while line := self._answer.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                return kind, json.loads(value)
        return "", {}

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@pytest.fixture
def listen(host: HostProcess) -> Iterator[Callable[..., Stream]]:
    with contextlib.ExitStack() as stack:

        def open_one(**headers: str) -> Stream:
            return stack.enter_context(contextlib.closing(Stream(host, **headers)))

        yield open_one


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_whoever_shows_no_token_sees_the_sign_in_alone(
    host: HostProcess, listen: Callable[..., Stream]
) -> None:
    status, headers, text = ask(host, "GET", "/")
    assert status == 200
    assert 'action="/page/sign-in"' in text
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert listen().status == 401
    for path in ("/v1/board", "/v1/accelerators/x/logs", "/v1/accelerators/x/history"):
        assert ask(host, "GET", path)[0] == 401


def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(host: HostProcess) -> None:
    status, headers, _ = ask(
        host, "POST", "/page/sign-in", urlencode({"token": host.operator_token}), Origin=host.url
    )
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert host.operator_token not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    mine = {"Cookie": cookie.partition(";")[0]}
    assert 'id="accelerators"' in ask(host, "GET", "/", **mine)[2]
    assert ask(host, "POST", "/page/sign-out", **mine)[0] == 303
    assert 'action="/page/sign-in"' in ask(host, "GET", "/", **mine)[2]


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000, "\x00"])
def test_a_wrong_token_is_told_and_gives_no_session(host: HostProcess, token: str) -> None:
    status, _, text = ask(host, "POST", "/page/sign-in", urlencode({"token": token}))
    assert status == 401
    assert 'id="refused" class' in text
    assert sign_in(host, token)[1] == ""


def test_other_sites_sign_nobody_in(host: HostProcess) -> None:
    assert sign_in(host, host.operator_token, Origin="http://evil.example")[0] == 401
    assert sign_in(host, host.operator_token, Sec_Fetch_Site="cross-site")[0] == 401


def test_what_changes_something_needs_more_than_the_cookie(host: HostProcess, operator: HostSession) -> None:
    _, cookie = sign_in(host, host.operator_token)
    drain = ("POST", "/v1/host/drain", json.dumps({"is_draining": True}))
    assert ask(host, *drain, Cookie=cookie)[0] == 401
    assert ask(host, *drain, Cookie=cookie, X_EI_Page="1", Origin="http://evil.example")[0] == 401
    assert ask(host, *drain, Cookie=cookie, X_EI_Page="1", Sec_Fetch_Site="cross-site")[0] == 401
    assert ask(host, *drain, X_EI_Page="1")[0] == 401
    assert not operator.request("GET", "/v1/host")["is_draining"]
    json_type = "application/json"
    assert ask(host, *drain, Cookie=cookie, X_EI_Page="1", Origin=host.url, Content_Type=json_type)[0] == 200
    operator.request("POST", "/v1/host/drain", {"is_draining": False})
    kinds = [each["kind"] for each in operator.request("GET", "/v1/board")["events"][-2:]]
    assert kinds == ["host", "host"]


def test_files_of_the_page_are_asked_for_again_only_where_they_changed(host: HostProcess) -> None:
    status, headers, _ = ask(host, "GET", "/page/page.js")
    assert (status, headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert ask(host, "GET", "/page/page.js", If_None_Match=headers["etag"])[0] == 304
    for name in ("page.html", "..%2fpage.py", "nothing.js"):
        assert ask(host, "GET", f"/page/{name}")[0] == 404


def test_a_tenant_sees_nothing_of_others_anywhere(
    host: HostProcess, operator: HostSession, listen: Callable[..., Stream]
) -> None:
    mine, other = operator.attach("small", name="mine"), operator.attach("small", name="secret-project")
    stream = listen(**bearer(mine.token))
    frames = (stream.next()[1] for _ in range(60))
    first = next(
        frame for frame in frames if frame["accelerators"]
    )  # a snapshot may be older than the attach
    operator.detach(other.accelerator_id, drain_seconds=0)
    third = operator.attach("small", name="secret-successor")
    texts = [json.dumps(first)]
    for _ in range(3):
        texts.append(json.dumps(stream.next()[1]))
    texts.append(ask(host, "GET", "/v1/board", **bearer(mine.token))[2])
    texts.append(ask(host, "GET", "/metrics", **bearer(mine.token))[2])
    texts.append(ask(host, "GET", f"/v1/accelerators/{mine.accelerator_id}/logs", **bearer(mine.token))[2])
    for text in texts:
        for hidden in ("secret", other.accelerator_id, third.accelerator_id, str(host.state_dir)):
            assert hidden not in text
    assert [row["name"] for row in first["accelerators"]] == ["mine"]
    assert first["devices"] == []
    assert "host_id" not in first["host"]
    for kind in ("logs", "history"):
        status, _, text = ask(
            host, "GET", f"/v1/accelerators/{other.accelerator_id}/{kind}", **bearer(mine.token)
        )
        assert (status, json.loads(text)["code"]) == (404, "AcceleratorNotFound")


def test_frames_say_only_what_changed(
    operator: HostSession, host: HostProcess, listen: Callable[..., Stream]
) -> None:
    operator.attach("small", name="one")
    stream = listen(**bearer(host.operator_token))
    _, first = stream.next()
    assert first["is_whole"]
    names: list[str] = []

    def sees(name: str) -> bool:
        _, frame = stream.next()
        assert not frame["is_whole"]
        names.extend(row["name"] for row in frame["accelerators"])
        return name in names

    two = operator.attach("small", name="two")
    wait_until(lambda: sees("two"), "the second accelerator")
    operator.detach(two.accelerator_id, drain_seconds=0)
    wait_until(lambda: two.accelerator_id in stream.next()[1]["gone"], "the second accelerator to go")


def test_a_stream_ends_with_what_it_was_opened_by(
    operator: HostSession, listen: Callable[..., Stream]
) -> None:
    mine = operator.attach("small")
    stream = listen(**bearer(mine.token))
    assert stream.next()[0] == "state"
    operator.detach(mine.accelerator_id, drain_seconds=0)
    wait_until(lambda: stream.next()[0] == "over", "the end of the stream")
    assert stream.next()[0] == ""


def test_one_token_opens_so_many_streams_and_no_more(
    operator: HostSession, host: HostProcess, listen: Callable[..., Stream]
) -> None:
    mine = operator.attach("small")
    streams = [listen(**bearer(mine.token)) for _ in range(MAX_OF_ONE_CALLER)]
    assert {stream.status for stream in streams} == {200}
    assert listen(**bearer(mine.token)).status == 429
    assert listen(**bearer(host.operator_token)).status == 200
    streams[0].close()
    wait_until(lambda: listen(**bearer(mine.token)).status == 200, "a stream in place of one that was closed")


def test_the_end_of_a_host_waits_for_no_browser(start_host: Callable[..., HostProcess]) -> None:
    host = start_host()
    stream = Stream(host, **bearer(host.operator_token))
    assert stream.next()[0] == "state"
    host.process.terminate()
    wait_until(lambda: stream.next() == ("", {}), "the end of the stream")
    stream.close()
    assert host.process.wait(60) == 0


def test_the_log_of_an_accelerator_over_its_deaths(
    operator: HostSession, host: HostProcess, tmp_path: Path
) -> None:
    from tests.integration.tiny_model import write_doubling_graph

    mine = operator.attach("small")
    tenant = HostSession(host.url, mine.token)
    path = f"/v1/accelerators/{mine.accelerator_id}/logs"
    with predictor(mine.endpoints[0], mine.token, write_doubling_graph(tmp_path / "m.pb")) as predict:
        predict({"x": [1.0]})
        first = tenant.request("GET", path)
        assert first["process"] == 0
        assert "model" in first["text"]
        os.kill(_pid_of(host, mine.accelerator_id), signal.SIGKILL)
        predict({"x": [1.0]})
    cursor, seen = first["cursor"], ""

    def reads() -> bool:
        nonlocal cursor, seen
        part = tenant.request("GET", f"{path}?cursor={cursor}")
        cursor, seen = part["cursor"], seen + part["text"]
        return part["process"] == 1 and bool(seen)

    wait_until(reads, "the log of the second process")

    def deaths() -> list[str]:
        events = tenant.request("GET", "/v1/board")["events"]
        return [each["text"] for each in events if each["kind"] == "died"]

    wait_until(deaths, "the event")
    assert deaths() == ["killed by SIGKILL; restart 1"]


def _pid_of(host: HostProcess, accelerator_id: str) -> int:
    import sqlite3

    with contextlib.closing(sqlite3.connect(host.state_dir / "state.db")) as db:
        query = "SELECT process FROM accelerators WHERE accelerator_id = ?"
        return int(json.loads(db.execute(query, (accelerator_id,)).fetchone()[0])["pid"])
