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
from common.aws.made import Made
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


def is_under_way(cloud: Cloud, name: str) -> bool:
    """Whether a run of that name is; raises KitError while what it had is still being removed."""
    group = resources.find_group(cloud, name)
    if group.get("Status"):
        raise KitError(
            f"AWS is still removing the group {resources.title(name)}: {group['Status']}.",
            "A name is free again some minutes after its instance ended.", "Wait, or pass another --name.",
        )  # fmt: skip
    return bool(group and group["DesiredCapacity"])


def launch(cloud: Cloud, plan: Plan, console: Console) -> None:
    """Make all that the plan names, the instance last; what there was of the run is used again, its results too."""
    order, name = plan.order, plan.order.name
    local = bool(order.data) and plan.listing is None
    code, commit = archive()
    ends = datetime.now(UTC) + timedelta(hours=plan.hours)
    made = Made(cloud)
    with made.undone_on_error(console):
        resources.ensure_bucket(made, plan)
        data = upload(cloud, plan.bucket, order.data, console) if local else order.data.rstrip("/")
        profile = resources.ensure_role(made, name)
        security_group = resources.ensure_security_group(made, plan)
        _lay_out(made, plan, code)
        script = user_data(guest_config(plan, data, commit, ends))
        encoded = base64.b64encode(script.encode()).decode()
        template = resources.template_data(plan, profile, security_group, encoded)
        version = resources.ensure_template(made, name, template)
        arn = resources.ensure_group(made, plan, version, ends)
        policy = json.dumps(resources.role_policy(plan, data, arn))
        allowed: dict[str, Any] = {"RoleName": resources.title(name), "PolicyName": "run", "PolicyDocument": policy}
        cloud.ask("iam", "put_role_policy", passing=resources.YOUNG, **allowed)
        cloud.ask(
            "autoscaling", "update_auto_scaling_group", AutoScalingGroupName=resources.title(name), DesiredCapacity=1
        )
    say(console, f"{name} is launched, and ends by {ends:%Y-%m-%d %H:%M} UTC whatever happens here.")


def _lay_out(made: Made, plan: Plan, code: bytes) -> None:
    """The code, and what the guest asks for at first: its role learns of nothing that is missing that it is missing."""
    cloud, run, absent = made.cloud, f"runs/{plan.order.name}", ("404", "NoSuchKey")
    laid = {"code.tar.gz": code, "state.json": b'{"state": "starting"}', "latest.json": b'{"manifest": null}'}
    again = cloud.ask("s3", "head_object", Bucket=plan.bucket, Key=f"{run}/latest.json", absent=absent)
    for name, body in laid.items():
        place: dict[str, Any] = {"Bucket": plan.bucket, "Key": f"{run}/{name}"}
        if not again:
            undo = functools.partial(cloud.ask, "s3", "delete_object", **place)
            made.ask(lambda _, undo=undo: undo(), "s3", "put_object", Body=body, **place)  # type: ignore[misc]
        elif name != "latest.json":  # which says what an earlier launch has reached
            cloud.ask("s3", "put_object", Body=body, **place)


def guest_config(plan: Plan, data: str, commit: str, ends: datetime) -> dict[str, Any]:
    """What the guest is told."""
    order = plan.order
    inside = f"/kit/data/{data.rstrip('/').rpartition('/')[2]}" if data else ""
    variables = [*([("DATA", inside)] if data else []), *order.variables, ("COMMIT", commit), ("CONTAINER", "1")]
    has_nvme = any(machine.nvme_gb for machine in plan.machines)
    return {
        "name": order.name, "bucket": plan.bucket, "region": plan.region, "group": resources.title(order.name),
        "launch": ends.isoformat(), "ends": int(ends.timestamp()), "data": data, "inside": inside,
        "root": "/kit", "nvme": "/opt/dlami/nvme", "nvme_seconds": 120 if has_nvme else 0, "off": ["shutdown", "-P"],
        "poll": POLL_SECONDS, "upload": 60, "closing": int(min(600, plan.hours * 360)),
        "attempts": 1 if order.measures else 3,  # a measurement that failed was made beside others that did not
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


def state(cloud: Cloud, name: str) -> dict[str, Any]:
    """What the instance last said of itself; empty before it said anything."""
    bucket, absent = resources.bucket_of(cloud), ("NoSuchKey", "NoSuchBucket")
    answer = cloud.ask("s3", "get_object", Bucket=bucket, Key=f"runs/{name}/state.json", absent=absent)
    found: dict[str, Any] = json.loads(answer["Body"].read()) if answer else {}
    return found


def follow(cloud: Cloud, name: str, console: Console, wait: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Show the run's log as it grows until it is over; returns its last state, empty where it ended without one."""
    bucket, seen, told = resources.bucket_of(cloud), dict[str, int](), ""
    while True:
        found, group = state(cloud, name), resources.find_group(cloud, name)
        for row in cloud.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=f"runs/{name}/log/"):
            start = seen.get(row["Key"], 0)
            if row["Size"] > start:
                asked: dict[str, Any] = {"Bucket": bucket, "Key": row["Key"], "Range": f"bytes={start}-"}
                part = cloud.ask("s3", "get_object", **asked)["Body"].read()
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


def bring_home(cloud: Cloud, name: str, console: Console) -> Path | None:
    """Copy what the run left to runs/aws-NAME; None where it left nothing."""
    target, bucket = Path("runs") / f"aws-{name}", resources.bucket_of(cloud)
    count = restore(cloud, bucket, f"runs/{name}", target)
    if not count:
        return None
    say(console, f"Result: {target}, {count:,} files; it stays in {SCHEME}{bucket}/runs/{name}/ too")
    return target
