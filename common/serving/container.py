"""The docker command that serves a model repository with a current NGC Triton image."""

import csv
import io
from pathlib import Path

from common.serving.server import EXIT_SECONDS, LOOPBACK, Ports, safe_settings

MEMORY = "8g"  # as in compose.yaml and serving.yaml
THREADS = 2048  # processes and threads: Triton's, its stubs' and their libraries', several times over
TRITON_PORTS = Ports(http=8000, grpc=8001, metrics=8002)


def container_command(
    image: str,
    repository: Path,
    *,
    ports: Ports = TRITON_PORTS,
    gpus: str = "all",
) -> list[str]:
    """The docker command that serves `repository` with Triton's own backends.

    image: a current NGC Triton image, by tag or digest.
    gpus:  docker's --gpus value; empty for none.
    The container is read-only and unprivileged, is published on the loopback address alone, and has bounded memory
    (without swap), processes and logs.
    """
    published = ((ports.http, 8000), (ports.grpc, 8001), (ports.metrics, 8002))
    return [
        *("docker", "run", "--rm", "--init", "--name", f"challenge-kit-triton-{ports.http}"),
        *(("--gpus", gpus) if gpus else ()),
        *("--user", "1000:1000", "--read-only", "--tmpfs", "/tmp:mode=1777,size=1g", "--cap-drop", "ALL"),
        *("--memory", MEMORY, "--memory-swap", MEMORY, "--pids-limit", str(THREADS)),
        *("--log-driver", "json-file", "--log-opt", "max-size=10m", "--log-opt", "max-file=5"),
        *("--security-opt", "no-new-privileges", "--shm-size", "1g", "--stop-signal", "SIGINT"),
        *("--stop-timeout", str(EXIT_SECONDS + 5)),
        *(part for outside, inside in published for part in ("--publish", f"{LOOPBACK}:{outside}:{inside}")),
        *("--mount", _mount(repository.resolve())),
        image,
        *("tritonserver", "--model-repository=/models", *safe_settings()),
    ]


def _mount(repository: Path) -> str:
    """A line of CSV, since --volume would split a path at its colons."""
    line = io.StringIO()
    fields = ["type=bind", f"source={repository}", "target=/models", "readonly"]
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()


def unpinned_warning(image: str) -> str:
    """What to know of an image that is named by its tag alone; empty where its digest is named."""
    if "@sha256:" in image:
        return ""
    return f"{image} is named by its tag, which its registry can move to other content: make pin adds the digest."
