"""The checkout that the kit runs from, as it is sent elsewhere: by its last commit."""

import subprocess

from common.errors import KitError
from common.machine.environment import ROOT


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
    """How many files differ from the last commit."""
    status = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True)
    return len(status.stdout.splitlines())
