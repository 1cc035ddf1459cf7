"""What may be asked of the page's server: what the page itself asks, in bodies of a bounded size, and by no path.

Gradio serves far more than a page needs: it would fetch addresses for whoever asks, keep what is sent by routes that no
page has, and call files by their paths on the machine. So what is not named here is not there, and files that were
brought are known outside by what they hold alone.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
BROUGHT = "/brought/"
"""Stands outside for the folder of uploads."""
ASSETS = r"(?:assets|static|svelte)/.+|theme\.css|favicon\.ico|manifest\.json|robots\.txt"
STREAMS = r"queue/(?:data|status)|heartbeat/[\w-]{1,64}|upload_progress|startup-events|info/?|app_id/?|login_check/?"
READ = re.compile(rf"(?:{ASSETS}|config/?|gradio_api/(?:{STREAMS}|theme\.css|file=(?P<file>.+)))?")
FILMS = re.compile(r"/films/[\w-]{1,64}/[\w.-]{1,64}")
SENT = re.compile(r"gradio_api/(?:(?P<ask>queue/join/?|run/predict/?)|(?P<upload>upload/?)|cancel|reset/?)")
FILE = re.compile(rf"{BROUGHT}(?P<digest>[0-9a-f]{{64}})/(?P<name>[^/\0]{{1,255}})")
GOOD, SERVER_ERROR = 200, 500  # HTTP's
UNTAKEN = "This file cannot be taken: its name is damaged or too long."
MAX_QUESTION = 1 << 20  # bytes of what is asked
MAX_FRAME = 1 << 16  # bytes around an upload's file
WAITING_SECONDS, LOOK_AGAIN_SECONDS = 600, 60
"""For so long an upload that nobody asks about is kept, and so often looked for."""


class Gate:
    """An ASGI application before another.

    uploads: where the other keeps files. languages: under whose names it has its pages. largest: bytes of an upload.
    """

    def __init__(self, app: Any, uploads: Path, languages: tuple[str, ...], largest: int) -> None:
        self._app, self._uploads, self._largest = app, uploads, largest
        self._page = re.compile(rf"/(?:(?:{'|'.join(languages)})(?:/|$))?" if languages else "/")
        self._swept = time.monotonic()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "http":
            try:
                if scope["method"] in ("GET", "HEAD"):
                    scope = self._read(scope)
                elif scope["method"] == "POST":
                    scope, receive, send = await self._sent(scope, receive, send)
                else:
                    raise _RefusedError(405, "The page is read and asked, nothing else.")
            except _RefusedError as refused:
                await refused.tell(send)
                return
        try:
            await self._app(scope, receive, send)
        except Exception:
            if not (isinstance(send, _UploadAnswer) and send.is_told):  # of a name that no file can have
                raise

    def _read(self, scope: Any) -> Any:
        """A request to be read, by the path that a file has inside. Raises _RefusedError."""
        if FILMS.fullmatch(scope["path"]):
            return scope
        asked = READ.fullmatch(self._within(scope["path"]))
        if asked is None or b"deep_link" in scope["query_string"]:
            raise _RefusedError(404, "The page has nothing of this name.")
        if asked["file"] is None:
            return scope
        path = self._opened(asked["file"])
        if path is None:
            raise _RefusedError(404, "The page has no such file.")
        inside = scope["path"].removesuffix(asked["file"]) + path
        return {**scope, "path": inside, "raw_path": inside.encode()}

    async def _sent(self, scope: Any, receive: Any, send: Any) -> tuple[Any, Any, Any]:
        """A request that sends, by the paths that files have inside. Raises _RefusedError."""
        sent = SENT.fullmatch(self._within(scope["path"]))
        if sent is None:
            raise _RefusedError(404, "The page asks nothing by this name.")
        length = dict(scope["headers"]).get(b"content-length", b"")
        limit = self._largest + MAX_FRAME if sent["upload"] else MAX_QUESTION
        if not re.fullmatch(rb"[0-9]{1,18}", length):
            raise _RefusedError(411, "What is sent has to say how long it is.")
        if int(length) > limit:
            raise _RefusedError(413, f"At most {limit:,} bytes are taken.")
        self._sweep()
        if sent["upload"]:
            return scope, receive, _UploadAnswer(send, self._closed)
        if sent["ask"]:
            return *_holding(scope, receive, self._question(await _body(receive))), send
        return scope, receive, send

    def _within(self, path: str) -> str:
        """The path below a page's own; one that matches nothing where it is below none."""
        found = self._page.match(path)
        return path[found.end() :] if found and "//" not in path else "\0"

    def _opened(self, name: str) -> str | None:
        """The path of a file that was brought; None for whatever is none."""
        found = FILE.fullmatch(name)
        if found is None or found["name"] in (".", ".."):
            return None
        return str(self._uploads / found["digest"] / found["name"])

    def _closed(self, body: bytes) -> bytes:
        """An upload's answer, by the names that files have outside. Raises _RefusedError."""
        with contextlib.suppress(ValueError, TypeError, OSError):
            paths = [Path(path) for path in json.loads(body)]
            if all(path.is_file() for path in paths):
                return json.dumps([BROUGHT + path.relative_to(self._uploads).as_posix() for path in paths]).encode()
        raise _RefusedError(400, UNTAKEN)

    def _question(self, body: bytes) -> bytes:
        """A question by the paths that files have inside. Raises _RefusedError for what no page asks."""
        with contextlib.suppress(ValueError, RecursionError):
            question = self._with_paths(json.loads(body, parse_constant=_refuse_constant))
            if isinstance(question, dict):
                return json.dumps(question, ensure_ascii=False).encode()
        raise _RefusedError(400, "This is no question of the page.")

    def _with_paths(self, value: Any) -> Any:
        """Raises ValueError for a file that was not brought."""
        if isinstance(value, list):
            return [self._with_paths(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "path" not in value:
            return {name: self._with_paths(each) for name, each in value.items()}
        path = self._opened(value["path"]) if isinstance(value["path"], str) else None
        if path is None:
            raise ValueError("a file that was not brought")
        return {"path": path, "meta": {"_type": "gradio.FileData"}}

    def _sweep(self) -> None:
        """Delete uploads that nobody asked about, and what is left of those that broke off."""
        now = time.monotonic()
        if now - self._swept < LOOK_AGAIN_SECONDS:
            return
        self._swept, oldest = now, time.time() - WAITING_SECONDS
        for path in [*self._uploads.glob("*/*"), *self._uploads.glob("*")]:
            with contextlib.suppress(OSError):
                if path.lstat().st_mtime < oldest:
                    path.rmdir() if path.is_dir() else path.unlink()


class _RefusedError(Exception):
    """What the page does not do: a status, and a sentence."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self._status, self._body = status, told.encode()

    async def tell(self, send: Any) -> None:
        headers = _measured([(b"content-type", b"text/plain; charset=utf-8")], self._body)
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


async def _body(receive: Any) -> bytes:
    """What was sent, whose length the server holds to what was said."""
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _holding(scope: Any, receive: Any, body: bytes) -> tuple[Any, Any]:
    """A request with another body."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return waiting.pop() if waiting else await receive()

    return {**scope, "headers": _measured(scope["headers"], body)}, given


def _measured(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers with this body's length for any that they tell."""
    others = [(name, value) for name, value in headers if name.lower() != b"content-length"]
    return [*others, (b"content-length", str(len(body)).encode())]


class _UploadAnswer:
    """Sends the answer to an upload with another body, and a sentence where the upload failed."""

    def __init__(self, send: Any, change: Callable[[bytes], bytes]) -> None:
        self._send, self._change = send, change
        self._start: Message = {}
        self._parts: list[bytes] = []
        self.is_told = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._parts.append(message.get("body", b""))
        if message.get("more_body", False) or self.is_told:
            return
        self.is_told, body = True, b"".join(self._parts)
        try:
            if self._start["status"] >= SERVER_ERROR:
                raise _RefusedError(400, UNTAKEN)
            body = self._change(body) if self._start["status"] == GOOD else body
        except _RefusedError as refused:
            await refused.tell(self._send)
            return
        await self._send({**self._start, "headers": _measured(self._start["headers"], body)})
        await self._send({"type": "http.response.body", "body": body})
