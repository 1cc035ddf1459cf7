"""What a run has in AWS: made by name, found again by name and tag, and taken down to the last piece."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from common.aws.made import Made
from common.aws.plan import Plan
from common.errors import KitError
from common.storage.cloud import Answer, Cloud, DeniedError
from common.storage.s3 import SCHEME

TAG = "challenge-kit"
"""Every piece has it: with the run's name, or `shared`."""
SHARED = "shared"
PATH = "/challenge-kit/"
SECURITY_GROUP = "kit"
SWITCH = "deadline"
YOUNG = ("Invalid IAM Instance Profile", "iamInstanceProfile", "does not exist", "NoSuchEntity")
"""What AWS says of a profile, a role or a template that was made some seconds ago."""
LEFT_DAYS = 30  # what was uploaded from a folder is kept so long: a later run uploads it again
_NONE = ("NoSuchEntity", "InvalidLaunchTemplateName.NotFoundException", "ValidationError", "InvalidGroup.NotFound")


def title(name: str) -> str:
    """What a run's pieces are called."""
    return f"kit-{name}"


def tags(value: str) -> list[dict[str, str]]:
    return [{"Key": TAG, "Value": value}, {"Key": "Name", "Value": f"kit {value}"}]


def owner(found: list[dict[str, str]]) -> str | None:
    return next((tag["Value"] for tag in found if tag["Key"] == TAG), None)


def bucket_of(cloud: Cloud) -> str:
    return f"kit-{cloud.account}-{cloud.region}"


def ensure_bucket(made: Made, plan: Plan) -> None:
    """A private, encrypted bucket of the account's own in this region, made once."""
    cloud = made.cloud
    name = plan.bucket
    whose: dict[str, Any] = {"ExpectedBucketOwner": plan.account}
    try:
        is_there = cloud.ask("s3", "head_bucket", Bucket=name, absent=("404", "NoSuchBucket"), **whose)
    except DeniedError as error:
        raise KitError(
            f"The bucket {name} belongs to another account, or may not be read.", error.given,
            "Choose another --region, or ask whoever runs the account.",
        ) from error  # fmt: skip
    if is_there:
        found = cloud.ask("s3", "get_bucket_tagging", Bucket=name, absent=("NoSuchTagSet",), **whose).get("TagSet", [])
        _require_ours(f"The bucket {name}", owner(found), SHARED)
        return
    place: dict[str, Any] = {} if cloud.region == "us-east-1" else {
        "CreateBucketConfiguration": {"LocationConstraint": cloud.region}
    }  # fmt: skip
    made.ask(lambda _: _drop_bucket(cloud, name, plan.order.name), "s3", "create_bucket", Bucket=name, **place)
    cloud.ask("s3", "put_bucket_tagging", Bucket=name, Tagging={"TagSet": tags(SHARED)})  # else it is nobody's later
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    cloud.ask("s3", "put_public_access_block", Bucket=name, PublicAccessBlockConfiguration=closed)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    cloud.ask("s3", "put_bucket_encryption", Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    rules = [
        {"ID": "parts", "Status": "Enabled", "Filter": {"Prefix": ""},
         "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 2}},
        {"ID": "data", "Status": "Enabled", "Filter": {"Prefix": "data/"}, "Expiration": {"Days": LEFT_DAYS}},
    ]  # fmt: skip
    cloud.ask("s3", "put_bucket_lifecycle_configuration", Bucket=name, LifecycleConfiguration={"Rules": rules})


def _drop_bucket(cloud: Cloud, name: str, run: str) -> None:
    """Remove a bucket that this launch made and what it laid into it, unless another run has begun to use it."""
    keys = [row["Key"] for row in cloud.listed("s3", "list_objects_v2", "Contents", Bucket=name)]
    if all(key.startswith(("data/", f"runs/{run}/")) for key in keys):
        for key in keys:
            cloud.ask("s3", "delete_object", Bucket=name, Key=key)
        cloud.ask("s3", "delete_bucket", Bucket=name)


def ensure_role(made: Made, name: str) -> str:
    """A role that may do nothing yet, in a profile of the same name; returns the profile's ARN."""
    cloud, called = made.cloud, title(name)
    found = cloud.ask("iam", "get_role", RoleName=called, absent=_NONE)
    if found:
        _require_ours(f"The role {called}", owner(found["Role"].get("Tags", [])), name)
    else:
        service = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [service]})
        made.ask(
            lambda _: remove_role(cloud, name), "iam", "create_role", RoleName=called, Path=PATH, Tags=tags(name),
            AssumeRolePolicyDocument=trust,
        )  # fmt: skip
    profile = cloud.ask("iam", "get_instance_profile", InstanceProfileName=called, absent=_NONE)
    if not profile:
        profile = cloud.ask("iam", "create_instance_profile", InstanceProfileName=called, Path=PATH, Tags=tags(name))
        cloud.ask("iam", "add_role_to_instance_profile", InstanceProfileName=called, RoleName=called, passing=YOUNG)
        cloud.wait("iam", "instance_profile_exists", InstanceProfileName=called)
    return str(profile["InstanceProfile"]["Arn"])


def role_policy(plan: Plan, data: str, group_arn: str) -> dict[str, Any]:
    """What an instance may: read its data, read and write its own results, and empty its own group.

    data: s3://bucket/prefix of what it trains on, or empty.
    """
    own, bucket = f"runs/{plan.order.name}/", f"arn:aws:s3:::{plan.bucket}"
    empty = {"autoscaling:MaxSize": "0", "autoscaling:MinSize": "0"}

    def allow(actions: list[str], resource: list[str] | str, **condition: Any) -> dict[str, Any]:
        return {"Effect": "Allow", "Action": actions, "Resource": resource} | (
            {"Condition": condition} if condition else {}
        )

    statements = [
        allow(["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], f"{bucket}/{own}*"),
        allow(["s3:ListBucket"], bucket, StringLike={"s3:prefix": f"{own}*"}),
        allow(["autoscaling:UpdateAutoScalingGroup"], group_arn, NumericEquals=empty),
    ]
    if data:
        source, _, prefix = data.removeprefix(SCHEME).partition("/")
        read, plain = f"arn:aws:s3:::{source}", re.sub(r"[*?$]", r"${\g<0>}", prefix)  # else a policy's wildcards
        below = [plain, f"{plain}/*"] if prefix else ["*"]
        statements += [
            allow(["s3:GetObject"], [f"{read}/{part}" for part in below]),
            allow(["s3:ListBucket"], read, StringLike={"s3:prefix": below}),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def ensure_security_group(made: Made, plan: Plan) -> str:
    """A group that lets nothing in; the account's runs of a region share it."""
    cloud = made.cloud
    where = [{"Name": "group-name", "Values": [SECURITY_GROUP]}, {"Name": "vpc-id", "Values": [plan.vpc]}]
    for found in cloud.listed("ec2", "describe_security_groups", "SecurityGroups", Filters=where):
        _require_ours(f"The security group {SECURITY_GROUP}", owner(found.get("Tags", [])), SHARED)
        if found.get("IpPermissions"):
            raise KitError(
                f"The security group {found['GroupId']} lets connections in.",
                "The kit's own has no rule for that: somebody added one.",
                f"Remove its inbound rules: aws ec2 describe-security-groups --group-ids {found['GroupId']}",
            )
        return str(found["GroupId"])
    answer = made.ask(
        lambda answer: cloud.ask("ec2", "delete_security_group", GroupId=answer["GroupId"]),
        "ec2", "create_security_group", GroupName=SECURITY_GROUP, VpcId=plan.vpc,
        Description="challenge kit: nothing comes in",
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags(SHARED)}],
    )  # fmt: skip
    return str(answer["GroupId"])


def template_data(plan: Plan, profile_arn: str, security_group: str, user_data: str) -> dict[str, Any]:
    """What every instance of the run is: session-only metadata, an encrypted disk that goes with it, tags on all."""
    order = plan.order
    disk = {"VolumeSize": order.disk_gb, "VolumeType": "gp3", "Throughput": 500}  # MB/s: the image is unpacked on it
    disk |= {"Encrypted": True, "DeleteOnTermination": True}
    data: dict[str, Any] = {
        "ImageId": plan.image,
        "InstanceType": plan.machines[0].price.instance,
        "IamInstanceProfile": {"Arn": profile_arn},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        "BlockDeviceMappings": [{"DeviceName": plan.root_device, "Ebs": disk}],
        "SecurityGroupIds": [security_group],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags(order.name)} for kind in ("instance", "volume")],
        "UserData": user_data,
    }
    if order.capacity_block:
        target = {"CapacityReservationId": order.capacity_block}
        data["InstanceMarketOptions"] = {"MarketType": "capacity-block"}
        data["CapacityReservationSpecification"] = {"CapacityReservationTarget": target}
    return data


def ensure_template(made: Made, name: str, data: dict[str, Any]) -> str:
    """The run's launch template with `data` as its newest version; returns that version."""
    cloud, called = made.cloud, title(name)
    found = cloud.ask("ec2", "describe_launch_templates", LaunchTemplateNames=[called], absent=_NONE)
    if found.get("LaunchTemplates"):
        _require_ours(f"The launch template {called}", owner(found["LaunchTemplates"][0].get("Tags", [])), name)
        answer = cloud.ask("ec2", "create_launch_template_version", LaunchTemplateName=called, LaunchTemplateData=data)
        return str(answer["LaunchTemplateVersion"]["VersionNumber"])
    made.ask(
        lambda _: cloud.ask("ec2", "delete_launch_template", LaunchTemplateName=called),
        "ec2", "create_launch_template", LaunchTemplateName=called, LaunchTemplateData=data,
        TagSpecifications=[{"ResourceType": "launch-template", "Tags": tags(name)}],
    )  # fmt: skip
    return "1"


def group_request(plan: Plan, version: str) -> dict[str, Any]:
    """A group of none or one over all types and zones of the plan, which replaces an instance that ends."""
    name = plan.order.name
    template = {"LaunchTemplateName": title(name), "Version": version}
    request: dict[str, Any] = {
        "AutoScalingGroupName": title(name), "MinSize": 0, "MaxSize": 1, "DesiredCapacity": 0,
        "VPCZoneIdentifier": ",".join(plan.subnets), "CapacityRebalance": False, "HealthCheckGracePeriod": 300,
    }  # fmt: skip
    if plan.order.capacity_block:
        return request | {"LaunchTemplate": template}
    spread = {
        "OnDemandBaseCapacity": 0, "OnDemandPercentageAboveBaseCapacity": 0 if plan.order.spot else 100,
        "OnDemandAllocationStrategy": "prioritized", "SpotAllocationStrategy": "price-capacity-optimized",
    }  # fmt: skip
    types = [{"InstanceType": machine.price.instance} for machine in plan.machines]
    launch = {"LaunchTemplateSpecification": template, "Overrides": types}
    return request | {"MixedInstancesPolicy": {"LaunchTemplate": launch, "InstancesDistribution": spread}}


def ensure_group(made: Made, plan: Plan, version: str, ends: datetime) -> str:
    """The run's group, still empty, and AWS's own clock that empties it at `ends`; returns the group's ARN."""
    cloud, name = made.cloud, title(plan.order.name)
    request = group_request(plan, version) | {"passing": YOUNG}
    if find_group(cloud, plan.order.name):
        cloud.ask("autoscaling", "update_auto_scaling_group", **request)
    else:
        request["Tags"] = [tag | {"PropagateAtLaunch": True} for tag in tags(plan.order.name)]
        made.ask(lambda _: delete_group(cloud, name), "autoscaling", "create_auto_scaling_group", **request)
    cloud.ask(
        "autoscaling", "put_scheduled_update_group_action", AutoScalingGroupName=name, ScheduledActionName=SWITCH,
        StartTime=ends.astimezone(UTC), MinSize=0, MaxSize=0, DesiredCapacity=0,
    )  # fmt: skip
    group = find_group(cloud, plan.order.name)
    return str(group["AutoScalingGroupARN"])


def delete_group(cloud: Cloud, called: str) -> None:
    """A group and its instances, also where that is going on already."""
    busy = ("ScalingActivityInProgress", "ScalingActivityInProgressFault", "ValidationError")
    cloud.ask("autoscaling", "delete_auto_scaling_group", absent=busy, AutoScalingGroupName=called, ForceDelete=True)


def find_group(cloud: Cloud, name: str) -> Answer:
    """The run's group; empty where there is none. Raises KitError where another's has its name."""
    called = title(name)
    groups = cloud.ask("autoscaling", "describe_auto_scaling_groups", AutoScalingGroupNames=[called])[
        "AutoScalingGroups"
    ]
    if not groups:
        return {}
    group: Answer = groups[0]
    _require_ours(f"The Auto Scaling group {called}", owner(group.get("Tags", [])), name)
    return group


def remove_role(cloud: Cloud, name: str) -> None:
    """The run's role and profile, whatever of them is there."""
    called = title(name)
    found = cloud.ask("iam", "get_role", RoleName=called, absent=_NONE)
    if found and owner(found["Role"].get("Tags", [])) != name:
        return
    cloud.ask("iam", "remove_role_from_instance_profile", InstanceProfileName=called, RoleName=called, absent=_NONE)
    cloud.ask("iam", "delete_instance_profile", InstanceProfileName=called, absent=_NONE)
    if found:
        for policy in cloud.listed("iam", "list_role_policies", "PolicyNames", RoleName=called):
            cloud.ask("iam", "delete_role_policy", RoleName=called, PolicyName=policy, absent=_NONE)
        cloud.ask("iam", "delete_role", RoleName=called, absent=_NONE)


def _require_ours(what: str, found: str | None, name: str) -> None:
    if found != name:
        raise KitError(
            f"{what} is there already and is not the kit's: its tag {TAG} is {found or 'missing'}.",
            f"The kit uses only what it made and tagged {TAG}={name}.", "Pass another --name, or remove what is there.",
        )  # fmt: skip
