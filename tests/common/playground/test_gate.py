"""What the page's server lets through: the page's own questions, bounded, and files by what they hold alone."""

import asyncio
import json
import os
import time

import pytest

from common.playground.gate import BROUGHT, MAX_FRAME, MAX_QUESTION, UNTAKEN, WAITING_SECONDS, Gate

LARGEST = 1000
DIGEST = "0" * 64


class Inside:
    """What is behind the gate: notes what comes in, and answers as an upload is answered."""

    def __init__(self, folder):
        self.folder, self.asked, self.fails = folder, [], False
        (folder / DIGEST).mkdir()
        (folder / DIGEST / "a b.png").write_bytes(b"a file")

    async def __call__(self, scope, receive, send):
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.asked.append((scope["path"], body))
        content = json.dumps([str(self.folder / DIGEST / "a b.png")]).encode()
        length = str(len(content)).encode()
        status = 500 if self.fails else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", length)]})
        await send({"type": "http.response.body", "body": content})
        if self.fails:
            raise ValueError("embedded null byte")


@pytest.fixture
def inside(tmp_path):
    return Inside(tmp_path)


@pytest.fixture
def ask(inside, tmp_path):
    gate = Gate(inside, tmp_path, ("en", "es"), LARGEST)

    def asked(method, path, body=b"", query=b"", length=None):
        length = len(body) if length is None else length
        headers = [(b"content-length", str(length).encode())] if length != "unsaid" else []
        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        asyncio.run(gate(scope, receive, send))
        return sent[0]["status"], sent[-1]["body"]

    asked.gate = gate
    return asked


@pytest.mark.parametrize(
    "path",
    ["/", "/en", "/en/", "/es/config", "/en/assets/index-1.js", "/en/theme.css", "/en/gradio_api/queue/data",
     "/en/gradio_api/heartbeat/a1b2", "/films/Ab_-1/found.mp4"],
)  # fmt: skip
def test_what_the_page_reads_is_let_through(ask, inside, path):
    assert ask("GET", path)[0] == 200
    assert inside.asked == [(path, b"")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"/en/{name}") for name in ("monitoring", "runs", "logout", "pwa_icon", "login", "nothing")),
        *(
            ("GET", f"/en/gradio_api/{name}")
            for name in (
                "file=/etc/passwd", "file=http://a.example/x", "file=/brought/../../etc/passwd", "file/etc/passwd",
                f"file=/brought/{DIGEST}/..", f"file=/brought/{DIGEST}/a/b", "proxy=http://a.example", "deep_link",
                "token", "openapi.json", "dev/reload", "custom_component/a/client/b/c", "run-history/buckets",
                "vibe-code", "stream/a/b/1/playlist.m3u8",
            )
        ),
        *(
            ("POST", f"/en/{name}")
            for name in (
                "login", "gradio_api/component_server", "gradio_api/process_recording", "gradio_api/vibe-edit",
                "gradio_api/run/other", "gradio_api/call/x", "gradio_api/api/predict", "gradio_api/stream/x", "",
            )
        ),
        ("GET", "/films/../../etc/passwd"), ("GET", "/films/a/b/c"), ("GET", "//en/"), ("GET", "/de/config/x"),
        ("PUT", "/en/"), ("DELETE", "/en/gradio_api/upload"), ("OPTIONS", "/en/"),
    ],
)  # fmt: skip
def test_all_else_is_not_there(ask, inside, method, path):
    assert ask(method, path)[0] in (404, 405)
    assert inside.asked == []


def test_a_state_that_was_kept_is_not_called_by_a_link(ask, inside):
    assert ask("GET", "/en/", query=b"deep_link=abc")[0] == 404
    assert inside.asked == []


def test_files_are_known_outside_by_what_they_hold(ask, inside, tmp_path):
    status, told = ask("POST", "/en/gradio_api/upload", b"a file")
    assert (status, json.loads(told)) == (200, [f"{BROUGHT}{DIGEST}/a b.png"])
    assert str(tmp_path) not in told.decode()
    (outside,) = json.loads(told)
    question = {"fn_index": 1, "data": [{"path": outside, "url": "http://a.example/x", "meta": {}}, [3, "é"]]}
    assert ask("POST", "/en/gradio_api/queue/join", json.dumps(question).encode())[0] == 200
    _, body = inside.asked[-1]
    file, others = json.loads(body)["data"]
    assert file == {"path": str(tmp_path / DIGEST / "a b.png"), "meta": {"_type": "gradio.FileData"}}
    assert others == [3, "é"]
    assert ask("GET", f"/en/gradio_api/file={outside}")[0] == 200
    assert inside.asked[-1][0] == f"/en/gradio_api/file={tmp_path / DIGEST / 'a b.png'}"


def test_an_upload_that_fails_is_told_in_a_sentence(ask, inside, tmp_path):
    inside.fails = True
    assert ask("POST", "/en/gradio_api/upload", b"a file") == (400, UNTAKEN.encode())
    with pytest.raises(ValueError, match="null"):
        ask("POST", "/en/gradio_api/cancel")
    inside.fails = False
    (tmp_path / DIGEST / "a b.png").unlink()
    assert ask("POST", "/en/gradio_api/upload", b"a file") == (400, UNTAKEN.encode())


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "http://a.example/x.png", "/brought/../x", f"/brought/{DIGEST}/..", f"/brought/{DIGEST}/a\0",
     f"{BROUGHT}{DIGEST}/" + "a" * 4000, "", None, 3, {"path": "/etc/passwd"}],
)  # fmt: skip
def test_a_question_about_a_file_that_was_not_brought_is_refused(ask, inside, path):
    for data in ([{"path": path}], [[{"deep": {"path": path, "meta": {"_type": "gradio.FileData"}}}]]):
        assert ask("POST", "/en/gradio_api/run/predict", json.dumps({"data": data}).encode())[0] == 400
    assert inside.asked == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b"\xff\xfe", b"[" * 100_000, b'{"data": [NaN]}', b'{"data": [-Infinity]}',
     b'{"data": [' + b"9" * 5000 + b"]}", b'{"data": ["\\ud800"]}'],
)  # fmt: skip
def test_what_is_no_question_is_refused(ask, inside, body):
    assert ask("POST", "/en/gradio_api/queue/join", body)[0] == 400
    assert inside.asked == []


@pytest.mark.parametrize(
    ("path", "length", "status"),
    [
        ("queue/join", MAX_QUESTION + 1, 413),
        ("cancel", MAX_QUESTION + 1, 413),
        ("upload", LARGEST + MAX_FRAME + 1, 413),
        ("upload", LARGEST + MAX_FRAME, 200),
        ("upload", "unsaid", 411),
        ("upload", "-1", 411),
        ("upload", "9" * 30, 411),
    ],
)
def test_what_is_sent_is_bounded(ask, path, length, status):
    assert ask("POST", f"/en/gradio_api/{path}", length=length)[0] == status


def test_uploads_that_nobody_asked_about_are_deleted(ask, inside, tmp_path, monkeypatch):
    old, young = tmp_path / DIGEST / "old.png", tmp_path / "young"
    broken = tmp_path / "tmpabc"
    for path in (old, young, broken):
        path.write_bytes(b"x")
    long_ago = time.time() - WAITING_SECONDS - 1
    for path in (old, broken):
        os.utime(path, (long_ago, long_ago))
    ask("POST", "/en/gradio_api/cancel")
    assert old.exists(), "not looked for at every question"
    later = time.monotonic() + WAITING_SECONDS
    monkeypatch.setattr("common.playground.gate.time.monotonic", lambda: later)
    ask("POST", "/en/gradio_api/cancel")
    assert not old.exists()
    assert not broken.exists()
    assert young.exists()


def test_other_protocols_are_closed(ask):
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(ask.gate({"type": "websocket", "path": "/en/"}, None, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
