"""The private folder of one server, where everything lies that Triton is told by name: its own name no shell minds.

Triton hands the paths of models and of its stub to a shell, so that a folder of the user's with a space, a quote or
`$(...)` in its name must never reach it: the workspace holds links instead.
"""

import contextlib
import fcntl
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from common.errors import ServingError
from common.serving import watchdog
from common.serving.payload import ENGINES, Payload, libpython_folder

PREFIX = "challenge-kit-"
SAFE_PATH = re.compile(r"/[A-Za-z0-9_./-]*")
"""Paths that mean themselves to a shell, and in lists that are separated by colons, commas or semicolons."""
GIVE_BACK = {f"MALLOC_{name}_THRESHOLD_": str(2**18) for name in ("MMAP", "TRIM")}
"""Lets glibc return large blocks to the system at once; as it is, a request's memory stays with the server."""
_PROJECT = Path(__file__).parents[2]
_BACKENDS = Path(__file__).parent / "backends"


@dataclass
class Workspace:
    """A folder that its process holds locked; it goes with `close`, and with the process however that ends.

    Left-overs of machines that lost power are removed when the next one opens.
    """

    path: Path | None = None
    _lock: TextIO | None = field(default=None, repr=False)
    _watchdog: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def open(self) -> Path:
        """The folder, made by the first call; ServingError where no folder for temporary files has a plain name."""
        if self.path is None:
            base = _base()
            _sweep_leftovers(base)
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))  # mode 0700
            self._lock = (self.path / "unlocked").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            (self.path / "unlocked").rename(self.path / "lock")  # which is never seen without its holder
            self._watchdog = subprocess.Popen(
                [sys.executable, "-I", "-S", watchdog.__file__, str(os.getpid()), str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C and the end of the terminal are the owner's
                cwd="/",
            )
        return self.path

    @property
    def name(self) -> str:
        """Marks the server's processes and its shared memory."""
        return self.open().name

    @property
    def models(self) -> Path:
        """The folder that Triton serves."""
        return self.open() / "models"

    @property
    def server(self) -> Path:
        return self.open() / "triton" / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.open() / "backends"

    def furnish(self, repository: Path, payload: Payload) -> None:
        """Link everything that the server is told by name, anew for every start."""
        path = self.open()
        _link(path / "triton", payload.folder)
        _link(path / "python", libpython_folder())
        # A copy, since Triton loads no library from outside of the folder of its backend.
        shutil.copytree(payload.backends / "python", self.backends / "python", dirs_exist_ok=True)
        # The stub's Python is isolated and heeds no PYTHONPATH; the folder of its backend is on its path.
        for package in ("common", "challenges"):
            _link(self.backends / "python" / package, _PROJECT / package)
        for engine in ENGINES:
            _link(self.backends / engine / "model.py", _BACKENDS / engine / "model.py")
        for config in repository.glob("*/config.pbtxt"):
            self._furnish_model(config.parent)

    def _furnish_model(self, folder: Path) -> None:
        """Folders of its own with links to the files, so that nothing is written beside them."""
        for part in folder.rglob("*"):
            link = self.models / folder.name / part.relative_to(folder)
            if part.is_dir():
                link.mkdir(parents=True, exist_ok=True)
            elif "__pycache__" not in part.parts:
                _link(link, part)
                if link.suffix == ".py":
                    py_compile.compile(str(link))  # else the stub would, and a polling server would see a change

    def reload(self, model: str) -> None:
        """Let a polling server load the model anew: something in its folder has changed."""
        (self.models / model / "reload").write_text(os.urandom(8).hex())

    def environment(self) -> dict[str, str]:
        """For the server and its stubs, which find the running Python by PATH."""
        path = self.open()
        return {
            **os.environ,
            **GIVE_BACK,
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            # Without the running Python's own folder the stub takes whichever libpython it finds.
            "LD_LIBRARY_PATH": f"{path / 'triton' / 'lib'}:{path / 'python'}",
            watchdog.VARIABLE: path.name,
        }

    def end_processes(self) -> None:
        """End what a stopped server left of its stubs and its shared memory."""
        watchdog.end_processes(self.name)

    def close(self) -> None:
        if self.path is None:
            return
        watchdog.sweep(self.path)
        if self._watchdog:
            self._watchdog.terminate()
            self._watchdog.wait()
        if self._lock:
            self._lock.close()
        self.path = self._lock = self._watchdog = None

    def __enter__(self) -> "Workspace":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _base() -> Path:
    """Where the folder is made; disk before memory, since a repository may lie in it."""
    candidates = [folder for folder in (os.environ.get("TMPDIR"), "/var/tmp", "/tmp", "/dev/shm") if folder]
    for folder in candidates:
        if SAFE_PATH.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise ServingError(
        f"None of {', '.join(candidates)} can be written and has a plain name.",
        "The server needs a folder for links whose name has letters, digits, dots and dashes only.",
        "Set TMPDIR to such a folder.",
    )


def _sweep_leftovers(base: Path) -> None:
    """Remove this user's folders whose owner and watchdog are both gone: nobody holds their lock."""
    for folder in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            facts = folder.lstat()
            if facts.st_uid != os.getuid() or facts.st_mode & 0o177777 != 0o040700:
                continue
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                watchdog.sweep(folder)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target.resolve())
