"""What outlives a server's owner by a moment: ends whatever the owner left behind, then removes the private folder.

Started beside every server as a program of its own, with the standard library alone: a supervisor that is killed cannot
tidy up after itself. It ends when it is told to (SIGTERM) or when its parent has gone.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
VARIABLE = "CHALLENGE_KIT_WORKSPACE"
"""In the environment of every process of a server, which its stubs inherit: the name of its folder."""
POLL_SECONDS = 0.25


def sweep(folder: Path) -> None:
    """End every process that belongs to the folder, and remove its shared memory and the folder itself."""
    end_processes(folder.name)
    shutil.rmtree(folder, ignore_errors=True)  # what it links to stays: links are removed, not followed


def end_processes(name: str) -> None:
    """Kill what carries the folder's name, and remove the shared memory that is named after it."""
    for _ in range(20):  # a process that starts another while it is being killed is found by the next round
        running = list(processes_of(name))
        if not running:
            break
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    for region in SHARED_MEMORY.glob(f"{name}_*"):
        region.unlink(missing_ok=True)


def processes_of(name: str) -> Iterator[int]:
    """Ids of this user's live processes that carry the folder's name in their environment."""
    wanted = f"{VARIABLE}={name}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # another user's, or one that has just ended
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    yield int(entry.name)


def watch(parent: int, folder: Path) -> None:
    """Wait for the parent's end, however it comes, then sweep."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    sweep(folder)


if __name__ == "__main__":
    watch(int(sys.argv[1]), Path(sys.argv[2]))
