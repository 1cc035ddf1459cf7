"""The docker command that serves a model repository with a current NGC Triton image."""

from pathlib import Path

from common.serving.server import EXIT_SECONDS, LOOPBACK, Ports, safe_settings

TRITON_PORTS = Ports(http=8000, grpc=8001, metrics=8002)


def container_command(
    image: str,
    repository: Path,
    admin_key: str,
    *,
    ports: Ports = TRITON_PORTS,
    gpus: str = "all",
) -> list[str]:
    """The docker command that serves `repository` with Triton's own backends.

    image: a current NGC Triton image, by tag or digest.
    gpus:  docker's --gpus value; empty for none.
    The container is read-only and unprivileged, and is published on the loopback address alone.
    """
    published = ((ports.http, 8000), (ports.grpc, 8001), (ports.metrics, 8002))
    return [
        *("docker", "run", "--rm", "--init", "--name", "challenge-kit-triton"),
        *(("--gpus", gpus) if gpus else ()),
        *("--user", "1000:1000", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges", "--shm-size", "1g", "--stop-signal", "SIGINT"),
        *("--stop-timeout", str(EXIT_SECONDS + 5)),
        *(part for outside, inside in published for part in ("--publish", f"{LOOPBACK}:{outside}:{inside}")),
        *("--volume", f"{repository.resolve()}:/models:ro"),
        image,
        *("tritonserver", "--model-repository=/models", *safe_settings(admin_key)),
    ]
