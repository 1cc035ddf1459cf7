"""Sessions that stand in for runs on a page: one tells the colour of pictures and the length of videos, one films."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from common.errors import DataError
from common.language.telling import LANGUAGES, speaking
from common.playground.fields import Example, Option, PicksField, PictureField, SliderField
from common.playground.films import Shelf, Videos
from common.playground.session import Engine, Session, Verdict, require_options
from common.playground.uploads import readable_picture

ITEMS = ("Alien", "Brazil", "Casablanca")


def png(colour):
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(stream, "PNG")
    return stream.getvalue()


class Lengths(Videos):
    """Tells how many bytes a video has, and keeps how many copies it made."""

    copies = 0

    def annotate(self, source, place, controls, turn, progress):
        content = source.read_bytes()
        if not content:
            raise DataError("This is no video.")
        with turn:
            progress(1, 3)
        (place.folder / "copy.txt").write_text("3")
        self.copies += 1
        self.address = place.address("copy.txt")
        return len(content), self.address

    def show(self, answer, controls):
        told = '<p id="film">{} bytes, at {} <a href="{}">copy</a></p>'
        return Markup(told).format(answer[0], controls["least"], answer[1])


class Colours(Session):
    """Tells the mean of a picture, which is larger than a threshold or not."""

    name, about = "colours", "tells colours"
    fields = (PictureField(name="picture", label="Picture"),)
    controls = (SliderField(name="least", label="Least", low=0, high=255, step=1, value=0),)
    verdict_kind = "one"

    def __init__(self):
        self.asked, self.tried, self.videos = 0, 0, Lengths()

    def examples(self):
        return [Example("a grey one")]

    def example(self, number):
        return {"picture": png((90, 90, 90))}

    def ask(self, values):
        self.tried += 1
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
class Served:
    """A page over both, the folders that it writes to, and what tells the colours."""

    address: str
    colours: Colours
    corrections: Path
    uploads: Path
    films: Path


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    """The page on a free port, in every language; its folders are made below `folder`."""
    from common.playground.page import Shown, build
    from common.playground.server import serving
    from common.stages.demo import quiet_gradio

    found = Served("", Colours(), folder / "kept", folder / "uploads", folder / "films")
    found.uploads.mkdir()
    found.films.mkdir()
    shelf = Shelf(found.films)
    shown = [Shown(session, Engine("a test"), found.corrections) for session in (found.colours, Films())]
    with quiet_gradio(found.uploads):
        pages = {}
        for spoken in LANGUAGES:
            with speaking(spoken):
                pages[spoken] = build(shown, shelf)
        with serving(pages, "127.0.0.1", 0, shelf) as found.address:
            yield found
