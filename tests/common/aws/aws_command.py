"""The few commands of the AWS CLI that a guest gives, answered by boto3: `python aws_command.py --region R s3 cp …`."""

import os
import sys
from pathlib import Path

import boto3
from botocore.exceptions import ClientError


def parts(address: str) -> tuple[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def get(s3, bucket: str, key: str, target: Path) -> None:
    answer = s3.get_object(Bucket=bucket, Key=key)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(answer["Body"].read())
    changed = int(answer["LastModified"].timestamp())
    os.utime(target, (changed, changed))


def copy(s3, source: str, target: str, whole_folder: bool) -> None:
    if source == "-":
        s3.put_object(Bucket=parts(target)[0], Key=parts(target)[1], Body=sys.stdin.buffer.read())
    elif target == "-":
        bucket, key = parts(source)
        sys.stdout.buffer.write(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    elif source.startswith("s3://") and whole_folder:
        bucket, prefix = parts(source)
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/"):
            for row in page.get("Contents", ()):
                get(s3, bucket, row["Key"], Path(target) / row["Key"].removeprefix(prefix.rstrip("/") + "/"))
    elif source.startswith("s3://"):
        get(s3, *parts(source), Path(target))
    elif whole_folder:
        bucket, prefix = parts(target)
        for path in sorted(each for each in Path(source).rglob("*") if each.is_file()):
            s3.upload_file(str(path), bucket, f"{prefix.rstrip('/')}/{path.relative_to(source)}")
    else:
        s3.upload_file(source, *parts(target))


def main(words: list[str]) -> None:
    region, words = words[1], words[2:]
    flags = {word for word in words if word in ("--recursive", "--only-show-errors", "--exact-timestamps")}
    plain = [word for word in words if word not in flags]
    s3 = boto3.client("s3", region_name=region)
    if plain[:2] in (["s3", "cp"], ["s3", "sync"]):
        copy(s3, *plain[2:], whole_folder=plain[1] == "sync" or "--recursive" in flags)
    elif plain[:2] == ["s3", "rm"]:
        s3.delete_object(Bucket=parts(plain[2])[0], Key=parts(plain[2])[1])
    elif plain[:2] == ["autoscaling", "update-auto-scaling-group"]:
        given = dict(zip(plain[2::2], plain[3::2], strict=True))
        boto3.client("autoscaling", region_name=region).update_auto_scaling_group(
            AutoScalingGroupName=given["--auto-scaling-group-name"], MinSize=int(given["--min-size"]),
            MaxSize=int(given["--max-size"]), DesiredCapacity=int(given["--desired-capacity"]),
        )  # fmt: skip
    elif plain[:2] != ["configure", "set"]:
        sys.exit(f"unknown command: {words}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ClientError as error:
        code = error.response["Error"]["Code"]
        sys.exit(f"fatal error: An error occurred ({'404' if code == 'NoSuchKey' else code})")
