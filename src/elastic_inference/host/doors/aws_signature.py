"""Amazon's request signature, version 4, as its receiver checks it. Pure: time and secrets are arguments.

What is signed: method, path, query, the headers that the request names, and the body. A request is good for
five minutes around the receiver's time.
"""

from __future__ import annotations

import hashlib
import hmac
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICE = "elastic-inference"
MAX_SKEW = timedelta(minutes=5)

_CREDENTIAL = re.compile(r"([\w+=.@-]{1,128})/(\d{8})/([a-zA-Z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request")
_UNRESERVED = "-_.~"


class SignatureRefused(Exception):
    """A request is not signed, or not as it should be.

    Attributes:
        status: HTTP status of the answer.
        code: Amazon's name of the error.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came over the wire.

    Attributes:
        path: Percent-encoded as received, without the query.
        query: As received, without the question mark.
        headers: Names in lower case; the values of a name that came twice joined by commas.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class _Authorization:
    access_key_id: str
    date: str
    region: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{SERVICE}/aws4_request"


def check(request: ReceivedRequest, find_secret: Callable[[str], str | None], now: datetime) -> str:
    """Check a request's signature.

    Args:
        find_secret: Secret access key for an access key id; None for one that is not known.
        now: With time zone.

    Returns:
        The access key id of the caller. Any region is taken, for the host has but one.

    Raises:
        SignatureRefused: Why not, with Amazon's status and code.
    """
    authorization = _read_authorization(request.headers)
    at = _check_time(request.headers, authorization, now)
    _check_signed_headers(request.headers, authorization)
    secret = find_secret(authorization.access_key_id)
    if secret is None:
        raise SignatureRefused(
            403, "UnrecognizedClientException", "the access key id is unknown to this host"
        )
    body_sha256 = hashlib.sha256(request.body).hexdigest()
    if request.headers.get("x-amz-content-sha256", body_sha256) != body_sha256:
        raise SignatureRefused(403, "InvalidSignatureException", "the body is not the one that was signed")
    expected = sign(request, authorization.signed_headers, authorization.scope, at, secret)
    if not hmac.compare_digest(expected, authorization.signature):
        message = "the signature does not match; check the secret access key and the signing method"
        raise SignatureRefused(403, "InvalidSignatureException", message)
    return authorization.access_key_id


def sign(request: ReceivedRequest, signed_headers: tuple[str, ...], scope: str, at: str, secret: str) -> str:
    """Return the signature (hex) of a request.

    Args:
        signed_headers: Names in lower case, sorted.
        scope: `DATE/REGION/SERVICE/aws4_request`.
        at: Time as in `X-Amz-Date`: `20260131T120000Z`.
    """
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed_headers)
    canonical = "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            headers,
            ";".join(signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )
    text = "\n".join((ALGORITHM, at, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def _read_authorization(headers: Mapping[str, str]) -> _Authorization:
    algorithm, _, rest = headers.get("authorization", "").partition(" ")
    if algorithm != ALGORITHM:
        message = f"the request carries no Authorization of {ALGORITHM}"
        raise SignatureRefused(403, "MissingAuthenticationTokenException", message)
    fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    credential = _CREDENTIAL.fullmatch(fields.get("Credential", ""))
    signed = tuple(fields.get("SignedHeaders", "").lower().split(";"))
    signature = fields.get("Signature", "")
    if credential is None or not re.fullmatch(r"[0-9a-f]{64}", signature):
        message = "Authorization needs Credential, SignedHeaders and Signature"
        raise SignatureRefused(403, "IncompleteSignatureException", message)
    key_id, date, region, service = credential.groups()
    if service != SERVICE:
        message = f"the request is signed for service {service!r}, not {SERVICE!r}"
        raise SignatureRefused(403, "InvalidSignatureException", message)
    return _Authorization(key_id, date, region, signed, signature)


def _check_time(headers: Mapping[str, str], authorization: _Authorization, now: datetime) -> str:
    at = headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(at, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        message = "X-Amz-Date is missing or not such as 20260131T120000Z"
        raise SignatureRefused(403, "IncompleteSignatureException", message) from None
    if authorization.date != at[:8] or abs(now - signed_at) > MAX_SKEW:
        message = (
            f"the signature has expired or is of the future: signed {at}, here it is {now:%Y%m%dT%H%M%SZ}"
        )
        raise SignatureRefused(403, "InvalidSignatureException", message)
    return at


def _check_signed_headers(headers: Mapping[str, str], authorization: _Authorization) -> None:
    """All that decides about a request must be signed, and all that is said to be signed must be there."""
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    signed = authorization.signed_headers
    if list(signed) != sorted(set(signed)) or needed - set(signed) or set(signed) - set(headers):
        message = f"SignedHeaders must be sorted, be sent, and hold at least {', '.join(sorted(needed))}"
        raise SignatureRefused(403, "IncompleteSignatureException", message)


def _canonical_path(path: str) -> str:
    """Return the path as received, without dots and double slashes, percent-encoded once more (all services but S3)."""
    normal = posixpath.normpath(path or "/")
    if path.endswith("/") and normal != "/":
        normal += "/"
    return quote("/" + normal.lstrip("/"), safe="/~")


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    encoded = [tuple(quote(unquote_to_bytes(text), safe=_UNRESERVED) for text in pair) for pair in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))
