"""A planned run, launched in an order that leaves nothing when it is cut off, followed to its end and brought home."""

import base64
import functools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from common.aws import resources
from common.aws.plan import Plan
from common.errors import KitError
from common.machine.checkout import archive
from common.machine.environment import ROOT
from common.storage.cloud import Cloud
from common.storage.s3 import SCHEME, restore, upload
from common.terminal.console import say

GUEST = ROOT / "containers" / "guest.py"
USER_DATA_BYTES = 16_384  # EC2's limit, before base64
POLL_SECONDS = 5.0
OVER = ("done", "failed", "out of time")


def launch(cloud: Cloud, plan: Plan, console: Console) -> None:
    """Make all that the plan names, the instance last; a run of that name that is under way is left as it is."""
    order, name = plan.order, plan.order.name
    local = bool(order.data) and plan.listing is None
    group = resources.find_group(cloud, name)
    if group and group["DesiredCapacity"]:
        say(console, f"{name} is under way already.")
        return
    code, commit = archive()
    ends = datetime.now(UTC) + timedelta(hours=plan.hours)
    with resources.undone_on_error() as made:
        resources.ensure_bucket(cloud, plan, made)
        profile = resources.ensure_role(cloud, name, made)
        security_group = resources.ensure_security_group(cloud, plan, made)
        data = upload(cloud, plan.bucket, order.data, console) if local else order.data.rstrip("/")
        sent: dict[str, Any] = {"Bucket": plan.bucket, "Key": f"runs/{name}/code.tar.gz"}
        cloud.ask("s3", "put_object", **sent, Body=code)
        made.append(lambda: cloud.ask("s3", "delete_object", **sent))
        _lay_out(cloud, plan.bucket, name, made)
        script = user_data(guest_config(plan, data, commit, ends))
        encoded = base64.b64encode(script.encode()).decode()
        template = resources.template_data(plan, profile, security_group, encoded)
        version = resources.ensure_template(cloud, name, template, made)
        arn = resources.ensure_group(cloud, plan, version, ends, made)
        policy = json.dumps(resources.role_policy(plan, data, arn))
        cloud.ask("iam", "put_role_policy", RoleName=resources.title(name), PolicyName="run", PolicyDocument=policy)
        cloud.ask(
            "autoscaling", "update_auto_scaling_group", AutoScalingGroupName=resources.title(name), DesiredCapacity=1
        )
    say(console, f"{name} is launched, and ends by {ends:%Y-%m-%d %H:%M} UTC whatever happens here.")


def _lay_out(cloud: Cloud, bucket: str, name: str, made: list[Callable[[], object]]) -> None:
    """Objects that the guest asks for at first: its role learns of none that is missing, only that it may not look."""
    run: dict[str, Any] = {"Bucket": bucket}
    cloud.ask("s3", "put_object", **run, Key=f"runs/{name}/state.json", Body=json.dumps({"state": "starting"}))
    pointer = f"runs/{name}/latest.json"
    if not cloud.ask("s3", "head_object", **run, Key=pointer, absent=("404", "NoSuchKey")):
        cloud.ask("s3", "put_object", **run, Key=pointer, Body=json.dumps({"manifest": None}))
        for key in (f"runs/{name}/state.json", pointer):
            made.append(functools.partial(cloud.ask, "s3", "delete_object", **run, Key=key))


def guest_config(plan: Plan, data: str, commit: str, ends: datetime) -> dict[str, Any]:
    """What the guest is told."""
    order = plan.order
    single = plan.listing.single if plan.listing else Path(order.data).is_file()
    inside = f"/kit/data/{data.rstrip('/').rpartition('/')[2]}" if data else ""
    variables = [*([("DATA", inside)] if data else []), *order.variables, ("COMMIT", commit), ("CONTAINER", "1")]
    return {
        "name": order.name, "bucket": plan.bucket, "region": plan.region, "group": resources.title(order.name),
        "launch": ends.isoformat(), "ends": int(ends.timestamp()), "data": data, "single": single, "inside": inside,
        "root": "/kit", "nvme": "/opt/dlami/nvme", "off": ["shutdown", "-P"], "poll": POLL_SECONDS, "upload": 60,
        "closing": int(min(600, plan.hours * 360)),
        "command": ["make", order.target, *(f"{key}={value}" for key, value in variables)],
    }  # fmt: skip


def user_data(config: dict[str, Any]) -> str:
    """The guest with what it is told in place; raises KitError where EC2 would not take it."""
    source = GUEST.read_text(encoding="utf-8")
    script = source.replace('CONFIG = "{}"', f"CONFIG = {json.dumps(config)!r}", 1)
    if len(script.encode()) > USER_DATA_BYTES:
        raise KitError(
            f"What the instance is told has {len(script.encode()):,} bytes.", f"EC2 takes {USER_DATA_BYTES:,}.",
            "Shorten ARGS or DATA.",
        )  # fmt: skip
    return script


def state(cloud: Cloud, bucket: str, name: str) -> dict[str, Any]:
    """What the instance last said of itself; empty before it said anything."""
    answer = cloud.ask(
        "s3", "get_object", Bucket=bucket, Key=f"runs/{name}/state.json", absent=("NoSuchKey", "NoSuchBucket")
    )
    found: dict[str, Any] = json.loads(answer["Body"].read()) if answer else {}
    return found


def follow(
    cloud: Cloud, bucket: str, name: str, console: Console, wait: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Show the run's log as it grows until it is over; returns its last state, empty where it ended without one."""
    seen: dict[str, int] = {}
    told = ""
    while True:
        found, group = state(cloud, bucket, name), resources.find_group(cloud, name)
        for row in cloud.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=f"runs/{name}/log/"):
            start = seen.get(row["Key"], 0)
            if row["Size"] > start:
                part = cloud.ask("s3", "get_object", Bucket=bucket, Key=row["Key"], Range=f"bytes={start}-")[
                    "Body"
                ].read()
                seen[row["Key"]] = start + len(part)
                for line in part.decode("utf-8", "replace").splitlines():
                    say(console, line)
        if found.get("state") in OVER or not group or not (group["DesiredCapacity"] or group["Instances"]):
            return found
        hindrance = _hindrance(cloud, name) if not group["Instances"] else ""
        if hindrance and hindrance != told:
            say(console, f"waiting for an instance: {hindrance}")
            told = hindrance
        wait(POLL_SECONDS)


def _hindrance(cloud: Cloud, name: str) -> str:
    """Why the group has no instance, in AWS's words; empty where it has not tried or is about to succeed."""
    answer = cloud.ask(
        "autoscaling", "describe_scaling_activities", AutoScalingGroupName=resources.title(name), MaxRecords=1
    )
    latest = answer["Activities"][0] if answer["Activities"] else {}
    return str(latest.get("StatusMessage", "")) if latest.get("StatusCode") in ("Failed", "Cancelled") else ""


def bring_home(cloud: Cloud, bucket: str, name: str, console: Console) -> Path | None:
    """Copy what the run left to runs/aws-NAME; None where it left nothing."""
    target = Path("runs") / f"aws-{name}"
    count = restore(cloud, bucket, f"runs/{name}", target)
    if not count:
        return None
    say(console, f"Result: {target}, {count:,} files; it stays in {SCHEME}{bucket}/runs/{name}/ too")
    return target
