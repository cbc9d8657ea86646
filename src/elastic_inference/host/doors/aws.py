"""Amazon's own API: the six operations of `elastic-inference` 2017-07-25, as Amazon's tools call them (rest-json).

The operator's alone: every request must carry a signature made with the host's access key. One host is one
region with one zone and one account, so regions and accounts in requests are not looked at. Mount the app at
`/aws` and give Amazon's tools `http://HOST:PORT/aws` as endpoint URL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import secrets
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from elastic_inference.errors import AcceleratorNotFound
from elastic_inference.host.doors.aws_directory import AcceleratorDirectory, ListedAccelerator, Place
from elastic_inference.host.doors.aws_signature import ReceivedRequest, SignatureRefused, check
from elastic_inference.host.doors.middleware import request_id

logger = logging.getLogger(__name__)

MAX_TAGS = 50
MAX_PAGE = 100
_MEBIBYTE = 1024**2
_ARN = re.compile(
    r"arn:aws[^\s:]*:elastic-inference:[^\s:]+:\d{12}:elastic-inference-accelerator/(eia-[0-9a-f]{1,252})"
)

_Id = Annotated[str, StringConstraints(pattern=r"^eia-[0-9a-f]+$", max_length=256)]
_Name = Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=256)]
# Any text but control characters. Amazon's own description allows keys of a single character only, and no
# tool holds to that.
_TagKey = Annotated[str, StringConstraints(pattern=r"^[^\p{Cc}]+$", max_length=128)]
_TagValue = Annotated[str, StringConstraints(pattern=r"^[^\p{Cc}]*$", max_length=256)]


class AwsError(Exception):
    """An error of the API; the code is the name by which Amazon's tools know it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class BadRequest(AwsError):
    """What was asked for is malformed."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BadRequestException", message)


class NotFound(AwsError):
    """There is no such accelerator or type."""

    def __init__(self, message: str) -> None:
        super().__init__(404, "ResourceNotFoundException", message)


class _Body(BaseModel):
    # As Amazon's services do: unknown members are ignored, and a number is no text.
    model_config = ConfigDict(extra="ignore", strict=True)


class _Filter(_Body):
    name: Annotated[str, StringConstraints(pattern=r"^\S+$", max_length=128)]
    values: Annotated[list[str], Field(max_length=100)] = []


class _DescribeAccelerators(_Body):
    acceleratorIds: Annotated[list[_Id], Field(max_length=1000)] | None = None  # noqa: N815
    filters: Annotated[list[_Filter], Field(max_length=100)] | None = None
    maxResults: Annotated[int, Field(ge=0, le=MAX_PAGE)] | None = None  # noqa: N815
    nextToken: Annotated[str, StringConstraints(min_length=1, max_length=2048)] | None = None  # noqa: N815


class _DescribeOfferings(_Body):
    locationType: str  # noqa: N815
    acceleratorTypes: Annotated[list[_Name], Field(max_length=100)] | None = None  # noqa: N815


class _TagResource(_Body):
    tags: Annotated[dict[_TagKey, _TagValue], Field(min_length=1, max_length=MAX_TAGS)]


class AwsApi:
    """The six operations; each takes what was asked for and gives the JSON object of the answer."""

    def __init__(self, directory: AcceleratorDirectory, place: Place) -> None:
        self._directory = directory
        self._place = place
        self._tag_lock = threading.Lock()

    def describe_accelerator_types(self) -> dict[str, Any]:
        """All types. What the host does not promise, compute in 16 bit and parts of a TFLOPS, is not listed."""
        return {
            "acceleratorTypes": [
                {
                    "acceleratorTypeName": kind.name,
                    "memoryInfo": {"sizeInMiB": kind.memory_bytes // _MEBIBYTE},
                    "throughputInfo": [{"key": "TFLOPS32bit", "value": int(kind.fp32_tflops)}]
                    if kind.fp32_tflops >= 1
                    else [],
                }
                for kind in self._directory.list_types()
            ]
        }

    def describe_accelerator_offerings(self, body: bytes) -> dict[str, Any]:
        """Return the types that this host could give, at its one place."""
        wanted = _parse(_DescribeOfferings, body)
        locations = {
            "region": self._place.region,
            "availability-zone": self._place.zone,
            "availability-zone-id": self._place.zone_id,
        }
        if wanted.locationType not in locations:
            raise BadRequest(f"locationType {wanted.locationType!r:.60} is not one of {', '.join(locations)}")
        kinds = {kind.name: kind for kind in self._directory.list_types()}
        names = list(kinds) if wanted.acceleratorTypes is None else wanted.acceleratorTypes
        unknown = [name for name in names if name not in kinds]
        if unknown:
            raise NotFound(f"no accelerator type {unknown[0]!r:.80}; known are {', '.join(kinds)}")
        return {
            "acceleratorTypeOfferings": [
                {
                    "acceleratorType": name,
                    "locationType": wanted.locationType,
                    "location": locations[wanted.locationType],
                }
                for name in names
                if kinds[name].is_offered
            ]
        }

    def describe_accelerators(self, body: bytes) -> dict[str, Any]:
        """Return the accelerators asked for, by id; a page at a time where `maxResults` says so."""
        wanted = _parse(_DescribeAccelerators, body)
        found = sorted(self._directory.list_accelerators(), key=lambda listed: listed.accelerator_id)
        if wanted.acceleratorIds:
            missing = set(wanted.acceleratorIds) - {listed.accelerator_id for listed in found}
            if missing:
                raise NotFound(f"no accelerator {sorted(missing)[0]:.80}")
            found = [listed for listed in found if listed.accelerator_id in wanted.acceleratorIds]
        for condition in wanted.filters or []:
            found = [listed for listed in found if _passes(listed, condition)]
        question = hashlib.sha256(
            json.dumps([wanted.acceleratorIds, [f.model_dump() for f in wanted.filters or []]]).encode()
        ).hexdigest()[:16]
        if wanted.nextToken is not None:
            after = _read_token(wanted.nextToken, question)
            found = [listed for listed in found if listed.accelerator_id > after]
        page = found[: wanted.maxResults or MAX_PAGE]
        answer: dict[str, Any] = {"acceleratorSet": [self._view(listed) for listed in page]}
        if len(page) < len(found):
            answer["nextToken"] = _make_token(page[-1].accelerator_id, question)
        return answer

    def list_tags(self, arn: str) -> dict[str, Any]:
        """Return an accelerator's tags."""
        return {"tags": self._directory.get_tags(_id_of(arn))}

    def tag(self, arn: str, body: bytes) -> dict[str, Any]:
        """Set tags; those of other keys stay, and all together are at most 50."""
        accelerator_id, tags = _id_of(arn), _parse(_TagResource, body).tags
        reserved = [key for key in tags if key.lower().startswith("aws:")]
        if reserved:
            raise BadRequest(f"tag key {reserved[0]!r}: keys that begin with aws: are reserved")
        with self._tag_lock:
            num_tags = len({*self._directory.get_tags(accelerator_id), *tags})
            if num_tags > MAX_TAGS:
                raise BadRequest(f"{num_tags} tags are more than the {MAX_TAGS} that an accelerator may have")
            self._directory.set_tags(accelerator_id, tags)
        return {}

    def untag(self, arn: str, keys: Sequence[str]) -> dict[str, Any]:
        """Take tags away; keys that it does not have are fine."""
        accelerator_id = _id_of(arn)
        if not 1 <= len(keys) <= MAX_TAGS:
            raise BadRequest(f"tagKeys must hold 1 to {MAX_TAGS} keys, not {len(keys)}")
        if not all(1 <= len(key) <= 128 for key in keys):
            raise BadRequest("a tag key must have 1 to 128 characters")
        with self._tag_lock:
            self._directory.get_tags(accelerator_id)
            self._directory.remove_tags(accelerator_id, keys)
        return {}

    def _view(self, listed: ListedAccelerator) -> dict[str, Any]:
        place = self._place
        return {
            "acceleratorId": listed.accelerator_id,
            "acceleratorType": listed.type_name,
            "acceleratorHealth": {"status": listed.health},
            "availabilityZone": place.zone,
            # Not an instance of Amazon's, so it does not pretend to be one.
            "attachedResource": f"arn:aws:elastic-inference:{place.region}:{place.account}:client/{listed.client}",
        }


def _passes(listed: ListedAccelerator, condition: _Filter) -> bool:
    # Amazon's documentation gives the first filter both names, in two places.
    if condition.name in ("accelerator-type", "accelerator-types"):
        return listed.type_name in condition.values
    if condition.name == "instance-id":
        return listed.client in condition.values
    raise BadRequest(
        f"filter {condition.name!r} is not one of accelerator-type, accelerator-types, instance-id"
    )


def _parse(model: type[Any], body: bytes) -> Any:
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise BadRequest(f"{where}: {first['msg']}") from error


def _id_of(arn: str) -> str:
    match = _ARN.fullmatch(arn)
    if match is None:
        raise BadRequest(
            f"resourceArn {arn!r:.120} is not of the form "
            "arn:aws:elastic-inference:REGION:ACCOUNT:elastic-inference-accelerator/eia-ID"
        )
    return match[1]


def _make_token(after: str, question: str) -> str:
    return base64.b64encode(f"{question} {after}".encode()).decode()


def _read_token(token: str, question: str) -> str:
    """Return the id after which the next page begins; a token of another question is refused."""
    try:
        asked, after = base64.b64decode(token, validate=True).decode().split(" ")
    except ValueError as error:
        raise BadRequest("nextToken is not one that this host gave") from error
    if asked != question:
        raise BadRequest("nextToken belongs to a request with other acceleratorIds or filters")
    return after


Operation = Callable[[AwsApi, Request, bytes], dict[str, Any]]

_OPERATIONS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/describe-accelerator-types", lambda api, _request, _body: api.describe_accelerator_types()),
    (
        "POST",
        "/describe-accelerator-offerings",
        lambda api, _request, body: api.describe_accelerator_offerings(body),
    ),
    ("POST", "/describe-accelerators", lambda api, _request, body: api.describe_accelerators(body)),
    ("GET", "/tags/{arn:path}", lambda api, request, _body: api.list_tags(request.path_params["arn"])),
    ("POST", "/tags/{arn:path}", lambda api, request, body: api.tag(request.path_params["arn"], body)),
    (
        "DELETE",
        "/tags/{arn:path}",
        lambda api, request, _body: api.untag(
            request.path_params["arn"], request.query_params.getlist("tagKeys")
        ),
    ),
)


def make_aws_app(
    directory: AcceleratorDirectory,
    find_secret: Callable[[str], str | None],
    place: Place | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
) -> Starlette:
    """Return the API as an ASGI app, to be mounted.

    Args:
        find_secret: Secret access key for an access key id; None for one that is not known.
        place: What the host is called where Amazon has regions.
        now: The wall clock, with time zone, for the age of signatures.
    """
    api = AwsApi(directory, place or Place())

    def endpoint(operation: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await request.body()
            try:
                check(_received(request, body), find_secret, now())
                return _respond(200, await run_in_threadpool(operation, api, request, body))
            except (SignatureRefused, AwsError) as error:
                return _refuse(error.status, error.code, str(error))
            except AcceleratorNotFound as error:
                return _refuse(404, "ResourceNotFoundException", str(error))
            except Exception:
                logger.exception("request of Amazon's API failed")
                return _refuse(500, "InternalServerException", "the host failed; its log says why")

        return answer

    routes = [Route(path, endpoint(operation), methods=[method]) for method, path, operation in _OPERATIONS]
    routes.append(Route("/{path:path}", endpoint(_unknown), methods=list(_METHODS)))
    return Starlette(routes=routes)


_METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS")


def _unknown(_api: AwsApi, request: Request, _body: bytes) -> dict[str, Any]:
    raise AwsError(404, "UnknownOperationException", f"no operation {request.method} {request.url.path:.200}")


def _received(request: Request, body: bytes) -> ReceivedRequest:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    raw_path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return ReceivedRequest(
        request.method,
        raw_path.decode("latin-1"),
        request.scope["query_string"].decode("latin-1"),
        headers,
        body,
    )


def _respond(status: int, content: dict[str, Any], extra: Iterable[tuple[str, str]] = ()) -> Response:
    headers = {"x-amzn-RequestId": request_id.get() or secrets.token_hex(8), **dict(extra)}
    return JSONResponse(content, status, headers)


def _refuse(status: int, code: str, message: str) -> Response:
    return _respond(status, {"message": message}, [("x-amzn-ErrorType", code)])
