"""A server on the loopback address with one archive, and an entry of the table that points at it."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from challenges.data_sets.entry import DataSet, Part


def packed(files):
    """A compressed tar of these files, name -> content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def part_of(server):
    """What the server holds now, behind an address that is gone."""
    address = f"http://127.0.0.1:{server.server_port}"
    checksum = f"sha256:{hashlib.sha256(server.archive).hexdigest()}"
    urls = f"{address}/gone.tgz", f"{address}/set.tgz"
    return Part(urls=urls, checksum=checksum, on_aws=f"{address}/near/gone.tgz")


class Handler(http.server.BaseHTTPRequestHandler):
    """Hangs up after `stops_after` bytes of an answer; understands ranges or not. `near` is what a copy of it holds."""

    def do_GET(self):
        wanted = self.headers.get("Range") if self.server.ranges else None
        start = int((wanted or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        archive = {"/set.tgz": self.server.archive, "/near/gone.tgz": self.server.near}.get(self.path)
        if archive is None:
            self.send_error(404)
            return
        (self.server.asked if self.path == "/set.tgz" else self.server.asked_near).append(start)
        if start >= len(archive):
            self.send_error(416)
            return
        body = archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.stops_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    content = hashlib.shake_128(b"kit").digest(200_000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.ranges = True
        found.archive, found.asked, found.stops_after = packed({"set/numbers.bin": content}), [], 10**9
        found.near, found.asked_near = None, []
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    pytest.importorskip("pooch", reason="nothing is fetched without the extra data: pip install '.[data]'")
    return DataSet(
        what="numbers", parts=(part_of(server),), published="a test", megabytes=1, unpacked=1,
        licence="CC0", citation="nobody", layout="numbers", root="set", recipes=("resnet50/photos",),
    )  # fmt: skip
