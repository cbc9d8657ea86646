"""The six operations through unmodified boto3, over a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from elastic_inference.host.doors.aws import make_aws_app
from elastic_inference.host.doors.aws_directory import CredentialsFile, Place
from tests.aws.conftest import Boto, MemoryDirectory, serving

PLACE = Place("here", "here-a", "here-az1", "123456789012")
IDS = [f"eia-{number:032x}" for number in range(1, 8)]


def arn(accelerator_id: str) -> str:
    return f"arn:aws:elastic-inference:us-west-2:123456789012:elastic-inference-accelerator/{accelerator_id}"


class Fragile(MemoryDirectory):
    """A directory whose database can break."""

    is_broken = False

    def list_types(self) -> Any:
        if self.is_broken:
            raise RuntimeError("the database is gone")
        return super().list_types()


@pytest.fixture(scope="module")
def directory() -> Fragile:
    directory = Fragile()
    for number, accelerator_id in enumerate(IDS):
        kind = "eia1.medium" if number % 2 == 0 else "cpu.half"
        directory.attach(accelerator_id, kind, client=f"i-{number}")
    return directory


@pytest.fixture(scope="module")
def url(directory: Fragile, credentials: CredentialsFile) -> Iterator[str]:
    app = Starlette(routes=[Mount("/aws", make_aws_app(directory, credentials.find_secret, PLACE))])
    with serving(app) as base:
        yield f"{base}/aws"


@pytest.fixture(scope="module")
def boto(url: str, start_boto: Callable[..., Boto]) -> Boto:
    return start_boto(url)


@pytest.fixture(scope="module")
def careless(url: str, start_boto: Callable[..., Boto]) -> Boto:
    """boto3 that checks nothing itself, so that what is wrong reaches us."""
    return start_boto(url, "--no-validation")


def ids(answer: Any) -> list[str]:
    return [one["acceleratorId"] for one in answer["acceleratorSet"]]


def test_types_with_memory_and_whole_tflops(boto: Boto) -> None:
    assert boto.call("describe_accelerator_types")["acceleratorTypes"] == [
        {
            "acceleratorTypeName": "eia1.medium",
            "memoryInfo": {"sizeInMiB": 1024},
            "throughputInfo": [{"key": "TFLOPS32bit", "value": 1}],
        },
        {
            "acceleratorTypeName": "eia2.xlarge",
            "memoryInfo": {"sizeInMiB": 8192},
            "throughputInfo": [{"key": "TFLOPS32bit", "value": 4}],
        },
        {"acceleratorTypeName": "cpu.half", "memoryInfo": {"sizeInMiB": 512}, "throughputInfo": []},
    ]


@pytest.mark.parametrize(
    ("kind", "location"),
    [("region", "here"), ("availability-zone", "here-a"), ("availability-zone-id", "here-az1")],
)
def test_offerings_are_what_the_host_could_give(boto: Boto, kind: str, location: str) -> None:
    offerings = boto.call("describe_accelerator_offerings", locationType=kind)["acceleratorTypeOfferings"]
    assert offerings == [
        {"acceleratorType": name, "locationType": kind, "location": location}
        for name in ("eia1.medium", "cpu.half")
    ]


def test_offerings_of_named_types(boto: Boto) -> None:
    answer = boto.call(
        "describe_accelerator_offerings", locationType="region", acceleratorTypes=["cpu.half", "eia2.xlarge"]
    )
    assert [one["acceleratorType"] for one in answer["acceleratorTypeOfferings"]] == ["cpu.half"]


def test_accelerators_with_health_zone_and_client(boto: Boto) -> None:
    answer = boto.call("describe_accelerators", acceleratorIds=[IDS[2]])
    assert answer["acceleratorSet"] == [
        {
            "acceleratorHealth": {"status": "healthy"},
            "acceleratorType": "eia1.medium",
            "acceleratorId": IDS[2],
            "availabilityZone": "here-a",
            "attachedResource": "arn:aws:elastic-inference:here:123456789012:client/i-2",
        }
    ]
    assert "nextToken" not in answer


@pytest.mark.parametrize("name", ["accelerator-type", "accelerator-types"])
def test_both_names_of_the_type_filter(boto: Boto, name: str) -> None:
    answer = boto.call("describe_accelerators", filters=[{"name": name, "values": ["cpu.half", "other"]}])
    assert ids(answer) == IDS[1::2]


def test_filters_must_all_pass_and_one_value_of_each(boto: Boto) -> None:
    filters = [
        {"name": "instance-id", "values": ["i-1", "i-2", "i-9"]},
        {"name": "accelerator-type", "values": ["eia1.medium"]},
    ]
    assert ids(boto.call("describe_accelerators", filters=filters)) == [IDS[2]]
    assert ids(boto.call("describe_accelerators", filters=filters, acceleratorIds=[IDS[0]])) == []


def test_boto3s_own_paginator_sees_each_accelerator_once(boto: Boto) -> None:
    pages = boto.pages("describe_accelerators", PaginationConfig={"PageSize": 3})
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one["acceleratorId"] for page in pages for one in page] == IDS


def test_paging_with_a_filter(boto: Boto) -> None:
    filters = [{"name": "accelerator-type", "values": ["eia1.medium"]}]
    first = boto.call("describe_accelerators", filters=filters, maxResults=3)
    rest = boto.call("describe_accelerators", filters=filters, nextToken=first["nextToken"])
    assert ids(first) + ids(rest) == IDS[0::2]
    assert "nextToken" not in rest


def test_a_page_goes_on_where_it_was_when_an_accelerator_went_meanwhile(
    boto: Boto, directory: Fragile
) -> None:
    directory.attach("eia-0")
    try:
        first = boto.call("describe_accelerators", maxResults=2)
    finally:
        directory.accelerators.pop()
    rest = boto.call("describe_accelerators", nextToken=first["nextToken"])
    assert ids(first) + ids(rest) == ["eia-0", *IDS]


def test_tags_are_set_changed_listed_and_taken_away(boto: Boto) -> None:
    where = {"resourceArn": arn(IDS[0])}
    assert boto.call("list_tags_for_resource", **where)["tags"] == {}
    boto.call("tag_resource", **where, tags={"team": "vision", "a b/c&d=e": "1 + 1 ü", "empty": ""})
    boto.call("tag_resource", **where, tags={"team": "speech"})
    assert boto.call("list_tags_for_resource", **where)["tags"] == {
        "team": "speech",
        "a b/c&d=e": "1 + 1 ü",
        "empty": "",
    }
    boto.call("untag_resource", **where, tagKeys=["a b/c&d=e", "empty", "absent"])
    assert boto.call("list_tags_for_resource", **where)["tags"] == {"team": "speech"}


def test_no_more_than_fifty_tags(boto: Boto) -> None:
    where = {"resourceArn": arn(IDS[1])}
    boto.call("tag_resource", **where, tags={f"key{n}": "x" for n in range(50)})
    boto.call("tag_resource", **where, tags={"key7": "changed"})
    error = boto.error("tag_resource", **where, tags={"one more": "x"})
    assert (error["code"], error["status"]) == ("BadRequestException", 400)
    assert "51 tags" in error["message"]


BAD = [
    ("describe_accelerators", {"acceleratorIds": ["../../etc"]}),
    ("describe_accelerators", {"acceleratorIds": "eia-1"}),
    ("describe_accelerators", {"filters": [{"name": "colour", "values": ["red"]}]}),
    ("describe_accelerators", {"filters": [{"values": ["red"]}]}),
    ("describe_accelerators", {"maxResults": 101}),
    ("describe_accelerators", {"maxResults": -1}),
    ("describe_accelerators", {"maxResults": "3"}),
    ("describe_accelerators", {"nextToken": "bm90IG91cnM="}),
    ("describe_accelerators", {"nextToken": "%%%"}),
    ("describe_accelerators", {"nextToken": ""}),
    ("describe_accelerator_offerings", {"locationType": "planet"}),
    ("describe_accelerator_offerings", {}),
    ("list_tags_for_resource", {"resourceArn": "arn:aws:s3:::bucket"}),
    ("list_tags_for_resource", {"resourceArn": arn("eia-../x")}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {"": "x"}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {"k" * 129: "x"}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {"k": "x" * 257}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {"aws:mine": "x"}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {"nul\0": "x"}}),
    ("tag_resource", {"resourceArn": arn(IDS[2]), "tags": {f"k{n}": "" for n in range(51)}}),
    ("untag_resource", {"resourceArn": arn(IDS[2]), "tagKeys": []}),
    ("untag_resource", {"resourceArn": arn(IDS[2]), "tagKeys": [f"k{n}" for n in range(51)]}),
]


@pytest.mark.parametrize(("operation", "arguments"), BAD)
def test_what_is_malformed_is_a_bad_request(
    careless: Boto, operation: str, arguments: dict[str, Any]
) -> None:
    error = careless.error(operation, **arguments)
    assert (error["class"], error["code"], error["status"]) == (
        "BadRequestException",
        "BadRequestException",
        400,
    )
    assert error["message"]


ABSENT = "eia-" + "f" * 32


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("describe_accelerators", {"acceleratorIds": [IDS[0], ABSENT]}),
        ("describe_accelerator_offerings", {"locationType": "region", "acceleratorTypes": ["eia9.huge"]}),
        ("list_tags_for_resource", {"resourceArn": arn(ABSENT)}),
        ("tag_resource", {"resourceArn": arn(ABSENT), "tags": {"k": "v"}}),
        ("untag_resource", {"resourceArn": arn(ABSENT), "tagKeys": ["k"]}),
    ],
)
def test_what_is_not_there_is_not_found(boto: Boto, operation: str, arguments: dict[str, Any]) -> None:
    error = boto.error(operation, **arguments)
    assert (error["class"], error["status"]) == ("ResourceNotFoundException", 404)


def test_a_token_of_another_question_is_refused(boto: Boto) -> None:
    first = boto.call("describe_accelerators", maxResults=1)
    error = boto.error("describe_accelerators", acceleratorIds=IDS, nextToken=first["nextToken"])
    assert error["code"] == "BadRequestException"


def test_a_fault_of_ours_is_an_internal_error_without_our_text(boto: Boto, directory: Fragile) -> None:
    directory.is_broken = True
    try:
        error = boto.error("describe_accelerator_types")
    finally:
        directory.is_broken = False
    assert (error["class"], error["status"]) == ("InternalServerException", 500)
    assert "database" not in error["message"]


def test_a_wrong_secret_and_an_unknown_key_are_refused(
    url: str, start_boto: Callable[..., Boto], credentials: CredentialsFile
) -> None:
    key_id = credentials.path.read_text().split("aws_access_key_id = ")[1].split()[0]
    for known_id, code in (
        (key_id, "InvalidSignatureException"),
        ("AKIDOTHER", "UnrecognizedClientException"),
    ):
        boto = start_boto(url, AWS_ACCESS_KEY_ID=known_id, AWS_SECRET_ACCESS_KEY="guessed")
        error = boto.error("describe_accelerator_types")
        assert (error["code"], error["status"]) == (code, 403)


def test_the_key_can_be_changed_while_the_host_runs(start_boto: Callable[..., Boto], tmp_path: Any) -> None:
    file = CredentialsFile(tmp_path / "credentials")
    file.make()
    with serving(make_aws_app(MemoryDirectory(), file.find_secret)) as base:
        boto = start_boto(base, AWS_SHARED_CREDENTIALS_FILE=str(file.path))
        boto.call("describe_accelerator_types")
        file.path.unlink()
        assert boto.error("describe_accelerator_types")["status"] == 403
        file.make()
        assert boto.error("describe_accelerator_types")["status"] == 403
        start_boto(base, AWS_SHARED_CREDENTIALS_FILE=str(file.path)).call("describe_accelerator_types")
