"""Amazon's signature, checked as a receiver: known vectors, and everything that may not pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from elastic_inference.host.doors.aws_signature import ReceivedRequest, SignatureRefused, check, sign

# The key pair and time of Amazon's published test suite for this signature.
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
AT = "20150830T123600Z"
NOW = datetime(2015, 8, 30, 12, 36, tzinfo=timezone.utc)
SUITE_SCOPE = "20150830/us-east-1/service/aws4_request"
HEADERS = {"host": "example.amazonaws.com", "x-amz-date": AT}


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)
def test_vectors_of_amazons_test_suite(query: str, signature: str) -> None:
    request = ReceivedRequest("GET", "/", query, HEADERS, b"")
    assert sign(request, ("host", "x-amz-date"), SUITE_SCOPE, AT, SECRET) == signature


def signed(
    request: ReceivedRequest | None = None, names: tuple[str, ...] = ("host", "x-amz-date"), scope: str = ""
) -> ReceivedRequest:
    """A request with a right signature, by default over a small one."""
    request = request or ReceivedRequest("POST", "/describe-accelerators", "", HEADERS, b"{}")
    scope = scope or "20150830/us-west-2/elastic-inference/aws4_request"
    signature = sign(request, names, scope, AT, SECRET)
    text = f"AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return replace(request, headers={**request.headers, "authorization": text})


def find_secret(access_key_id: str) -> str | None:
    return SECRET if access_key_id == "AKID" else None


def test_a_right_signature_tells_who_calls() -> None:
    assert check(signed(), find_secret, NOW) == "AKID"


def changed(request: ReceivedRequest, **headers: str) -> ReceivedRequest:
    return replace(request, headers={**request.headers, **headers})


def without(request: ReceivedRequest, name: str) -> ReceivedRequest:
    return replace(request, headers={k: v for k, v in request.headers.items() if k != name})


def edited(old: str, new: str) -> ReceivedRequest:
    request = signed()
    return changed(request, authorization=request.headers["authorization"].replace(old, new))


HOSTILE = {
    "another method": replace(signed(), method="DELETE"),
    "another path": replace(signed(), path="/describe-accelerator-offerings"),
    "a query added": replace(signed(), query="tagKeys=team"),
    "another body": replace(signed(), body=b'{"maxResults": 1}'),
    "another host": changed(signed(), host="other.example"),
    "no authorization": without(signed(), "authorization"),
    "a bearer token": changed(signed(), authorization="Bearer abc"),
    "nothing but the algorithm": changed(signed(), authorization="AWS4-HMAC-SHA256"),
    "another key id": edited("AKID", "OTHER"),
    "a key id that names a path": edited("AKID", "../AKID"),
    "no signature": edited("Signature=", "Sig="),
    "a short signature": changed(signed(), authorization=signed().headers["authorization"][:-1]),
    "another region": edited("us-west-2", "us-east-1"),
    "another service": signed(scope="20150830/us-west-2/s3/aws4_request"),
    "another day in the scope": signed(scope="20150829/us-west-2/elastic-inference/aws4_request"),
    "a host that is not signed": signed(names=("x-amz-date",)),
    "a time that is not signed": signed(names=("host",)),
    "an amazon header that is not signed": changed(signed(), **{"x-amz-target": "Other"}),
    "a header that is said to be signed and is not there": edited("host;", "host;range;"),
    "no time": without(signed(), "x-amz-date"),
    "a time that is none": changed(signed(), **{"x-amz-date": "yesterday"}),
    "a hash of another body": changed(signed(), **{"x-amz-content-sha256": "0" * 64}),
    "a payload that is not signed": signed(
        ReceivedRequest(
            "POST",
            "/describe-accelerators",
            "",
            {**HEADERS, "x-amz-content-sha256": "UNSIGNED-PAYLOAD"},
            b"{}",
        ),
        names=("host", "x-amz-content-sha256", "x-amz-date"),
    ),
}


@pytest.mark.parametrize("request_name", HOSTILE)
def test_what_may_not_pass(request_name: str) -> None:
    with pytest.raises(SignatureRefused) as refusal:
        check(HOSTILE[request_name], find_secret, NOW)
    assert refusal.value.status == 403
    assert refusal.value.code.endswith("Exception")


@pytest.mark.parametrize("age", [timedelta(minutes=6), timedelta(minutes=-6), timedelta(days=365)])
def test_a_signature_is_good_for_five_minutes(age: timedelta) -> None:
    with pytest.raises(SignatureRefused, match="expired"):
        check(signed(), find_secret, NOW + age)
    assert check(signed(), find_secret, NOW + timedelta(minutes=4)) == "AKID"


def test_a_path_whose_slashes_are_percent_encoded() -> None:
    path = "/aws/tags/arn%3Aaws%3Aelastic-inference%3Alocal%3A000000000000%3Aelastic-inference-accelerator%2Feia-1"
    request = ReceivedRequest("GET", path, "", HEADERS, b"")
    assert check(signed(request), find_secret, NOW) == "AKID"
    with pytest.raises(SignatureRefused):
        check(replace(signed(request), path=path.replace("%2F", "/")), find_secret, NOW)


def test_blanks_in_header_values_count_once() -> None:
    request = ReceivedRequest("GET", "/", "", {**HEADERS, "my-header": "a  b   c "}, b"")
    names = ("host", "my-header", "x-amz-date")
    assert check(changed(signed(request, names), **{"my-header": "a b c"}), find_secret, NOW) == "AKID"
