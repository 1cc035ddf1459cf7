"""Run a container that sees the folders of the command that starts it, under their own names.

Use: python3 -m containers.mounted ENGINE run OPTION ... IMAGE kit challenge MODEL ...
DATA, MOUNTS and RECIPE come by the environment, so that no shell and no make reads what is in a name: DATA is one path,
or the name of a data set that was fetched here, MOUNTS are paths as a shell would split them. Only the standard library
is needed.
"""

import csv
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from containers.fetch import fetch

S3 = "s3://"
MARKER = "data-set.json"  # as challenges/data_sets/getting.py writes it
NAME = re.compile(r"(?=.{1,32}$)[a-z0-9]+(-[a-z0-9]+)*")
RUNS_INSIDE = "/opt/kit/runs"


def command(arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> list[str]:
    """The engine's command line with one mount per folder, read-only but for runs/, and the walk's data and recipe."""
    data, recipe = environment.get("DATA", ""), environment.get("RECIPE", "")
    shown = [
        os.path.join(folder, path) for path in (*([data] if data else []), *shlex.split(environment.get("MOUNTS", "")))
    ]
    mounts = [mount(os.path.join(folder, "runs"), RUNS_INSIDE, read_only=False)]
    mounts += [mount(os.path.normpath(path), os.path.normpath(path), read_only=True) for path in shown]
    place = list(arguments).index("run") + 1
    walk = [*([f"--data={os.path.normpath(shown[0])}"] if data else []), *([f"--recipe={recipe}"] if recipe else [])]
    return [*arguments[:place], *(part for value in mounts for part in ("--mount", value)), *arguments[place:], *walk]


def mount(source: str, target: str, *, read_only: bool) -> str:
    """A value of --mount, which is a line of CSV; --volume would split a path at its colons."""
    line = io.StringIO()
    fields = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def named(data: str, folder: str) -> str:
    """The path of DATA where it is the name of a data set that was fetched here; any other DATA stays.

    Raises SystemExit, with what to do, for what is spelt as a name and is none of what is here.
    """
    if not NAME.fullmatch(data) or os.path.exists(os.path.join(folder, data)):
        return data
    place = os.path.join(folder, "data", data)
    if os.path.isfile(os.path.join(place, MARKER)):
        with open(os.path.join(place, MARKER), encoding="utf-8") as stream:
            return os.path.join(place, json.load(stream)["root"])
    print(
        f"DATA={data} is no path here, and no data set of that name lies under data/.",
        "A container is shown what is here; a data set by name is fetched before.",
        f"If it is one: kit data get {shlex.quote(data)}", sep="\n", file=sys.stderr,
    )  # fmt: skip
    raise SystemExit(2)


def fetched(address: str, environment: Mapping[str, str]) -> str:
    """The folder or file of this machine that holds what lies at an address of S3, brought up to date by the AWS CLI.

    Raises SystemExit, with what to do, where the CLI is missing or refuses.
    """
    bucket, _, key = address.removeprefix(S3).partition("/")
    if shutil.which("aws", path=environment.get("PATH")) is None:
        print(
            f"DATA={address} lies in the bucket {bucket}, and reading it needs the AWS CLI, which is not installed.",
            "Amazon's Deep Learning AMIs have it.", "Install it: pip install awscli", sep="\n", file=sys.stderr,
        )  # fmt: skip
        raise SystemExit(2)
    home = environment.get("CHALLENGE_KIT_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "challenge-kit")
    place = os.path.join(
        os.path.abspath(home), "s3", f"{bucket}-{hashlib.sha256(address.encode()).hexdigest()[:8]}-cli"
    )
    last = os.path.basename(key.rstrip("/"))
    target = os.path.join(place, bucket if last in ("", ".", "..") else last)
    if not fetch(address, Path(target), environment):
        print(
            f"DATA={address} could not be fetched from the bucket {bucket}, or there is nothing.",
            "What the AWS CLI said stands above.", f"Look with: aws s3 ls {S3}{bucket}/", sep="\n", file=sys.stderr,
        )  # fmt: skip
        raise SystemExit(2)
    return target


if __name__ == "__main__":
    data = os.environ.get("DATA", "")
    found = fetched(data, os.environ) if data.startswith(S3) else named(data, os.getcwd())
    seen = {**os.environ, "DATA": found}
    line = command(sys.argv[1:], seen, os.getcwd())
    os.execvp(line[0], line)
