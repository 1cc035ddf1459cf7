"""The page on a port: served in a thread, told to browsers to load nothing from elsewhere, and stopped."""

import contextlib
import functools
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import ServingError
from common.language.telling import Language, language_accepted
from common.playground.films import FILMS, MAX_FILM, Shelf
from common.playground.gate import Gate
from common.playground.uploads import MAX_UPLOAD

STYLE = Path(__file__).with_name("style.css")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_PAGES = 32  # whose answers are kept, and questions that wait, at a time
LEAVING_SECONDS = 3  # that open connections are given at the end
POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page compiles its templates
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self' data: blob:",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What a browser may load for the page: nothing that is not of this server."""
SPEAK = """
for (const name of ['language', 'languages'])
  Object.defineProperty(navigator, name, {get: () => name === 'language' ? 'LANGUAGE' : ['LANGUAGE']});
document.documentElement.lang = 'LANGUAGE';
"""
"""Lets Gradio's own words, which follow the browser, be in the page's language."""
HEADERS = ((b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"no-referrer"))


@contextlib.contextmanager
def serving(pages: Mapping[Language, Any], host: str, port: int, shelf: Shelf | None = None) -> Iterator[str]:
    """Serve Gradio's Blocks as long as the block runs; gives the address.

    pages: in each language, of which a browser is sent to its own; a single one is for all.
    port:  0 for any free one. shelf: whose files are served, too. Raises ServingError where the port is taken.
    """
    import uvicorn

    with contextlib.closing(_listening(host, port)) as listener:
        config = uvicorn.Config(
            functools.partial(_application, pages, host, shelf),
            factory=True,  # within the server's own loop: Gradio opens another for each lock where none runs
            log_level="critical",
            timeout_graceful_shutdown=LEAVING_SECONDS,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            shown = f"[{host}]" if ":" in host else host
            yield f"http://{shown}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(3 * LEAVING_SECONDS)


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ServingError(
            f"The page cannot listen on {host}, port {port}: {error.strerror or error}.",
            remedy="Choose another: --port 0 takes any free one.",
        ) from None


class _Guarded:
    """Adds the page's policy to every answer."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *HEADERS]}
            await send(message)

        await self._app(scope, receive, told)


def _application(pages: Mapping[Language, Any], host: str, shelf: Shelf | None) -> Any:
    from fastapi import FastAPI, Request
    from fastapi.responses import FileResponse, RedirectResponse, Response
    from gradio.utils import get_upload_folder
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    application = FastAPI(openapi_url=None)

    async def choose(request: Request) -> RedirectResponse:
        spoken = language_accepted(request.headers.get("accept-language", ""))
        address = request.url.replace(path=f"/{spoken}/").components
        return RedirectResponse(address._replace(scheme="", netloc="").geturl(), headers={"vary": "Accept-Language"})

    def file(token: str, name: str) -> Response:
        path = shelf.find(token, name) if shelf is not None else None
        return Response(status_code=404) if path is None else FileResponse(path)

    application.add_api_route(f"{FILMS}/{{token}}/{{name}}", file)
    if len(pages) > 1:
        application.add_api_route("/", choose)
    largest = MAX_UPLOAD if shelf is None else MAX_FILM
    for spoken, page in pages.items():
        application = _mounted(application, page, spoken, f"/{spoken}" if len(pages) > 1 else "/", largest)
    below = tuple(pages) if len(pages) > 1 else ()
    application.add_middleware(Gate, uploads=Path(get_upload_folder()), languages=below, largest=largest)
    if host in LOOPBACK:  # no page of elsewhere reaches it under a name of its own
        application.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])
    application.add_middleware(_Guarded)
    return application


def _mounted(application: Any, page: Any, spoken: Language, path: str, largest: int) -> Any:
    import gradio

    sans, mono = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
    theme = gradio.themes.Base(font=sans, font_mono=mono, primary_hue="blue", neutral_hue="slate")
    page.state_session_capacity = OPEN_PAGES
    page.queue(default_concurrency_limit=2, max_size=OPEN_PAGES)
    return gradio.mount_gradio_app(
        application, page, path=path, max_file_size=largest, show_error=False, ssr_mode=False, footer_links=[],
        run_history=False, enable_monitoring=False, pwa=False, mcp_server=False, theme=theme, css=STYLE.read_text(),
        head=f"<script>{SPEAK.replace('LANGUAGE', spoken)}</script>",
    )  # fmt: skip
