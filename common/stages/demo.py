"""`kit demo`: the engines that answer for runs, and the page over them until it is stopped."""

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from common.challenge import Challenge, Trained
from common.errors import KitError, ServingError
from common.language.telling import LANGUAGES, Language, english, speaking
from common.playground.films import Shelf
from common.playground.page import Shown, build
from common.playground.server import LOOPBACK, serving
from common.playground.session import Engine
from common.run.run_directory import RunDirectory
from common.terminal.console import say

Runs = Sequence[tuple[Challenge[Any, Any, Any], RunDirectory]]
CORRECTIONS = "corrections"


def demo(
    runs: Runs,
    console: Console,
    *,
    url: str | None,
    corrections: Path | None,
    host: str,
    port: int,
    languages: Sequence[Language] = LANGUAGES,
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    url:         of a server that has the runs; None for an engine in this process.
    corrections: a folder for what people say was right; None for one in each run.
    languages:   of the page, of which each browser is shown its own.
    """
    require_gradio()
    with contextlib.ExitStack() as stack:
        uploads = stack.enter_context(tempfile.TemporaryDirectory(prefix="kit-demo-"))
        stack.enter_context(quiet_gradio(Path(uploads)))
        shown = [
            _shown(challenge, run, stack.enter_context(engine), corrections)
            for (challenge, run), engine in zip(runs, _engines(runs, url), strict=True)
        ]
        takes_videos = any(one.session.videos is not None for one in shown)
        shelf = (
            Shelf(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kit-demo-")))) if takes_videos else None
        )
        pages = {}
        for spoken in languages:
            with speaking(spoken):
                pages[spoken] = build(shown, shelf)
        address = stack.enter_context(serving(pages, host, port, shelf))
        if host not in LOOPBACK:
            say(console, f"Whoever reaches {host} may use the page: it asks for no key.")
        for one in shown:
            if one.session.verdict_kind is not None:
                say(console, f"Corrections of {one.session.name} go to {one.corrections}")
        say(console, f"The page is at {address} (Ctrl-C stops).")
        _wait()
    console.print("Stopped.")


def require_gradio() -> None:
    """Raise KitError with what to install where Gradio is absent."""
    import importlib.util

    if importlib.util.find_spec("gradio") is None:
        raise KitError("Gradio is not installed.", "The page in the browser needs it.", "pip install '.[demo]'")


@contextlib.contextmanager
def in_process(challenge: Challenge[Any, Any, Any], run: RunDirectory) -> Iterator[Engine]:
    """The fastest engine that passed parity; the trained module where there is no export.

    Raises ServingError where the run has an export that was not proven.
    """
    if not run.parity_file.is_file():
        run.require_weights()
        with Trained.load(challenge, run).reference() as runner:
            yield Engine(english("the trained model itself, since nothing was exported"), runner)
        return
    from common.stages.deployment import chosen, load_engine

    choice = chosen(run, "auto")
    with load_engine(run, choice) as runner:
        yield Engine(english("{engine} in this process, the engine that parity chose", engine=choice.label), runner)


def _engines(runs: Runs, url: str | None) -> "Iterator[contextlib.AbstractContextManager[Engine]]":
    if url is None:
        yield from (in_process(challenge, run) for challenge, run in runs)
        return
    from common.serving.client import Client
    from common.stages.serving_stage import served_names

    names = served_names([(challenge.model, run.path) for challenge, run in runs])
    with Client(url) as client:
        served = client.served(names)
    missing = [name for name in names if name not in served]
    if missing:
        raise ServingError(
            f"The server at {url} has no model {missing[0]}.",
            f"It has {', '.join(served) or 'none of these'}.",
            "Serve the same runs: kit serve RUN",
        )
    yield from (
        contextlib.nullcontext(Engine(english("Triton, model {name}", name=name), url=url, model=name))
        for name in names
    )


def _shown(challenge: Challenge[Any, Any, Any], run: RunDirectory, engine: Engine, corrections: Path | None) -> Shown:
    session = challenge.playground.open(Trained.load(challenge, run), engine)
    return Shown(session, engine, corrections or run.path / CORRECTIONS)


@contextlib.contextmanager
def quiet_gradio(uploads: Path) -> Iterator[None]:
    """Let Gradio keep uploads in a folder of the page's own, and report to nobody."""
    settings = {"GRADIO_TEMP_DIR": str(uploads), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _wait() -> None:
    """Until SIGINT or SIGTERM."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
