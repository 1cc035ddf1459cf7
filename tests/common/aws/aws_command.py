"""The few commands of the AWS CLI that a guest gives, answered by moto: `python aws_command.py [--region R] s3 …`.

Plain requests, since boto3 takes a second to import, and a guest gives a dozen commands.
"""

import email.utils
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

ENDPOINT = os.environ["AWS_ENDPOINT_URL"]


def asked(method: str, service: str, path: str, data: bytes | None = None) -> tuple[bytes, float]:
    """The answer's body, and the time of the object's last change."""
    scope = f"testing/20260101/us-east-1/{service}/aws4_request"
    headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none"}
    if service == "s3":  # moto would read a form out of it
        headers["Content-Type"] = "application/octet-stream"
    request = urllib.request.Request(f"{ENDPOINT}/{path}", data=data, method=method, headers=headers)
    with urllib.request.urlopen(request) as answer:
        changed = answer.headers.get("Last-Modified")
        return answer.read(), email.utils.parsedate_to_datetime(changed).timestamp() if changed else 0.0


def place(address: str) -> str:
    return urllib.parse.quote(address.removeprefix("s3://"))


def keys(address: str) -> Iterator[str]:
    """Addresses of all objects below a folder's."""
    bucket, _, prefix = address.removeprefix("s3://").rstrip("/").partition("/")
    query = urllib.parse.urlencode({"list-type": 2, "prefix": f"{prefix}/"})
    for found in ElementTree.fromstring(asked("GET", "s3", f"{bucket}?{query}")[0]).iter():
        if found.tag.endswith("}Key"):
            yield f"s3://{bucket}/{found.text}"


def get(address: str, target: Path) -> None:
    content, changed = asked("GET", "s3", place(address))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    os.utime(target, (changed, changed))


def copy(source: str, target: str, whole_folder: bool) -> None:
    if source == "-":
        asked("PUT", "s3", place(target), sys.stdin.buffer.read())
    elif target == "-":
        sys.stdout.buffer.write(asked("GET", "s3", place(source))[0])
    elif source.startswith("s3://") and whole_folder:
        for address in keys(source):
            get(address, Path(target) / address.removeprefix(source.rstrip("/") + "/"))
    elif source.startswith("s3://"):
        get(source, Path(target))
    elif whole_folder:
        for path in sorted(each for each in Path(source).rglob("*") if each.is_file()):
            asked("PUT", "s3", place(f"{target.rstrip('/')}/{path.relative_to(source)}"), path.read_bytes())
    else:
        asked("PUT", "s3", place(target), Path(source).read_bytes())


def main(words: list[str]) -> None:
    known = ("--recursive", "--only-show-errors", "--exact-timestamps", "--delete")
    flags = {word for word in words if word in known}
    plain = [word for word in words[2 * (words[0] == "--region") :] if word not in flags]
    if plain[:2] == ["s3api", "head-object"]:
        asked("HEAD", "s3", place(f"{plain[3]}/{plain[5]}"))
    elif plain[:2] in (["s3", "cp"], ["s3", "sync"]):
        copy(*plain[2:], whole_folder=plain[1] == "sync" or "--recursive" in flags)
    elif plain[:2] == ["s3", "rm"]:
        asked("DELETE", "s3", place(plain[2]))
    elif plain[:2] == ["autoscaling", "update-auto-scaling-group"]:
        given = dict(zip(plain[2::2], plain[3::2], strict=True))
        names = {flag: "".join(word.capitalize() for word in flag[2:].split("-")) for flag in given}
        fields = {names[flag]: value for flag, value in given.items()}
        body = {"Action": "UpdateAutoScalingGroup", "Version": "2011-01-01", **fields}
        asked("POST", "autoscaling", "", urllib.parse.urlencode(body).encode())
    elif plain[:2] != ["configure", "set"]:
        sys.exit(f"unknown command: {words}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except urllib.error.HTTPError as error:
        sys.exit(f"fatal error: An error occurred ({error.code}) when calling the operation")
