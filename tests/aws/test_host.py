"""Amazon's API of a real host with real accelerators."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from elastic_inference.host.accounts.catalogue import AcceleratorType
from elastic_inference.host.devices import Device
from elastic_inference.host.doors.app import make_app
from elastic_inference.host.host import Host
from elastic_inference.host.settings import HostSettings
from tests.aws.conftest import Boto, serving

GIB = 1024**3
DEVICE = Device("cpu:0", "cpu", "a CPU", 2.0, 4 * GIB, {"fp32": 1.5}, "given by the test")
SMALL = AcceleratorType("small", 512 * 1024**2, device_share=0.25)


@pytest.fixture
def host() -> Iterator[Host]:
    parent = Path(tempfile.mkdtemp(prefix="ei-"))
    parent.chmod(0o755)  # accelerators are other users where the tests run as root
    first_port = random.randrange(20000, 32000, 20)
    ports = range(first_port, first_port + 20)
    try:
        with Host(
            HostSettings(parent / "state", (DEVICE,), user_types=(SMALL,), ports=ports, num_spares=0)
        ) as opened:
            yield opened
    finally:
        shutil.rmtree(parent)


def test_boto3_describes_and_tags_what_is_attached_here(host: Host, start_boto: Callable[..., Boto]) -> None:
    record, _ = host.service.attach("small", "camera 7")
    accelerator_id = record.accelerator_id
    arn = f"arn:aws:elastic-inference:local:000000000000:elastic-inference-accelerator/{accelerator_id}"
    with serving(make_app(host)) as url:
        file = host.folder.path / "aws.credentials"
        assert file.stat().st_mode & 0o077 == 0
        boto = start_boto(f"{url}/aws", AWS_SHARED_CREDENTIALS_FILE=str(file))
        names = {
            t["acceleratorTypeName"] for t in boto.call("describe_accelerator_types")["acceleratorTypes"]
        }
        assert {"small", "eia1.medium", "eia2.xlarge", "cpu.whole"} <= names
        offered = boto.call("describe_accelerator_offerings", locationType="region")[
            "acceleratorTypeOfferings"
        ]
        fitting = {one["acceleratorType"] for one in offered}
        assert {"small", "eia1.medium", "eia2.medium"} <= fitting
        assert not {"eia1.xlarge", "eia2.xlarge"} & fitting  # 4 TFLOPS, and the device has 1.5
        (listed,) = boto.call("describe_accelerators")["acceleratorSet"]
        assert listed == {
            "acceleratorId": accelerator_id,
            "acceleratorType": "small",
            "acceleratorHealth": {"status": "healthy"},
            "availabilityZone": "local-a",
            "attachedResource": "arn:aws:elastic-inference:local:000000000000:client/camera 7",
        }
        boto.call("tag_resource", resourceArn=arn, tags={"team": "vision", "floor": "2"})
        boto.call("untag_resource", resourceArn=arn, tagKeys=["floor"])
        assert boto.call("list_tags_for_resource", resourceArn=arn)["tags"] == {"team": "vision"}
        assert host.store.get_tags(accelerator_id) == {"team": "vision"}
        host.service.detach(accelerator_id)
        assert boto.error("list_tags_for_resource", resourceArn=arn)["code"] == "ResourceNotFoundException"
        assert boto.call("describe_accelerators")["acceleratorSet"] == []
