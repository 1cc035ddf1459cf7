"""What runs, in all regions, and the end of it."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console

from common.aws import resources
from common.aws.launch import state
from common.errors import KitError
from common.machine.prices import PriceTable
from common.storage.cloud import Cloud, DeniedError
from common.storage.s3 import SCHEME
from common.terminal.console import say

STORED_USD_PER_GB = 0.023  # S3's standard class, a month, aws.amazon.com/s3/pricing
GROUP_TRIES, GROUP_SECONDS = 60, 5.0
ALIVE = ["pending", "running", "stopping", "shutting-down"]
SHELL_ACTIONS = [
    "ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel",
]  # fmt: skip
"""What Session Manager's agent asks for; AWS lets none of it be narrowed to a resource."""


@dataclass(frozen=True)
class Run:
    """A run that has something in AWS, and what it has there."""

    name: str
    region: str
    pieces: tuple[str, ...]
    instances: tuple[dict[str, Any], ...]


def everywhere(cloud: Cloud) -> list[str]:
    return sorted(row["RegionName"] for row in cloud.ask("ec2", "describe_regions")["Regions"])


def find_runs(cloud: Cloud, console: Console) -> list[Run]:
    """Every run with a piece left, found by tag in all regions; roles, which have no region, by their path.

    Regions that the account closes, as those of courses do, are told; raises DeniedError for the own one.
    """
    pieces: dict[tuple[str, str], list[str]] = {}
    instances: dict[tuple[str, str], list[dict[str, Any]]] = {}
    closed: list[str] = []
    places = [cloud.at(region) for region in everywhere(cloud)]
    for place in places:  # clients are made one by one, and asked all at once
        for service in ("ec2", "autoscaling"):
            place.client(service)
    with ThreadPoolExecutor(16) as pool:
        for place, found in zip(places, pool.map(_pieces, places), strict=True):
            if isinstance(found, DeniedError):
                closed.append(place.region)
                if place.region == cloud.region:
                    raise found
                continue
            for name, piece, instance in found:
                pieces.setdefault((name, place.region), []).append(piece)
                instances.setdefault((name, place.region), []).extend([instance] if instance else [])
    if closed:
        say(console, f"Closed to these credentials, and not looked into: {', '.join(closed)}")
    placed = {name for name, _ in pieces}
    for role in cloud.listed("iam", "list_roles", "Roles", PathPrefix=resources.PATH):
        name = role["RoleName"].removeprefix("kit-")
        if name not in placed:
            pieces[name, cloud.region] = [f"role {role['RoleName']}"]
    return [
        Run(name, region, tuple(parts), tuple(instances.get((name, region), ())))
        for (name, region), parts in sorted(pieces.items())
    ]


def _pieces(cloud: Cloud) -> list[tuple[str, str, dict[str, Any] | None]] | DeniedError:
    try:
        return list(_each_piece(cloud))
    except DeniedError as error:
        return error


def _each_piece(cloud: Cloud) -> Iterator[tuple[str, str, dict[str, Any] | None]]:
    """(run, what, the instance where it is one) of a region."""
    tagged = [{"Name": "tag-key", "Values": [resources.TAG]}]
    for group in cloud.listed("autoscaling", "describe_auto_scaling_groups", "AutoScalingGroups", Filters=tagged):
        yield str(resources.owner(group["Tags"])), f"group {group['AutoScalingGroupName']}", None
    for template in cloud.listed("ec2", "describe_launch_templates", "LaunchTemplates", Filters=tagged):
        yield str(resources.owner(template["Tags"])), f"template {template['LaunchTemplateName']}", None
    alive = [*tagged, {"Name": "instance-state-name", "Values": ALIVE}]
    for reservation in cloud.listed("ec2", "describe_instances", "Reservations", Filters=alive):
        for instance in reservation["Instances"]:
            yield str(resources.owner(instance["Tags"])), f"instance {instance['InstanceId']}", instance
    for volume in cloud.listed("ec2", "describe_volumes", "Volumes", Filters=tagged):
        yield str(resources.owner(volume["Tags"])), f"volume {volume['VolumeId']}", None


def find_run(cloud: Cloud, name: str, console: Console) -> Run:
    """Raises KitError where no run has that name."""
    found = find_runs(cloud, console)
    for run in found:
        if run.name == name:
            return run
    known = ", ".join(run.name for run in found) or "none"
    raise KitError(f"There is no run {name} in AWS.", f"There are: {known}.", "List them with: kit aws ls")


def row(cloud: Cloud, run: Run, table: PriceTable, now: datetime) -> tuple[str, ...]:
    """Name, region, state, instance, age and cost so far at most, for a table."""
    said = state(cloud.at(run.region), run.name).get("state", "not begun")
    if not run.instances:
        return run.name, run.region, said, "none", "", ""
    hours = sum((now - each["LaunchTime"]).total_seconds() / 3600 for each in run.instances)
    first = run.instances[0]["InstanceType"]
    usd = f"${hours * table.prices[first].usd_per_hour:.2f}" if first in table.prices else "unknown"
    return run.name, run.region, said, f"{run.instances[0]['InstanceId']} {first}", f"{hours:.1f} h", usd


def open_shell(cloud: Cloud, run: Run) -> list[str]:
    """Let the run's role be reached by Session Manager; returns the command that opens a shell."""
    if not run.instances:
        raise KitError(f"{run.name} has no instance now.", "A shell needs one that runs.", "See: kit aws ls")
    allowed = {"Effect": "Allow", "Action": SHELL_ACTIONS, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    cloud.ask("iam", "put_role_policy", RoleName=resources.title(run.name), PolicyName="shell", PolicyDocument=document)
    return ["aws", "ssm", "start-session", "--region", run.region, "--target", run.instances[0]["InstanceId"]]


def take_down(cloud: Cloud, run: Run, console: Console, wait: Callable[[float], None] = time.sleep) -> None:
    """Remove all that a run has but its results; instances first, and their end and the group's are waited for."""
    here, called = cloud.at(run.region), resources.title(run.name)
    if resources.find_group(here, run.name):
        resources.delete_group(here, called)
    numbers = [each["InstanceId"] for each in run.instances]
    if numbers:
        here.ask("ec2", "terminate_instances", InstanceIds=numbers)
        here.wait("ec2", "instance_terminated", InstanceIds=numbers)
    for _ in range(GROUP_TRIES):  # AWS removes a group some minutes after its last instance
        if not resources.find_group(here, run.name):
            break
        wait(GROUP_SECONDS)
    if any(piece == f"template {called}" for piece in run.pieces):
        here.ask("ec2", "delete_launch_template", LaunchTemplateName=called)
    resources.remove_role(here, run.name)
    say(console, f"{run.name}: {', '.join(run.pieces)}: gone")


def sweep(cloud: Cloud, regions: list[str], console: Console) -> None:
    """Remove the security groups of regions without a run, then tell what is left there: results, or nothing."""
    runs = find_runs(cloud, console)
    for region in regions:
        here, busy = cloud.at(region), [run for run in runs if run.region == region]
        tagged = [{"Name": f"tag:{resources.TAG}", "Values": [resources.SHARED]}]
        for group in [] if busy else here.listed("ec2", "describe_security_groups", "SecurityGroups", Filters=tagged):
            held = ("DependencyViolation",)  # by the network card of an instance that has just ended
            here.ask("ec2", "delete_security_group", GroupId=group["GroupId"], passing=held)
        bucket = resources.bucket_of(here)
        if here.ask("s3", "head_bucket", Bucket=bucket, absent=("404", "NoSuchBucket")):
            size = sum(row["Size"] for row in here.listed("s3", "list_objects_v2", "Contents", Bucket=bucket))
            month = f"{size / 1e9:.2f} GB, some ${size / 1e9 * STORED_USD_PER_GB:.2f} a month"
            to_delete = f"To delete all: aws s3 rb --force {SCHEME}{bucket}"
            say(console, f"Results and data stay in {SCHEME}{bucket}: {month}. {to_delete}")
    left = [f"{run.name} ({piece})" for run in runs for piece in run.pieces]
    say(console, f"Left in {len(everywhere(cloud))} regions: {', '.join(left) or 'nothing'}.")
