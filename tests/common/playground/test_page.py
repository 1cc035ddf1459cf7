"""The page in a real browser: a picture dropped, a slider moved, a history built, an answer corrected."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.common.playground.stand_ins import Colours, png, served

gradio = pytest.importorskip("gradio", reason="no page without the extra demo: pip install '.[demo]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Gradio uses what pandas deprecates
CHROMIUM = Path("/usr/bin/chromium")
WAIT = 60_000  # milliseconds
ATTEMPTS = 10
UPLOADS, GROWTH = 20, 60 << 20  # bad ones, and bytes of this process over most of them; test_hostile.py brings more


@dataclass
class Opened:
    """A page in browsers of any language and width, its session, its folders, and what it asked elsewhere for."""

    tab: Callable[[str, int], Any]
    colours: Colours
    corrections: Path
    films: Path
    outside: list[str]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    api = pytest.importorskip("playwright.sync_api", reason="the walk needs Playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"the walk needs {CHROMIUM}")
    with served(tmp_path_factory.mktemp("page")) as page, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        outside: list[str] = []

        def tab(language, width):
            tab = browser.new_page(viewport={"width": width, "height": 900}, locale=language)
            tab.set_default_timeout(WAIT)
            tab.on("request", lambda one: outside.append(one.url) if page.address not in one.url else None)
            tab.goto(page.address)
            tab.wait_for_selector("h1")
            return tab

        yield Opened(tab, page.colours, page.corrections, page.films, outside)
        browser.close()
    assert not [path for path in page.uploads.rglob("*") if path.is_file()], "uploads are gone"


def drop(tab, content, name="a.png"):
    tab.set_input_files("input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})


def until(tab, act, is_there):
    """Act until the page has taken it: a click or a file is lost while Gradio still puts its target in place."""
    for _ in range(ATTEMPTS):
        act()
        for _ in range(100):
            if is_there():
                return
            tab.wait_for_timeout(20)
    raise AssertionError(f"tried {ATTEMPTS} times, and never taken")


def drop_and_wait(opened, tab, content, name="a.png"):
    """Until the run was asked."""
    tried = opened.colours.tried
    until(tab, lambda: drop(tab, content, name), lambda: opened.colours.tried > tried)


def choose_example(opened, tab):
    """Until the run was asked."""
    tried = opened.colours.tried
    until(tab, lambda: tab.click("button[data-example='0']:visible"), lambda: opened.colours.tried > tried)


def pick(tab, button, shown):
    """Until there is what `shown` selects."""
    until(tab, lambda: tab.click(f"{button}:visible"), lambda: tab.query_selector(shown) is not None)


def click(tab, button, text):
    """Until the page says `text`."""
    until(tab, lambda: tab.click(button), lambda: text in tab.inner_text("body"))


def bring_film(tab, film, text):
    """Until the page says `text`; the place for films is the last, and there once it was opened."""
    inputs = tab.locator("input[type=file]")
    until(tab, lambda: inputs.last.set_input_files(film), lambda: text in tab.inner_text("body"))


def expect(tab, text):
    tab.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def test_a_walk_through_the_page(opened):
    tab, colours = opened.tab("en-GB", 400), opened.colours
    assert tab.evaluate("document.documentElement.lang") == "en"
    choose_example(opened, tab)
    expect(tab, "mean 90 is enough")
    drop_and_wait(opened, tab, png((200, 200, 200)))
    expect(tab, "mean 200 is enough")
    asked = colours.asked
    tab.fill("input[type=number]:visible", "220")
    tab.keyboard.press("Tab")
    expect(tab, "mean 200 is too little")
    assert colours.asked == asked, "the threshold asks nobody again"
    click(tab, "text=Keep for training", "Kept as dark.")
    assert (opened.corrections / "dark.png").read_bytes() == png((200, 200, 200))
    for bad in (b"no picture", png((1, 1, 1))[:40]):
        drop_and_wait(opened, tab, bad)
        expect(tab, "This cannot be read as a picture")
        drop_and_wait(opened, tab, png((7, 7, 7)))
        expect(tab, "mean 7 is")
    tab.click("button[role=tab]:has-text('films')")
    expect(tab, "The history is empty.")
    tab.click("textarea:visible, input[type=text]:visible")
    tab.keyboard.type("bra", delay=50)
    tab.wait_for_function("() => !document.body.innerText.includes('+ Alien')")
    pick(tab, "button[data-pick='Brazil']", "#next button[data-pick='Alien']")
    pick(tab, "#next button[data-pick='Alien']", "button[data-drop='Alien']")
    tab.wait_for_function("() => document.querySelectorAll('#next button').length === 1")
    click(tab, "#next button[data-pick='Casablanca']", "This could not be answered")
    pick(tab, "button[data-drop='Brazil']", "#next button[data-pick='Brazil']")
    assert len(tab.query_selector_all("#next button")) == 1
    told = tab.content()
    assert "/the/machine" not in told
    assert not re.search(r"/tmp/|/home/|/root/", told), "no path of the machine"
    assert [url for url in opened.outside if not url.startswith(("data:", "blob:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400, "nothing sticks out at 400 pixels"
    tab.close()


def test_a_browser_that_speaks_spanish_is_answered_in_spanish(opened):
    tab = opened.tab("es-MX", 1300)
    assert tab.evaluate("document.documentElement.lang") == "es"
    for text in (
        "Modelos entrenados: colours, films",
        "Ejemplos de los datos de validación",
        "Este modelo tells colours",
    ):
        expect(tab, text)
    choose_example(opened, tab)
    expect(tab, "mean 90 is enough")
    click(tab, "text=Guardar para entrenar", "Kept as dark.")
    tab.click("button[role=tab]:has-text('films')")
    expect(tab, "Busque y haga clic para añadir")
    for english in ("Drop", "Keep for training", "Click to Upload", "Search, then"):
        assert english not in tab.inner_text("body"), english
    tab.close()


def test_a_video_is_looked_at_with_progress_and_shown_from_the_shelf(opened):
    tab = opened.tab("es", 1300)
    tab.click("text=Vídeo")
    film = {"name": "a.mp4", "mimeType": "video/mp4", "buffer": b"three frames"}
    bring_film(tab, film, "12 bytes, at 0")
    address = tab.get_attribute("#film a", "href")
    assert address == opened.colours.videos.address
    origin = tab.evaluate("location.origin")
    assert tab.request.get(origin + address).text() == "3"
    assert tab.request.get(origin + address.replace("copy.txt", "brought.mp4")).status == 404
    assert tab.request.get(f"{origin}/films/x/copy.txt").status == 404
    bring_film(tab, {**film, "buffer": b""}, "This is no video.")
    tab.close()
    left = [path.name for path in opened.films.rglob("*") if path.is_file()]
    assert left == ["copy.txt"] * opened.colours.videos.copies, "what was brought is gone, what was made of it is kept"


def test_many_bad_uploads_leave_the_page_alive_and_the_memory_flat(opened):
    tab = opened.tab("en", 400)
    lots, sound = random.Random(0), png((200, 200, 200))
    process, sizes = psutil.Process(), []
    for number in range(UPLOADS):
        bad = lots.randbytes(lots.randrange(1, 4000)) if number % 2 else sound[: lots.randrange(8, 60)]
        drop_and_wait(opened, tab, bad, f"{number}.png")
        expect(tab, "This cannot be read as a picture")
        if number % 5 == 0:
            drop_and_wait(opened, tab, sound)
            expect(tab, "mean 200 is")
            sizes.append(process.memory_info().rss)
    drop_and_wait(opened, tab, sound)
    expect(tab, "mean 200 is")
    assert sizes[-1] - sizes[2] < GROWTH, [size >> 20 for size in sizes]
    tab.close()
