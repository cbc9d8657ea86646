"""Sessions of browsers: what a cookie stands for, until when, and how many there may be."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from elastic_inference.host.doors.callers import is_same_origin
from elastic_inference.host.doors.sessions import MAX_SESSIONS, SESSION_SECONDS, Sessions
from elastic_inference.host.tokens import hash_token
from tests.host.support import ManualClock


def test_a_session_ends_by_time_and_by_signing_out() -> None:
    clock = ManualClock()
    sessions = Sessions("ei_session_1", clock.now)
    value = sessions.open(hash_token("secret"))
    cookies = f"other=1; ei_session_1={value}"
    assert sessions.find(cookies) == hash_token("secret")
    assert sessions.find(f"ei_session_2={value}") is None
    clock.seconds = SESSION_SECONDS
    assert sessions.find(cookies) is None
    clock.seconds = 0
    sessions.close(cookies)
    sessions.close(cookies)
    assert sessions.find(cookies) is None


@pytest.mark.parametrize(
    "cookies", ["", "ei_session_1", "ei_session_1=", "ei_session_1=x", "\x00=;;", "a" * 9999]
)
def test_cookies_that_are_no_session(cookies: str) -> None:
    sessions = Sessions("ei_session_1", ManualClock().now)
    sessions.open(hash_token("secret"))
    assert sessions.find(cookies) is None
    sessions.close(cookies)


def test_the_oldest_gives_way() -> None:
    sessions = Sessions("s", ManualClock().now)
    values = [sessions.open(hash_token("secret")) for _ in range(MAX_SESSIONS + 1)]
    assert sessions.find(f"s={values[0]}") is None
    assert sessions.find(f"s={values[1]}") is not None


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://h:8500"}, True),
        ({"Origin": "https://h:8500"}, True),
        ({"Origin": "http://h:8501"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
    ],
)
def test_which_requests_come_from_our_own_page(headers: dict[str, str], expected: bool) -> None:
    assert is_same_origin(Headers({"Host": "h:8500", **headers})) is expected
