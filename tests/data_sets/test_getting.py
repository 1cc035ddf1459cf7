"""Data sets by name: every entry says what one must know, and fetching resumes, verifies, pins and asks."""

import dataclasses
import hashlib
import http.server
import io
import re
import tarfile
import threading

import pytest

from challenges import data_sets
from challenges.data_sets import DATA_SETS, DataSet, get
from challenges.registry import MODELS
from common.errors import DataError
from common.terminal.console import SafeConsole

CONSOLE = SafeConsole(quiet=True)
RECIPES = {f"{model}/{name}" for model, entry in MODELS.items() for name in entry.recipes()}

CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("name", DATA_SETS)
def test_an_entry_says_what_one_must_know(name):
    entry = DATA_SETS[name]
    assert re.fullmatch(r"[a-z0-9-]+", name)
    assert entry.checksum is None or (CHECKSUM.fullmatch(entry.checksum) and entry.published)
    assert entry.urls
    assert all(re.match(r"https?://", url) for url in entry.urls)
    assert min(entry.megabytes, entry.unpacked) > 0
    assert all((entry.what, entry.licence, entry.citation, entry.layout, entry.root))
    assert set(entry.recipes) <= RECIPES
    assert entry.recipes
    assert entry.must_accept or "no commercial" not in entry.licence


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.path != "/set.tgz":
            self.send_error(404)
            return
        body = self.server.archive[start:]
        self.server.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.stops_after])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        content = hashlib.shake_128(b"kit").digest(200_000)
        info = tarfile.TarInfo("set/numbers.bin")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.archive, found.asked, found.stops_after = packed.getvalue(), [], 10**9
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture
def entry(server):
    pytest.importorskip("pooch", reason="nothing is fetched without the extra data: pip install '.[data]'")
    address = f"http://127.0.0.1:{server.server_port}"
    return DataSet(
        what="numbers", urls=(f"{address}/gone.tgz", f"{address}/set.tgz"),
        checksum=f"sha256:{hashlib.sha256(server.archive).hexdigest()}", published="a test", megabytes=1, unpacked=1,
        licence="CC0", citation="nobody", layout="numbers", root="set", recipes=("resnet50/photos",),
    )  # fmt: skip


def test_a_mirror_answers_and_the_second_call_fetches_nothing(server, entry, tmp_path):
    found = get("numbers", tmp_path, CONSOLE, entry=entry)
    assert (found / "numbers.bin").stat().st_size == 200_000
    assert get("numbers", tmp_path, CONSOLE, entry=entry) == found
    assert server.asked == [0]


def test_a_cut_one_is_continued(server, entry, tmp_path):
    server.stops_after = 50_000
    with pytest.raises(DataError, match="connection ended"):
        get("numbers", tmp_path, CONSOLE, entry=entry)
    assert not (tmp_path / "numbers").exists()
    server.stops_after = 10**9
    get("numbers", tmp_path, CONSOLE, entry=entry)
    assert server.asked == [0, 50_000]


def test_a_changed_one_is_refused_and_deleted(server, entry, tmp_path):
    server.archive = server.archive[:-9] + b"\0" * 9
    with pytest.raises(DataError, match="arrived with sha256:"):
        get("numbers", tmp_path, CONSOLE, entry=entry)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "lock" not in path.name] == []


def test_what_nobody_vouches_for_is_pinned_at_the_first_download(server, entry, tmp_path):
    unknown = dataclasses.replace(entry, checksum=None)
    get("numbers", tmp_path, CONSOLE, entry=unknown)
    pinned = (tmp_path / data_sets.PINS).read_text()
    assert entry.checksum in pinned
    (tmp_path / "numbers").rename(tmp_path / "elsewhere")
    server.archive += b"more"
    with pytest.raises(DataError, match="It should have"):
        get("numbers", tmp_path, CONSOLE, entry=unknown)


@pytest.mark.parametrize("change", [{"must_accept": True}, {"megabytes": 5000}])
def test_large_ones_and_their_terms_are_agreed_to_first(server, entry, tmp_path, change):
    asked = dataclasses.replace(entry, **change)
    with pytest.raises(DataError, match="before you agree"):
        get("numbers", tmp_path, CONSOLE, entry=asked)
    assert server.asked == []
    get("numbers", tmp_path, CONSOLE, entry=asked, accepted=True)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(DataError, match="imagenette"):
        data_sets.find("imagenet-of-things")
