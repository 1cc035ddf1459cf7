"""A planned run, launched in an order that leaves nothing when it is cut off, followed to its end and brought home."""

import base64
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from common.aws import resources
from common.aws.plan import Plan
from common.errors import KitError
from common.files import stamps_digest
from common.machine.environment import ROOT
from common.storage.cloud import Cloud
from common.storage.s3 import SCHEME, restore
from common.terminal.console import say

GUEST = ROOT / "containers" / "guest.py"
USER_DATA_BYTES = 16_384  # EC2's limit, before base64
POLL_SECONDS = 5.0
OVER = ("done", "failed", "out of time")


def launch(cloud: Cloud, plan: Plan, console: Console) -> None:
    """Make all that the plan names, the instance last; a run of that name that is under way is left as it is."""
    name = plan.order.name
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
        data = _upload(cloud, plan, console)
        sent: dict[str, Any] = {"Bucket": plan.bucket, "Key": f"runs/{name}/code.tar.gz"}
        cloud.ask("s3", "put_object", **sent, Body=code)
        made.append(lambda: cloud.ask("s3", "delete_object", **sent))
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


def archive() -> tuple[bytes, str]:
    """The checkout's last commit as a compressed tar, and its name; raises KitError where there is no checkout."""
    git = ["git", "-C", str(ROOT)]
    found = subprocess.run([*git, "rev-parse", "--verify", "HEAD"], capture_output=True, text=True)
    if found.returncode:
        raise KitError(
            f"{ROOT} is no git checkout.", "An instance is sent the last commit, so that a run can be told by it.",
            "Clone the kit, and run from the clone.",
        )  # fmt: skip
    packed = subprocess.run([*git, "archive", "--format=tar.gz", "HEAD"], capture_output=True, check=True)
    return packed.stdout, found.stdout.strip()


def uncommitted() -> int:
    """How many files differ from the commit that an instance is sent."""
    status = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True)
    return len(status.stdout.splitlines())


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


def _upload(cloud: Cloud, plan: Plan, console: Console) -> str:
    """The address of the data: the one given, or that of a copy in the bucket; what is there is not sent again."""
    given = plan.order.data
    if not given or plan.listing:
        return given.rstrip("/")
    root = Path(given)
    files = sorted(each for each in root.rglob("*") if each.is_file()) if root.is_dir() else [root]
    base = root if root.is_dir() else root.parent
    stamps = [(str(each.relative_to(base)), each.stat().st_size, each.stat().st_mtime_ns) for each in files]
    prefix = f"data/{stamps_digest(stamps)[:16]}/{root.resolve().name}"
    there = {row["Key"]: row["Size"] for row in cloud.listed(
        "s3", "list_objects_v2", "Contents", Bucket=plan.bucket, Prefix=prefix)}  # fmt: skip
    missing = [
        (path, key) for path, (name, size, _) in zip(files, stamps, strict=True)
        if there.get(key := f"{prefix}/{name}" if root.is_dir() else prefix) != size
    ]  # fmt: skip
    if missing:
        say(console, f"Uploading {len(missing):,} of {len(files):,} files of {given} to {SCHEME}{plan.bucket}/{prefix}")
    for path, key in missing:
        cloud.upload(path, plan.bucket, key)
    return f"{SCHEME}{plan.bucket}/{prefix}"


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
