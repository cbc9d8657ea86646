"""The six operations through the unmodified command `aws`, over a real socket."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from elastic_inference.host.doors.aws import make_aws_app
from elastic_inference.host.doors.aws_directory import CredentialsFile
from tests.aws.conftest import MemoryDirectory, serving

IDS = [f"eia-{number:032x}" for number in range(1, 4)]
ARN = f"arn:aws:elastic-inference:local:000000000000:elastic-inference-accelerator/{IDS[0]}"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def url(credentials: CredentialsFile) -> Iterator[str]:
    directory = MemoryDirectory()
    for accelerator_id in IDS:
        directory.attach(accelerator_id)
    with serving(make_aws_app(directory, credentials.find_secret)) as base:
        yield base


def test_describing_from_the_command_line(run_aws: Run, url: str) -> None:
    types = json.loads(run_aws(url, "describe-accelerator-types").stdout)["acceleratorTypes"]
    assert types[0]["memoryInfo"] == {"sizeInMiB": 1024}
    finished = run_aws(url, "describe-accelerator-offerings", "--location-type", "availability-zone")
    assert json.loads(finished.stdout)["acceleratorTypeOfferings"][0]["location"] == "local-a"
    finished = run_aws(url, "describe-accelerators", "--max-items", "2", "--page-size", "1")
    answer = json.loads(finished.stdout)
    assert [one["acceleratorId"] for one in answer["acceleratorSet"]] == IDS[:2]
    finished = run_aws(url, "describe-accelerators", "--starting-token", answer["NextToken"])
    assert [one["acceleratorId"] for one in json.loads(finished.stdout)["acceleratorSet"]] == IDS[2:]


def test_tagging_from_the_command_line(run_aws: Run, url: str) -> None:
    assert (
        run_aws(url, "tag-resource", "--resource-arn", ARN, "--tags", "team=vision,cost=42").returncode == 0
    )
    assert run_aws(url, "untag-resource", "--resource-arn", ARN, "--tag-keys", "cost", "none").returncode == 0
    finished = run_aws(url, "list-tags-for-resource", "--resource-arn", ARN)
    assert json.loads(finished.stdout) == {"tags": {"team": "vision"}}


def test_an_error_from_the_command_line(run_aws: Run, url: str) -> None:
    finished = run_aws(url, "describe-accelerators", "--accelerator-ids", "eia-ffff")
    assert finished.returncode == 255
    assert "(ResourceNotFoundException) when calling the DescribeAccelerators operation" in finished.stderr
