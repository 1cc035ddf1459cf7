"""Downloads are resumed, compared with their checksum, and whole or absent."""

import hashlib
import http.server
import io
import re
import threading
import zipfile
from dataclasses import replace

import pytest

from challenges.recommendation.files import download as downloads
from challenges.recommendation.files.download import DATASETS, download
from challenges.recommendation.files.readers import read
from common.errors import DataError


class Server(http.server.ThreadingHTTPServer):
    """Serves one archive; `stops_after` bytes of an answer it hangs up; `ranges` it understands or not."""

    archive = b""
    stops_after = 10**9
    ranges = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range") if server.ranges else None
        server.asked.append((self.path, wanted))
        if not self.path.endswith(".zip"):
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if start >= len(server.archive):
            self.send_error(416)
            return
        body = server.archive[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.stops_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "".join(f"{n % 9}::{n % 31}::3::{n}\n" for n in range(3000)))
        archive.writestr("ml-1m/movies.dat", "1::One::x\n")
        archive.writestr("ml-1m/README", "terms")
        archive.writestr("../outside.txt", "no")
    with Server() as server:
        server.archive = packed.getvalue()
        dataset = replace(DATASETS["ml-1m"], md5=hashlib.md5(server.archive).hexdigest())
        monkeypatch.setitem(DATASETS, "ml-1m", dataset)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_is_read_and_not_fetched_again(server, tmp_path, capsys):
    folder = download("ml-1m", tmp_path / "ml-1m", address=server.address)
    assert "no redistribution" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["README", "download.json", "movies.dat", "ratings.dat"]
    assert len(read(folder)) == 3000
    download("ml-1m", folder, address=server.address)
    assert len(server.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ml-1m"]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    server.stops_after, server.ranges = 10_000, ranges
    with pytest.raises(DataError, match="cannot be downloaded") as raised:
        download("ml-1m", tmp_path / "ml-1m", address=server.address)
    assert "continues it" in raised.value.allowed
    assert not (tmp_path / "ml-1m").exists()
    server.stops_after = 10**9
    assert len(read(download("ml-1m", tmp_path / "ml-1m", address=server.address))) == 3000
    assert server.asked[1][1] == ("bytes=10000-" if ranges else None)


def test_a_download_that_was_complete_is_only_unpacked(server, tmp_path):
    (tmp_path / ".ml-1m.ml-1m.zip.unfinished").write_bytes(server.archive)
    assert len(read(download("ml-1m", tmp_path / "ml-1m", address=server.address))) == 3000


def test_another_archive_is_refused_and_forgotten(server, tmp_path):
    server.archive = server.archive[:-1] + b"x"
    with pytest.raises(DataError, match="arrived with the MD5 sum"):
        download("ml-1m", tmp_path / "ml-1m", address=server.address)
    assert list(tmp_path.iterdir()) == []


def test_no_connection(tmp_path):
    with pytest.raises(DataError, match=r"cannot be downloaded: .*refused") as raised:
        download("ml-1m", tmp_path / "ml-1m", address="http://127.0.0.1:9")
    assert "DATA=" in raised.value.remedy


def test_a_missing_file_on_the_server(server, tmp_path):
    with pytest.raises(DataError, match="404"):
        downloads.fetch(f"{server.address}/none", tmp_path / "x", lambda done, total: None)


def test_unknown_names_and_foreign_folders(server, tmp_path):
    with pytest.raises(DataError, match=r"Known are ml-100k, ml-1m"):
        download("ml-2m", tmp_path / "x", address=server.address)
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="something else"):
        download("ml-1m", tmp_path, address=server.address)
