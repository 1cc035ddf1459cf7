"""Starting and stopping the unpacked Triton server on this machine's loopback address."""

import contextlib
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

from common.errors import ServingError
from common.serving.client import Client, Protocol
from common.serving.health import Health
from common.serving.payload import Payload
from common.serving.repository import ModelRepository
from common.serving.workspace import Workspace

LOOPBACK = "127.0.0.1"
RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
"""In a container, what nobody may call; metadata, health and inference are open."""
CLOSED = "model-repository,model-config,shared-memory,trace,logging"
"""On this machine, what nobody may call. Statistics are open: they say no more than the metrics do."""
NEVER_SENT = "Closed=to\n\nall"
"""A key that no request can carry, so that it may stand in the process list, which every user of the machine reads:
an empty line ends HTTP's headers, and HTTP/2 knows no capital letters in a header's name."""
EXIT_SECONDS = 10
START_SECONDS, HEAL_SECONDS = 60.0, 30.0
"""A server's to its first answers, and a model's; beside them what a slow disk takes to read the models."""
READ_BYTES = 5e7  # a second
HEALED_EXIT_SECONDS = 3
FIXED_SETTINGS = (
    "--disable-auto-complete-config",
    "--strict-readiness=true",
    "--exit-on-error=true",
    f"--exit-timeout-secs={EXIT_SECONDS}",
    "--grpc-infer-allocation-pool-size=0",  # of 8 kept requests each holds the memory of the largest it ever was
)
STUB_BACKENDS = ("python", "onnxruntime", "openvino", "dali")


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
    """A tritonserver process on the loopback address, its stubs and its log.

    repository: the model repository; everything in it is loaded at the start, and only its owner can change it.
    log:        file that takes everything the server and the stubs print; a restart keeps the one before as *.previous.
    healed:     whether a model was loaded anew; Triton then waits in vain for the one whose process has ended.
    workspace:  the private folder, which outlives restarts and goes at the end of the `with` block.
    """

    repository: Path
    payload: Payload
    log: Path
    ports: Ports = Ports()
    process: subprocess.Popen[bytes] | None = None
    workspace: Workspace = field(default_factory=Workspace)
    healed: bool = False

    def __post_init__(self) -> None:
        self.health = Health(self)

    def start(self) -> None:
        """Start the process without waiting for it; ServingError for a taken port, no models or a missing payload."""
        if not self.payload.is_installed():
            raise ServingError(f"There is no Triton server in {self.payload.folder}.", remedy="Install it: make triton")
        if not ModelRepository(self.repository).models():
            raise ServingError(
                f"There is no model in {self.repository}.", remedy="Write the repository first: kit serve RUN"
            )
        self.ports, self.healed = self.ports.chosen(), False
        self.workspace.furnish(self.repository, self.payload)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists():
            self.log.replace(self.log.with_name(f"{self.log.name}.previous"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.workspace.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal reaches the supervisor alone, which stops in order
                cwd=self.workspace.path,
            )

    def command(self) -> list[str]:
        """The command line: every path in it lies in the workspace, and nothing in it is a secret."""
        return [
            str(self.workspace.server),
            f"--model-repository={self.workspace.models}",
            f"--backend-directory={self.workspace.backends}",
            *(f"--backend-config={name},shm-region-prefix-name={self.memory_prefix}" for name in STUB_BACKENDS),
            f"--http-address={LOOPBACK}",
            f"--http-port={self.ports.http}",
            f"--grpc-address={LOOPBACK}",
            f"--grpc-port={self.ports.grpc}",
            f"--metrics-address={LOOPBACK}",
            f"--metrics-port={self.ports.metrics}",
            "--allow-gpu-metrics=false",
            "--metrics-config=summary_latencies=true",
            *FIXED_SETTINGS,
            "--model-control-mode=poll",  # whoever may write the private folder reloads a model; no request does
            "--repository-poll-secs=1",
            f"--http-restricted-api={CLOSED}:{NEVER_SENT}",
            f"--grpc-restricted-protocol={CLOSED}:{NEVER_SENT}",
        ]

    @property
    def memory_prefix(self) -> str:
        return f"{self.workspace.name}_"

    def url(self, protocol: Protocol) -> str:
        return f"{LOOPBACK}:{self.ports.http if protocol == 'http' else self.ports.grpc}"

    def client(self, protocol: Protocol = "http", timeout: float = 30.0, retries: int = 3) -> Client:
        return Client(self.url(protocol), protocol, timeout, retries)

    def wait_ready(self, timeout: float | None = None) -> float:
        """Wait until every model answers a real inference; returns the seconds since the call.

        timeout: seconds; left out, START_SECONDS and the models' reading.
        """
        started = time.monotonic()
        timeout = START_SECONDS + self.reading_seconds() if timeout is None else timeout
        while (left := started + timeout - time.monotonic()) > 0:
            if self.process is None or self.process.poll() is not None:
                raise ServingError("The server ended while it was starting:", self.complaint(), f"See {self.log}.")
            if self.answers() and self.is_ready(timeout=left):  # a slow model may take all of it
                self.health.note_stubs()
                return time.monotonic() - started
            time.sleep(0.1)
        raise ServingError(f"The server was not ready after {timeout:.0f} s.", self.complaint(), f"See {self.log}.")

    def reading_seconds(self) -> float:
        """What a slow disk takes to read all models: a minute for three gigabytes of tables."""
        return ModelRepository(self.repository).size_bytes() / READ_BYTES

    def answers(self, timeout: float = 5.0) -> bool:
        """Whether the server itself answers, whatever its models do."""
        with contextlib.suppress(OSError, HTTPException):
            connection = HTTPConnection(LOOPBACK, self.ports.http, timeout=timeout)
            try:
                connection.request("GET", "/v2/health/live")
                return connection.getresponse().status == 200
            finally:
                connection.close()
        return False

    def is_ready(self, timeout: float = 5.0) -> bool:
        """Whether every model answers an inference now. Triton's own readiness stays true when a stub has died."""
        return self.problem(timeout) is None

    def problem(self, timeout: float = 5.0) -> str | None:
        """Why the server cannot serve, by a real inference per model; None where it can. A full queue is no problem."""
        if self.process is None or self.process.poll() is not None:
            return "the server process has ended"
        for model in ModelRepository(self.repository).served():
            problem = self.health.ask(model, timeout)
            if problem:
                return problem.given
        return None

    def outage(self) -> str | None:
        """Why the server as a whole must be restarted; None where at most single models are sick."""
        if self.process is None or self.process.poll() is not None:
            return "the server process has ended"
        return None if self.answers() or self.answers() else "the server process answers no request"

    def sick(self) -> dict[str, str]:
        """Why each model that must be loaded anew does not answer; a slow or busy one is not among them."""
        return self.health.sick()

    def dead(self) -> dict[str, str]:
        """The models whose stub has ended: what can be told without asking any model."""
        return self.health.dead()

    def heal(self, model: str, timeout: float | None = None) -> float:
        """Load one model anew while the others serve; returns the seconds it took. ServingError where it stays sick.

        timeout: seconds; left out, HEAL_SECONDS and the models' reading.
        """
        started = time.monotonic()
        timeout = HEAL_SECONDS + self.reading_seconds() if timeout is None else timeout
        ensembles = ModelRepository(self.repository).ensembles_of(model)
        self.healed = True
        self.health.end_stubs(model)
        self.workspace.reload(model)
        problem: ServingError | None = None
        while (left := started + timeout - time.monotonic()) > 0:
            if self.process is None or self.process.poll() is not None:
                raise ServingError("the server process has ended")
            problems = (self.health.ask(name, min(left, self.health.patience(name))) for name in (model, *ensembles))
            problem = next((problem for problem in problems if problem), None)
            if problem is None:
                self.health.note_stubs()
                return time.monotonic() - started
            time.sleep(0.1)
        raise ServingError(f"{model} does not answer after {timeout:.0f} s: {problem and problem.given}")

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
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(min(seconds, HEALED_EXIT_SECONDS) if self.healed else seconds)
        self.workspace.end_processes()
        self.process.wait()
        self.process = None

    def __enter__(self) -> "LocalServer":
        try:
            self.start()
        except BaseException:
            self.workspace.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.workspace.close()


def safe_settings() -> list[str]:
    """What a server in a container is started with: fixed models, strict readiness, administration for nobody."""
    return [
        *FIXED_SETTINGS,
        "--model-control-mode=none",
        f"--http-restricted-api={RESTRICTED}:{NEVER_SENT}",
        f"--grpc-restricted-protocol={RESTRICTED}:{NEVER_SENT}",
    ]


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
