"""The Triton releases that a repository is written for, and what each of them can run."""

import re
from dataclasses import dataclass
from pathlib import Path

from common.errors import KitError, ServingError
from common.machine.environment import ROOT
from common.serving.config import Engine

NEWER_GRAPHS = {"2.2": ("2.3", "2.4")}
"""A server's DALI -> the newer ones whose serialised graphs it was seen to run, with the same pixels."""

VERSIONS_FILE = ROOT / "containers" / "versions.env"


@dataclass(frozen=True, kw_only=True)
class Release:
    """A Triton server of one of NVIDIA's monthly releases.

    name, version: the month, and Triton's own number.
    engines:       those that it serves.
    tensorrt:      the version whose plans it reads; empty where it reads none.
    dali:          the version of its DALI backend; empty where this machine's DALI runs the graphs.
    """

    name: str
    version: str
    engines: tuple[Engine, ...]
    tensorrt: str = ""
    dali: str = ""

    def refusal(self, engine: Engine, tensorrt: str = "") -> str:
        """Why an engine, or a plan of this version of TensorRT, is not served; empty where it is."""
        if engine not in self.engines:
            return f"Triton {self.name} has no {engine} here"
        if engine == "tensorrt" and tensorrt != self.tensorrt:
            return f"Triton {self.name} reads plans of TensorRT {self.tensorrt}, this one is of {tensorrt}"
        return ""

    def require_graphs_of(self, dali: str) -> None:
        """Raise ServingError where the server is not known to read a graph that this version of DALI serialised."""
        ours = ".".join(dali.split(".")[:2])
        if self.dali and _number(ours) > _number(self.dali) and ours not in NEWER_GRAPHS.get(self.dali, ()):
            raise ServingError(
                f"The preprocessing is written by DALI {dali}, and Triton {self.name} reads graphs with {self.dali}.",
                f"It reads those of {' and '.join((f'DALI up to {self.dali}', *NEWER_GRAPHS.get(self.dali, ())))}.",
                f"pip install 'nvidia-dali-cuda130=={self.dali}.*', or write the repository in the container.",
            )


LOCAL = Release(name="24.10", version="2.51.0", engines=("onnxruntime", "openvino"))
"""The server for tests, whose engines are the kit's own (common/serving/payload.py)."""


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def read_versions(file: Path = VERSIONS_FILE) -> dict[str, str]:
    """The KEY=value lines of containers/versions.env."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def container_release() -> Release:
    """NVIDIA's image that containers/versions.env pins."""
    versions = read_versions()
    month = re.search(r":(\d\d\.\d\d)", versions["TRITON_IMAGE"])
    return Release(
        name=month[1] if month else versions["TRITON_VERSION"],
        version=versions["TRITON_VERSION"],
        engines=("tensorrt", "onnxruntime", "openvino"),
        tensorrt=versions["TENSORRT_VERSION"],
        dali=versions["DALI_VERSION"],
    )


def find_release(given: str) -> Release:
    """The release of a name or version; KitError names those that there are."""
    known = (container_release(), LOCAL)
    for release in known:
        if given in (release.name, release.version):
            return release
    raise KitError(
        f"--server {given} is no Triton that a repository can be written for.",
        f"There are {' and '.join(f'{release.name} ({release.version})' for release in known)}.",
        "Another image is named in containers/versions.env, with the versions that are in it.",
    )
