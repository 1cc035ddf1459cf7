"""An instance on the loopback address: its metadata service, its commands, and the guest as the launcher sends it."""

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Metadata:
    """An instance's own service, by its session protocol alone; `notice` is what AWS has announced."""

    def __init__(self) -> None:
        self.notice: str | None = None
        self.number = "i-0123456789abcdef0"
        service = self

        class Answers(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.answer("secret" if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else None)

            def do_GET(self) -> None:
                known = {"instance-id": service.number, **({service.notice: "{}"} if service.notice else {})}
                name = self.path.removeprefix("/latest/meta-data/")
                allowed = self.headers.get("X-aws-ec2-metadata-token") == "secret"
                self.answer(known.get(name) if allowed else None)

            def answer(self, text: str | None) -> None:
                self.send_response(200 if text is not None else 404)
                self.end_headers()
                self.wfile.write((text or "").encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def metadata() -> Iterator[Metadata]:
    service = Metadata()
    thread = threading.Thread(target=service.server.serve_forever, daemon=True)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()


def start(user_data: str, folder: Path, service: Metadata, **told: Any) -> "subprocess.Popen[bytes]":
    """Start the guest of a template's user data as a new instance: an empty disk, and commands that end nothing here.

    told: what differs from what the launcher told, such as the command.
    """
    source = base64.b64decode(user_data).decode()
    found = re.search(r"^CONFIG = (.*)$", source, re.MULTILINE)
    assert found is not None
    off = folder / "off"
    commands = folder / "commands"
    commands.mkdir(parents=True)
    aws = os.environ.get("KIT_TEST_AWS")  # the real CLI, where one is to be held against it
    (commands / "aws").write_text(
        f'#!/bin/sh\nexec {aws} "$@"\n'
        if aws
        else f'#!/bin/sh\nexec {sys.executable} -I -S {HERE / "aws_command.py"} "$@"\n'
    )
    (commands / "off").write_text(f'#!/bin/sh\necho "$@" >> {off}\n')
    (commands / "s5cmd").write_text("#!/bin/sh\nexit 1\n")  # so that none is downloaded, and the CLI fetches
    for path in commands.iterdir():
        path.chmod(0o755)
    config = eval(found[1])
    settings = json.loads(config) | {
        "root": str(folder / "disk"), "nvme": str(folder / "none"), "nvme_seconds": 0, "off": [str(commands / "off")],
        "poll": 0.2, "upload": 1, **told,
    }  # fmt: skip
    script = folder / "guest.py"
    script.write_text(source.replace(found[0], f"CONFIG = {json.dumps(settings)!r}"))
    environment = {
        **os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url,
        "HOME": str(folder),
    }  # fmt: skip
    with (folder / "output").open("wb") as output:
        return subprocess.Popen([sys.executable, str(script)], env=environment, stdout=output, stderr=output)
