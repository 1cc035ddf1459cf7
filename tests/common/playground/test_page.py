"""The page in a real browser: a picture dropped, a slider moved, a history built, an answer corrected."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from markupsafe import Markup
from PIL import Image

from common.errors import DataError
from common.playground.fields import Example, Option, PicksField, PictureField, SliderField
from common.playground.session import Engine, Session, Verdict, require_options
from common.playground.uploads import readable_picture

gradio = pytest.importorskip("gradio", reason="no page without the extra demo: pip install '.[demo]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Gradio uses what pandas deprecates
CHROMIUM = Path("/usr/bin/chromium")
WAIT = 60_000  # milliseconds
ITEMS = ("Alien", "Brazil", "Casablanca")


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "PNG")
    return stream.getvalue()


class Colours(Session):
    """Tells the mean of a picture, which is larger than a threshold or not."""

    name, about = "colours", "tells colours"
    fields = (PictureField(name="picture", label="Picture"),)
    controls = (SliderField(name="least", label="Least", low=0, high=255, step=1, value=0),)
    verdict_kind = "one"

    def __init__(self):
        self.asked = 0

    def examples(self):
        return [Example("a grey one")]

    def example(self, number):
        return {"picture": png((90, 90, 90))}

    def ask(self, values):
        with readable_picture(values.get("picture")) as (content, facts), Image.open(facts.path) as picture:
            self.asked += 1
            return content, picture.convert("L").resize((1, 1)).getpixel((0, 0))

    def show(self, answer, controls):
        return Markup('<p id="mean">mean {} is {}</p>').format(
            answer[1], "enough" if answer[1] >= controls["least"] else "too little"
        )

    def verdict(self, answer, controls):
        return Verdict("How is it?", (Option("dark", "Dark"), Option("light", "Light")), ("dark",))

    def keep(self, answer, controls, right: Sequence[str], folder):
        require_options(self.verdict(answer, controls), right)
        folder.mkdir(exist_ok=True)
        (folder / f"{right[0]}.png").write_bytes(answer[0])
        return f"Kept as {right[0]}."


class Films(Session):
    """Recommends what is not in the history."""

    name, about = "films", "recommends films"
    fields = (
        PicksField(
            name="history", label="History", label_of=str,
            find=lambda text: [Option(item, item) for item in ITEMS if text.casefold() in item.casefold()],
        ),
    )  # fmt: skip

    def examples(self):
        return [Example("one film")]

    def example(self, number):
        return {"history": ["Alien"]}

    def ask(self, values):
        if not values["history"]:
            raise DataError("The history is empty.")
        if "Brazil" in values["history"] and "Casablanca" in values["history"]:
            raise RuntimeError("a fault of /the/machine/itself")
        return [item for item in ITEMS if item not in values["history"]]

    def show(self, answer, controls):
        buttons = [Markup('<button type="button" data-pick="{0}">{0}</button>').format(item) for item in answer]
        return Markup('<div id="next">{}</div>').format(Markup("").join(buttons))


@dataclass
class Opened:
    """A page in the browser, its session, the folder of corrections, and what it asked other machines for."""

    page: object
    colours: Colours
    corrections: Path
    outside: list[str]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    api = pytest.importorskip("playwright.sync_api", reason="the walk needs Playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"the walk needs {CHROMIUM}")
    from common.playground.page import Shown, build
    from common.playground.server import serving
    from common.stages.demo import quiet_gradio

    folder, colours = tmp_path_factory.mktemp("page"), Colours()
    (folder / "uploads").mkdir()
    engine, kept = Engine("a test"), folder / "kept"
    with quiet_gradio(folder / "uploads"), api.sync_playwright() as playwright:
        page = build([Shown(colours, engine, kept), Shown(Films(), engine, kept)], "A page")
        with serving(page, "127.0.0.1", 0) as address:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 400, "height": 900})
            tab.set_default_timeout(WAIT)
            outside: list[str] = []
            tab.on("request", lambda one: outside.append(one.url) if address not in one.url else None)
            tab.goto(address)
            tab.wait_for_selector("h1")
            yield Opened(tab, colours, kept, outside)
            browser.close()
    assert not [path for path in (folder / "uploads").rglob("*") if path.is_file()], "uploads are gone"


def drop(tab, content, name="a.png"):
    tab.set_input_files("input[type=file]", {"name": name, "mimeType": "image/png", "buffer": content})


def expect(tab, text):
    tab.wait_for_function("text => document.body.innerText.includes(text)", arg=text)


def test_a_walk_through_the_page(opened):
    tab, colours = opened.page, opened.colours
    tab.click("button[data-example='0']:visible")
    expect(tab, "mean 90 is enough")
    drop(tab, png((200, 200, 200)))
    expect(tab, "mean 200 is enough")
    asked = colours.asked
    tab.fill("input[type=number]:visible", "220")
    tab.keyboard.press("Tab")
    expect(tab, "mean 200 is too little")
    assert colours.asked == asked, "the threshold asks nobody again"
    tab.click("text=Keep for training")
    expect(tab, "Kept as dark.")
    assert (opened.corrections / "dark.png").read_bytes() == png((200, 200, 200))
    for bad in (b"no picture", png((1, 1, 1))[:40]):
        drop(tab, bad)
        expect(tab, "This cannot be read as a picture")
        drop(tab, png((7, 7, 7)))
        expect(tab, "mean 7 is")
    tab.click("button[role=tab]:has-text('films')")
    expect(tab, "The history is empty.")
    tab.click("textarea:visible, input[type=text]:visible")
    tab.keyboard.type("bra", delay=50)
    tab.wait_for_function("() => !document.body.innerText.includes('+ Alien')")
    tab.click("button[data-pick='Brazil']:visible")
    tab.wait_for_selector("#next button[data-pick='Alien']")
    tab.click("#next button[data-pick='Alien']")
    tab.wait_for_selector("button[data-drop='Alien']")
    tab.wait_for_function("() => document.querySelectorAll('#next button').length === 1")
    tab.click("#next button[data-pick='Casablanca']")
    expect(tab, "This could not be answered")
    tab.click("button[data-drop='Brazil']")
    tab.wait_for_function("() => document.querySelectorAll('#next button').length === 1")
    told = tab.content()
    assert "/the/machine" not in told
    assert not re.search(r"/tmp/|/home/|/root/", told), "no path of the machine"
    assert [url for url in opened.outside if not url.startswith(("data:", "blob:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400, "nothing sticks out at 400 pixels"
