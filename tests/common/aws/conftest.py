"""An AWS of moto's, and what moto has not: the image's public parameter."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("boto3")
pytest.importorskip("moto")

from moto import mock_aws
from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.ssm.models import Parameter, ssm_backends

from common.aws import runs
from common.aws.lookup import IMAGE
from common.storage.cloud import Cloud

REGIONS = ("eu-west-1", "us-east-1")
ACCOUNT = "123456789012"
AMI = "ami-03cf127a"  # one of those that moto knows


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of nobody, and none of this machine's."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"), "CHALLENGE_KIT_CACHE": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(runs, "everywhere", lambda _: [*REGIONS])


@pytest.fixture
def aws(credentials: None) -> Iterator[None]:
    """An empty account."""
    with mock_aws():
        add_image()
        yield


def add_image() -> None:
    for region in REGIONS:
        now = datetime.datetime.now(datetime.UTC)
        image = Parameter(ACCOUNT, IMAGE, AMI, "String", None, None, None, now, 1, "text")
        ssm_backends[ACCOUNT][region]._parameters[IMAGE] = [image]


@pytest.fixture(scope="module")
def clients() -> Cloud:
    """One for all tests of a module: botocore reads a service's description for half a second."""
    return Cloud("us-east-1")


@pytest.fixture
def cloud(aws: None, request: pytest.FixtureRequest) -> Cloud:
    found: Cloud = request.getfixturevalue("clients")
    found._account = ""
    return found


def made(regions: tuple[str, ...] = REGIONS) -> dict[str, list[str]]:
    """All that the account has beyond what AWS gives to each, by kind."""
    roles = iam_backends[ACCOUNT]["aws"]
    found = {
        "buckets": [f"{name}: {sorted(bucket.keys)}" for name, bucket in s3_backends[ACCOUNT]["aws"].buckets.items()],
        "roles": [f"{role.name}: {sorted(role.policies)}" for role in roles.roles.values()],
        "profiles": [profile.name for profile in roles.instance_profiles.values()],
    }
    for region in regions:
        ec2 = ec2_backends[ACCOUNT][region]
        groups = [group for vpc in ec2.groups.values() for group in vpc.values() if group.name != "default"]
        found |= {
            f"templates {region}": sorted(ec2.launch_template_name_to_ids),
            f"security groups {region}": [group.name for group in groups],
            f"groups {region}": sorted(autoscaling_backends[ACCOUNT][region].autoscaling_groups),
            f"instances {region}": [each.id for each in ec2.all_instances() if each.state != "terminated"],
        }
    return {kind: names for kind, names in found.items() if names}
