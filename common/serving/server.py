"""Starting and stopping the unpacked Triton server on this machine's loopback address."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from common.errors import ServingError
from common.serving.client import Client, Protocol
from common.serving.payload import Payload
from common.serving.problems import OverloadedError
from common.serving.repository import ModelRepository

LOOPBACK = "127.0.0.1"
RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
"""What only the holder of the key may call; metadata, health and inference are open."""
KEY_HEADER = "admin-key"
EXIT_SECONDS = 10
STUB_BACKENDS = ("python", "onnxruntime", "openvino", "dali")
_PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Ports:
    """0 stands for any free port."""

    http: int = 0
    grpc: int = 0
    metrics: int = 0

    def chosen(self) -> "Ports":
        """The same with every 0 replaced; ServingError where a port is taken."""
        with contextlib.ExitStack() as stack:
            return Ports(
                http=_bindable(self.http, "HTTP", stack),
                grpc=_bindable(self.grpc, "gRPC", stack),
                metrics=_bindable(self.metrics, "metrics", stack),
            )


@dataclass
class LocalServer:
    """A tritonserver process on the loopback address, its stubs, its log and its administrator's key.

    repository: the model repository; everything in it is loaded at the start and nothing can be changed afterwards.
    log:        file that takes everything the server and the stubs print; a restart keeps the one before as *.previous.
    """

    repository: Path
    payload: Payload
    log: Path
    ports: Ports = Ports()
    process: subprocess.Popen[bytes] | None = None
    admin_key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    memory_prefix: str = field(default_factory=lambda: f"challenge_kit_{secrets.token_hex(4)}_")

    def start(self) -> None:
        """Start the process without waiting for it; ServingError for a taken port, no models or a missing payload."""
        if not self.payload.is_installed():
            raise ServingError(f"There is no Triton server in {self.payload.folder}.", remedy="Install it: make triton")
        if not ModelRepository(self.repository).models():
            raise ServingError(
                f"There is no model in {self.repository}.", remedy="Write the repository first: kit serve RUN"
            )
        self.ports = self.ports.chosen()
        self.payload.refresh_backends()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.previous"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which stops in order
            )

    def command(self) -> list[str]:
        return [
            str(self.payload.server),
            f"--model-repository={self.repository}",
            f"--backend-directory={self.payload.backends}",
            *(f"--backend-config={name},shm-region-prefix-name={self.memory_prefix}" for name in STUB_BACKENDS),
            f"--http-address={LOOPBACK}",
            f"--http-port={self.ports.http}",
            f"--grpc-address={LOOPBACK}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            "--metrics-config=summary_latencies=true",
            *safe_settings(self.admin_key),
        ]

    def environment(self) -> dict[str, str]:
        """The running Python's environment for the stubs, with the kit importable in them."""
        binaries = Path(sys.executable).parent
        return {
            **os.environ,
            "PATH": f"{binaries}:{os.environ.get('PATH', '')}",
            "LD_LIBRARY_PATH": self.payload.library_path(),
            "PYTHONPATH": str(_PROJECT),
            "PYTHONUNBUFFERED": "1",
        }

    def url(self, protocol: Protocol) -> str:
        return f"{LOOPBACK}:{self.ports.http if protocol == 'http' else self.ports.grpc}"

    def client(self, protocol: Protocol = "http", timeout: float = 30.0, retries: int = 3) -> Client:
        """A client that may also read statistics."""
        return Client(self.url(protocol), protocol, timeout, retries, admin_header(self.admin_key, protocol))

    def wait_ready(self, timeout: float = 60.0) -> float:
        """Wait until every model answers a real inference; returns the seconds since the call."""
        started = time.monotonic()
        while time.monotonic() - started < timeout:
            if self.process is None or self.process.poll() is not None:
                raise ServingError("The server ended while it was starting:", self.complaint(), f"See {self.log}.")
            if self.is_ready(timeout=2.0):
                return time.monotonic() - started
            time.sleep(0.1)
        raise ServingError(f"The server was not ready after {timeout:.0f} s.", self.complaint(), f"See {self.log}.")

    def is_ready(self, timeout: float = 5.0) -> bool:
        """Whether every model answers an inference now. Triton's own readiness stays true when a stub has died."""
        return self.problem(timeout) is None

    def problem(self, timeout: float = 5.0) -> str | None:
        """Why the server cannot serve, by a real inference per model; None where it can. A full queue is no problem."""
        if self.process is None or self.process.poll() is not None:
            return "the server process has ended"
        with self.client(timeout=timeout, retries=0) as client:
            for model in ModelRepository(self.repository).served():
                try:
                    client.infer(model, client.example_inputs(model))
                except OverloadedError:
                    continue
                except ServingError as error:
                    return error.given
        return None

    def memory_bytes(self) -> int:
        """Resident memory of the server and its stubs."""
        if self.process is None:
            return 0
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.process.pid)
            return sum(process.memory_info().rss for process in [server, *server.children(recursive=True)])
        return 0

    def complaint(self) -> str:
        """What the log says went wrong, in one line: the model that did not load, else the last error."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        errors = [line for line in lines if line.startswith(("E", "error:")) and "cuda" not in line.lower()]
        unloaded = [line for line in errors if "failed to load" in line and "error:" not in line[:6]]
        line = (unloaded or errors or lines or ["the log is empty"])[-1]
        return line.partition("] ")[2].partition("\\n")[0].strip('"')[:500] or line[:500]

    def stop(self, seconds: float = EXIT_SECONDS + 5) -> None:
        """Give requests in flight `seconds`, then end the server and what is left of its stubs and shared memory."""
        if self.process is None:
            return
        group = self.process.pid
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        self.process.wait()
        self.process = None
        for leftover in Path("/dev/shm").glob(f"{self.memory_prefix}*"):
            leftover.unlink(missing_ok=True)

    def __enter__(self) -> "LocalServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def safe_settings(admin_key: str) -> list[str]:
    """What every server of the kit is started with: fixed models, strict readiness, administration behind a key.

    The key stands in the process list, where other users of the machine can read it; it is a second barrier behind
    the address the server listens on, never the only one.
    """
    return [
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        "--exit-on-error=true",
        f"--exit-timeout-secs={EXIT_SECONDS}",
        f"--http-restricted-api={RESTRICTED}:{KEY_HEADER}={admin_key}",
        f"--grpc-restricted-protocol={RESTRICTED}:{KEY_HEADER}={admin_key}",
    ]


def admin_header(admin_key: str, protocol: Protocol) -> dict[str, str]:
    """The header that opens the restricted calls; gRPC wants Triton's prefix before its name."""
    return {KEY_HEADER if protocol == "http" else f"triton-grpc-protocol-{KEY_HEADER}": admin_key}


def _bindable(port: int, purpose: str, stack: contextlib.ExitStack) -> int:
    """`port`, or a free one for 0; held until `stack` closes, so that two purposes never get the same."""
    holder = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((LOOPBACK, port))
    except OSError as error:
        raise ServingError(
            f"Port {port}, wanted for {purpose}, is taken{_owner(port)}: {error.strerror}.",
            remedy="Stop what listens there, or choose another port.",
        ) from None
    return int(holder.getsockname()[1])


def _owner(port: int) -> str:
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
