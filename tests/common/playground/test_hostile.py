"""The page's server asked as no page asks it: two hundred files that are none, and questions that make no sense."""

import itertools
import json
import re
import secrets

import psutil
import pytest

from tests.common.playground.hostile_files import NAMES, damaged, encoded, kinds
from tests.common.playground.stand_ins import ITEMS, png, served

pytest.importorskip("gradio", reason="no page without the extra demo: pip install '.[demo]'")
httpx = pytest.importorskip("httpx")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Gradio uses what pandas deprecates
LONGEST_NAME = 200
UPLOADS, GROWTH = 200, 60 << 20  # files, and bytes of this process over most of them
ONE_REQUEST = httpx.Limits(max_keepalive_connections=0)  # the server hangs up after a call that went wrong
FAILED = '{"error":null}', "Internal Server Error"  # what Gradio says of a call that went wrong, and no more
SAID = (
    "mean ",
    "cannot be read as a picture",
    "There is no picture yet",
    "This file cannot be taken",
    "Invalid file name",
)
OF_THE_MACHINE = re.compile(r"/(?:tmp|home|root|usr|etc|work|var)/")


class Visitor:
    """Who asks the English page by HTTP, as its own script does, or otherwise."""

    def __init__(self, page):
        self.page, self.session = page, secrets.token_hex(6)
        self.http = httpx.Client(base_url=f"{page.address}/en/", timeout=60, trust_env=False, limits=ONE_REQUEST)
        config = self.read("config").json()
        self.labels = {each["id"]: each["props"].get("label") or "" for each in config["components"]}
        self.kinds = {each["id"]: each["type"] for each in config["components"]}
        self.calls = config["dependencies"]

    def read(self, path):
        return self._noted(self.http.get(path))

    def send(self, path, **content):
        return self._noted(self.http.post(f"gradio_api/{path}", **content))

    def find(self, kind, event, place=0):
        """The call that comes first when an event of a kind of component happens."""
        found = [
            call
            for call in self.calls
            if any(self.kinds.get(of) == kind and name == event for of, name in call["targets"])
        ]
        return found[place]

    def after(self, call):
        """The call that comes when another is done."""
        return next(each for each in self.calls if each["trigger_after"] == call["id"])

    def ask(self, call, data, event=None):
        """What comes back of a call: its outputs, or None where it failed."""
        question = {
            "fn_index": call["id"], "data": data, "event_data": event, "trigger_id": call["targets"][0][0],
            "session_hash": self.session,
        }  # fmt: skip
        if not call["queue"]:
            told = self.send("run/predict", json=question)
            return told.json()["data"] if told.status_code == 200 else None
        told = self.send("queue/join", json=question)
        if told.status_code != 200:
            return None
        with self.http.stream("GET", "gradio_api/queue/data", params={"session_hash": self.session}) as lines:
            for line in lines.iter_lines():
                assert not OF_THE_MACHINE.search(line), line[:400]
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    return message["output"].get("data") if message["success"] else None
        return None

    def bring(self, content, name="a.png"):
        """Upload a file and ask about it, as the page does; returns what is said of it."""
        told = self.send("upload", files={"files": (name, content)})
        assert told.status_code in (200, 400), (name, told.text)
        if told.status_code == 400:
            return told.text
        (path,) = told.json()
        take = self.find("image", "input")
        taken = self.ask(take, [{"path": path, "meta": {"_type": "gradio.FileData"}}])
        assert taken is not None, name
        return "".join(str(part) for part in self.ask(self.after(take), [None, 0]))

    def _noted(self, answer):
        assert answer.status_code < 500 or answer.text in FAILED, (answer.url, answer.text)
        assert not OF_THE_MACHINE.search(answer.text), (answer.url, OF_THE_MACHINE.search(answer.text))
        return answer


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with served(tmp_path_factory.mktemp("hostile")) as found:
        yield found
    assert not [path for path in found.uploads.glob("*/*") if path.is_file()], "uploads are gone"
    assert {path.name for path in found.films.rglob("*") if path.is_file()} <= {"copy.txt"}


@pytest.fixture
def visitor(page):
    found = Visitor(page)
    yield found
    found.http.close()


def test_two_hundred_files_leave_the_page_alive_its_memory_flat_and_its_folders_empty(visitor, page):
    process, sizes = psutil.Process(), []
    files = [*kinds().items(), *((repr(name), (name, encoded("PNG"))) for name in NAMES)]
    files += itertools.islice(damaged(UPLOADS), UPLOADS - len(files))
    assert len(files) == UPLOADS
    for number, (what, content) in enumerate(files):
        name, content = content if isinstance(content, tuple) else ("a.png", content)
        said = visitor.bring(content, name)
        assert any(word in said for word in SAID), (what, said)
        if number % 20 == 0:
            assert "mean 200 is" in visitor.bring(png((200, 200, 200)))
            sizes.append(process.memory_info().rss)
    assert "mean 200 is" in visitor.bring(png((200, 200, 200)))
    assert process.memory_info().rss - sizes[3] < GROWTH, [size >> 20 for size in sizes]
    left = [path for path in page.uploads.glob("*") if path.is_file()]
    assert len(left) <= sum(len(name) > LONGEST_NAME or "\0" in name for name in NAMES), (
        "of names that no file can have"
    )
    assert not list(page.uploads.glob("*/*"))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:9/x.png",
        "/proc/self/environ",
        7,
        None,
    ],
)
def test_a_path_of_the_machine_is_neither_read_nor_deleted(visitor, tmp_path, path):
    own = tmp_path / "own.png"
    own.write_bytes(png((9, 9, 9)))
    for given in (path, str(own)):
        file = {"path": given, "meta": {"_type": "gradio.FileData"}}
        for call in (visitor.find("image", "input"), visitor.find("file", "upload")):
            for made in (file, {**file, "url": given, "is_stream": True}, [file], {"value": file}):
                assert visitor.ask(call, [made]) is None
    assert own.exists()


@pytest.mark.parametrize("threshold", [-1, 1e9, "a", None, [], {}, True, "0" * 5000])
def test_a_threshold_that_is_none_is_refused_or_kept_within_bounds(visitor, threshold):
    visitor.bring(png((200, 200, 200)))
    visitor.ask(visitor.find("slider", "change"), [None, threshold])
    assert "mean 200 is" in visitor.bring(png((200, 200, 200)))


@pytest.mark.parametrize("number", [-1, 99, 10**40, 1e308, "0x", "", None, [0], {"a": 1}, "9" * 5000, "\0"])
def test_an_example_that_is_not_there_is_none(visitor, number):
    visitor.ask(visitor.find("html", "example"), [], {"example": number})
    assert "mean 200 is" in visitor.bring(png((200, 200, 200)))


def test_calls_with_too_few_values_too_many_and_of_no_number_are_refused(visitor):
    take = visitor.find("image", "input")
    for data in ([], [None, None, None], None, "text", {"a": 1}):
        visitor.ask(take, data)
    for number in (-1, 10**9, "x", None):
        visitor.send("queue/join", json={"fn_index": number, "data": [], "session_hash": visitor.session})
    assert "mean 200 is" in visitor.bring(png((200, 200, 200)))


def test_a_history_grows_to_its_bound_and_knows_items_alone(visitor):
    pick = visitor.find("html", "pick")
    for told in (*ITEMS, "nothing of the kind", "<b>", "x" * 5000, None, 3):
        visitor.ask(pick, [None], {"pick": told})
    said = str(visitor.ask(pick, [None], {"pick": ITEMS[0]}))
    assert "<b>" not in said
    assert "x" * 201 not in said


def test_an_answer_is_kept_as_something_that_was_asked_about_alone(visitor, page):
    visitor.bring(png((200, 200, 200)))
    keep = visitor.find("button", "click")
    for right in ("../up", ["dark"], {"a": 1}, 3, "x" * 10_000):
        visitor.ask(keep, [None, right, 0])
    assert [path.name for path in page.corrections.glob("*")] in ([], ["dark.png"])
    assert not (page.corrections.parent / "up.png").exists()


@pytest.mark.parametrize(("content", "said"), [(b"", "This is no video."), (b"three frames", "12 bytes")])
def test_a_video_is_taken_and_told_of(visitor, content, said):
    (path,) = visitor.send("upload", files={"files": ("a.mp4", content)}).json()
    take = visitor.find("file", "upload")
    assert visitor.ask(take, [{"path": path, "meta": {"_type": "gradio.FileData"}}]) is not None
    assert said in str(visitor.ask(visitor.after(take), [None, 0]))
