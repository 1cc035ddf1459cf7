"""Run a container that sees the folders of the command that starts it, under their own names.

Use: python3 containers/mounted.py ENGINE run OPTION ... IMAGE kit challenge MODEL ...
DATA, MOUNTS and RECIPE come by the environment, so that no shell and no make reads what is in a name: DATA is one path,
MOUNTS are paths as a shell would split them. Only the standard library is needed.
"""

import csv
import io
import os
import shlex
import sys
from collections.abc import Mapping, Sequence

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


if __name__ == "__main__":
    line = command(sys.argv[1:], os.environ, os.getcwd())
    os.execvp(line[0], line)
