"""Bring a folder or an object of S3 to this machine, for what runs before the kit is installed.

Use: python3 -m containers.fetch s3://BUCKET/KEY TARGET [--download]
What is there already and unchanged is not copied again; what the bucket has no more is removed. Each file gets its
object's time, by which the kit tells data apart. A folder of many files comes by s5cmd where that is on the path or may
be downloaded, else by the AWS CLI. Only the standard library is needed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

DOWNLOAD = "--download"
S5CMD = "https://github.com/peak/s5cmd/releases/download/v2.3.0/s5cmd_2.3.0_linux_amd64.deb"
S5CMD_SHA256 = "81d02a17a13797dc5949adb99734ad4217d005638a7827f36d435945527b2e69"  # the release's s5cmd_checksums.txt
SECONDS = 60  # without an answer


def fetch(address: str, target: Path, environment: Mapping[str, str], *, download: bool = False) -> bool:
    """Bring what lies at an address up to date in `target`, a file or a folder; returns whether something is there.

    download: whether s5cmd may come from its release where it is missing. What the commands say goes to stderr.
    """
    bucket, _, key = address.removeprefix("s3://").rstrip("/").partition("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    head = ["aws", "s3api", "head-object", "--bucket", bucket, "--key", key]
    if key and subprocess.run(head, capture_output=True, env=environment).returncode == 0:
        copy = ["aws", "s3", "cp", "--only-show-errors", f"s3://{bucket}/{key}", str(target)]
        return subprocess.run(copy, env=environment).returncode == 0 and target.is_file()
    folder = f"s3://{bucket}/{key}/" if key else f"s3://{bucket}/"
    if not by_s5cmd(folder, target, environment, download):
        sync = [
            "aws",
            "s3",
            "sync",
            "--delete",
            "--exact-timestamps",
            "--only-show-errors",
            folder.rstrip("/"),
            str(target),
        ]
        if subprocess.run(sync, env=environment).returncode:
            return False
    return target.is_dir() and any(target.iterdir())


def by_s5cmd(folder: str, target: Path, environment: Mapping[str, str], download: bool) -> bool:
    """Bring a folder by s5cmd; False where that is not to be had or does not do it, which is told."""
    if {"*", "?"} & {*folder}:  # which s5cmd would take as patterns
        return False
    with tempfile.TemporaryDirectory(prefix="s5cmd-") as place:
        try:
            tool = shutil.which("s5cmd", path=environment.get("PATH")) or (downloaded(Path(place)) if download else "")
            if not tool:
                return False
            options = {"check": True, "env": environment, "stdout": subprocess.PIPE}
            subprocess.run([tool, "--log", "error", "sync", "--delete", f"{folder}*", f"{target}/"], **options)
            listing = subprocess.run([tool, "--json", "ls", f"{folder}*"], **options).stdout
            times = {
                row["key"].removeprefix(folder): row["last_modified"] for row in map(json.loads, listing.splitlines())
            }
            for name, told in times.items():
                if not name.endswith("/"):
                    changed = datetime.fromisoformat(told).timestamp()
                    os.utime(target / name, (changed, changed))
            if not times:
                raise ValueError("it lists nothing")
        except (OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
            print(f"s5cmd did not bring {folder}, the AWS CLI does: {error}", file=sys.stderr)
            return False
    return True


def downloaded(place: Path, address: str = S5CMD, expected: str = S5CMD_SHA256) -> str:
    """The release's s5cmd in `place`; raises OSError where it cannot be had, ValueError where it is another file."""
    package = place / "s5cmd.deb"
    with urllib.request.urlopen(address, timeout=SECONDS) as answer:
        package.write_bytes(answer.read())
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(f"{address} has the SHA-256 {found}, not {expected}")
    subprocess.run(["dpkg", "-x", str(package), str(place)], check=True, capture_output=True)
    return str(place / "usr" / "bin" / "s5cmd")


if __name__ == "__main__":
    given = [word for word in sys.argv[1:] if word != DOWNLOAD]
    if not fetch(given[0], Path(given[1]), os.environ, download=DOWNLOAD in sys.argv):
        sys.exit(f"{given[0]} could not be fetched, or there is nothing: see above.")
