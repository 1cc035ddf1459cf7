"""The student's handbook: both languages tell the same, every command can be given, the site is alone."""

import argparse
import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from challenges.__main__ import main
from challenges.data_sets.getting import find
from challenges.data_sets.table import DATA_SETS
from challenges.exercises import EXERCISES, Recorded
from challenges.exercises import find as find_exercise
from challenges.parser import EXIT_CODES, build_parser
from challenges.registry import find_model, find_recipe
from common import errors
from common.errors import KitError
from common.machine.environment import ROOT
from common.run.overrides import apply_overrides

pytest.importorskip("sphinx", reason="no handbook without the extra docs: pip install '.[docs]'")

from docs.site.build import build
from docs.site.exercises import WORDS, listed
from docs.site.pages import LANGUAGES, chapters, translations
from tests.test_told_names import SENTENCES

DOCS = ROOT / "docs"
PAGES = {language: [DOCS / language / f"{name}.md" for name in chapters(DOCS / language)] for language in LANGUAGES}
PAIRS = list(zip(PAGES["en"], PAGES["es"], strict=False))
FENCE = re.compile(r"^```(\S*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:kit|make) [^`]+)`")
FORMULA = re.compile(r"\$\$.*?\$\$", re.DOTALL)
STOP_WORDS = {
    "en": frozenset(
        {
            "the",
            "of",
            "and",
            "to",
            "is",
            "that",
            "with",
            "for",
            "are",
            "it",
            "this",
            "which",
            "from",
            "by",
            "be",
            "what",
            "where",
            "not",
            "as",
            "at",
            "was",
            "were",
        }
    ),
    "es": frozenset(
        {
            "el",
            "la",
            "los",
            "las",
            "de",
            "que",
            "y",
            "en",
            "un",
            "una",
            "es",
            "por",
            "con",
            "para",
            "se",
            "lo",
            "como",
            "más",
            "no",
            "del",
            "al",
            "su",
            "sus",
        }
    ),
}
INSTALLED = [f".venv/{name}" for name in ("ready", "ready-dev", "ready-docs", "ready-demo", "ready-aws")]


def plain(text: str) -> str:
    """What is written in a language: without code, formulae, marks, and names of the report's sections."""
    for pattern in (FENCE, FORMULA, re.compile(r"<!--.*?-->"), re.compile(r"`[^`]*`"), re.compile(r"\$[^$]*\$")):
        text = pattern.sub(" ", text)
    return re.sub(r"\]\([^)]*\)|\*\*[^*]+\*\*", " ", text)


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, items of lists and rows of tables."""
    yield from (part for part in re.split(r"\n\s*\n|\n(?=[-|#])", plain(text)) if part.strip())


def foreign(text: str, language: str) -> list[str]:
    """Paragraphs with more small words of the other language than of this one."""
    found = []
    for paragraph in paragraphs(text):
        words = re.findall(r"[^\W\d_]+", paragraph.lower())
        counts = {one: sum(word in stops for word in words) for one, stops in STOP_WORDS.items()}
        others = max(count for one, count in counts.items() if one != language)
        if others >= 2 and others >= counts[language]:
            found.append(paragraph)
    return found


@dataclass(frozen=True)
class Shape:
    """What two pages that tell the same have in common."""

    headings: list[int]
    blocks: list[tuple[str, list[str]]]
    formulae: list[str]
    figures: list[str]
    rows: int
    items: int


def shape(path: Path) -> Shape:
    text = path.read_text()
    outside = FENCE.sub("", text)
    return Shape(
        headings=[len(marks) for marks in re.findall(r"^(#+) ", outside, re.MULTILINE)],
        blocks=[(kind, [skeleton(line) for line in body.splitlines()]) for kind, body in FENCE.findall(text)
                if kind != "{toctree}"],
        formulae=FORMULA.findall(text),
        figures=re.findall(r"<!-- (\w[^>]*?) -->", text),
        rows=len(re.findall(r"^\|", outside, re.MULTILINE)),
        items=len(re.findall(r"^(?:- |\d+\. )", outside, re.MULTILINE)),
    )  # fmt: skip


def skeleton(line: str) -> str:
    """A command without the names of folders and files that each language gives its own."""
    return re.sub(r"--lang \w\w", "--lang L", re.sub(r"~/[\w/.-]+", "~/DATA", line))


@pytest.mark.parametrize(("english", "spanish"), PAIRS, ids=lambda path: path.stem)
def test_both_languages_tell_the_same(english, spanish):
    assert shape(english) == shape(spanish)


def test_no_chapter_is_missing():
    assert len(PAGES["en"]) == len(PAGES["es"]) >= 11
    for language, pages in PAGES.items():
        assert {path.name for path in (DOCS / language).glob("*.md")} == {path.name for path in pages}
        assert len({page for known in translations(DOCS, language).values() for page in known.values()}) == len(pages)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_in_its_pages_language(language):
    assert [(path.name, found) for path in PAGES[language] for found in foreign(path.read_text(), language)] == []


def test_a_sentence_in_another_language_is_found():
    assert foreign("La red aprende.\n\nThis is what the network has learnt.\n", "es")
    assert foreign("The network learns.\n\nEsto es lo que la red ha aprendido.\n", "en")


def test_the_reports_sections_are_called_as_the_report_calls_them():
    known = dict(
        re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"', (ROOT / "common/language/es.po").read_text(), re.MULTILINE)
    )
    english, spanish = (re.findall(r"\*\*([^*]+)\*\*", path.read_text()) for path in (PAGES["en"][5], PAGES["es"][5]))
    assert len(english) > 15
    assert [known[name] for name in english] == spanish


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KitError)]
FAILURES = {"en": "failures", "es": "errores"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_error_and_exit_code_is_explained(language):
    text = (DOCS / language / f"{FAILURES[language]}.md").read_text()
    assert [kind.__name__ for kind in KINDS if f"`{kind.__name__}`" not in text] == []
    codes = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE) for code in row.split(",")}
    assert codes == {1, *map(int, re.findall(r"\d+", EXIT_CODES))}


def test_every_message_that_is_explained_can_be_met():
    told = {language: messages((DOCS / language / f"{name}.md").read_text()) for language, name in FAILURES.items()}
    assert told["en"] == told["es"]
    code = (sentence.text for sentence in SENTENCES if ".py:" in sentence.place)
    sources = "\n".join(["Unrecognized", *code])  # the first is tyro's
    assert [message for message in told["en"] if message not in sources] == []
    assert len(told["en"]) > 40


def messages(text: str) -> list[str]:
    """The first cells of the tables that are a message, word for word."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


COMMANDS = sorted(
    {
        line.strip()
        for path in PAGES["en"] + PAGES["es"]
        for line in (
            *(line for kind, body in FENCE.findall(path.read_text()) if kind == "bash" for line in body.splitlines()),
            *INLINE.findall(path.read_text()),
        )
        if line.strip()
    }
)
KIT = [line for line in COMMANDS if line.startswith("kit ") or " challenges " in line]
MAKE = [line for line in COMMANDS if re.match(r"(?:[A-Z_]+=\S+ )*make ", line)]
PLACEHOLDERS = {"MODEL/RECIPE": "resnet50/demo", "MODEL": "resnet50", "N": "2", "NAME": "ml-1m", "PREPARED": "prepared"}


def test_every_command_is_one_that_is_tried():
    assert set(COMMANDS) - set(KIT) - set(MAKE) == {"source .venv/bin/activate"}
    assert len(KIT) > 55
    assert len(MAKE) > 30


@pytest.mark.parametrize("line", KIT)
def test_kit_understands(line):
    words = shlex.split(line)
    words = words[words.index("challenges" if "challenges" in words else "kit") + 1 :]
    words = [PLACEHOLDERS.get(word, word) for word in words]
    if len(words) == 1 or words[-1] == "--help":  # a verb that is spoken of, or what a recipe can be told
        with contextlib.suppress(SystemExit):
            assert main([*words, "--help"]) == 0
        return
    options, overrides = build_parser().parse_known_args(words)
    assert not overrides or options.takes_overrides
    if options.takes_overrides:
        require_recipe(options, overrides)
    if options.verb == "data" and options.name:
        find(options.name)
    if getattr(options, "data", None) and re.fullmatch(r"[a-z][\w-]*", options.data):
        assert options.data in {*DATA_SETS, "prepared"}


def require_recipe(options: argparse.Namespace, overrides: list[str]) -> None:
    """The recipe is there and has the fields."""
    named = [options.recipe] if options.verb != "challenge" else [
        f"{model}/{options.recipe or find_model(model).recipe_for_data}" for model in options.model
    ]  # fmt: skip
    for name in named:
        apply_overrides(find_recipe(name)[2], overrides, "kit")


ANSWERED = {"kit list", "kit data list", "kit aws prices", "kit exercise list", "kit exercise show halve-learning-rate"}
"""Commands that need nothing and change nothing."""


@pytest.mark.parametrize("line", sorted(ANSWERED))
def test_kit_answers(line, capsys):
    assert line in KIT
    assert main(shlex.split(line)[1:]) == 0
    assert len(capsys.readouterr().out) > 100


@pytest.mark.parametrize("line", [line for line in KIT if "RUN" in line.split() and "kit demo" not in line])
def test_kit_looks_for_the_run(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["." if word == "FOLDER" else word for word in shlex.split(line)[1:]]) == 2
    assert "RUN is not a run directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_kit_checks_the_data_that_the_handbook_describes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CHALLENGE_KIT_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("cat", "dog") * 3):
        folder = tmp_path / "my-photos" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24), (40 * number, 90, 200 - 30 * number)).save(folder / f"{number}.png")
    rows = [f"u{user},i{(user * step) % 11},{step}" for user in range(12) for step in range(1, 8)]
    (tmp_path / "my-ratings.csv").write_text("\n".join(["customer,sku,bought", *rows]) + "\n")
    lines = [line for line in KIT if re.match(r"kit check ~/my-(photos|ratings)", line)]
    assert len(lines) == 2
    for line in lines:
        assert main([word.replace("~", str(tmp_path)) for word in shlex.split(line)[1:]]) == 0
    told = capsys.readouterr().out
    assert "model: resnet50" in told
    assert "understood" in told


@pytest.mark.parametrize("line", MAKE)
def test_make_knows(line, tmp_path):
    words = shlex.split(line.replace("RUN", "x"))
    place = words.index("make")
    known = [part for name in INSTALLED for part in ("-o", name)]
    flags = ["-n", *known, "-o", ".triton/payload.json", "ENGINE=true"]
    environment = {**os.environ, **dict(word.split("=", 1) for word in words[:place]), "HOME": str(tmp_path)}
    answer = subprocess.run(
        ["make", *flags, *words[place + 1 :]], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip(), "it does something"
    data = [word.removeprefix("DATA=") for word in words if word.startswith("DATA=")]
    assert all(name in DATA_SETS or "/" in name for name in data)
    given = [word.split("=", 1)[1] for word in words if word.startswith("ARGS=")]
    for flags in given:  # what make hands to kit is kit's to understand
        target = next(word for word in words[place + 1 :] if word.startswith(("challenge", "demo", "docs")))
        if target.startswith("challenge"):
            model = {"1": "resnet50", "2": "ssd300"}.get(target[-1]) or next(
                word.removeprefix("MODEL=") for word in words if word.startswith("MODEL=")
            )
            test_kit_understands(f"kit challenge {model} {flags}")


class Links(HTMLParser):
    """What a page loads, where it leads to, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.followed: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.places.add(found["id"])
        address = found.get("href") or found.get("src")
        if address is not None:
            (self.followed if tag == "a" else self.loaded).append(address)
        self.loaded += found.get("srcset", "").split()[::2]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("site") / "handbook").parent


def test_the_site_holds_every_page(site):
    for language, pages in PAGES.items():
        assert all((site / language / f"{path.stem}.html").is_file() for path in pages)
        assert f'lang="{language}"' in (site / language / "index.html").read_text()


def test_every_link_and_anchor_leads_somewhere(site):
    pages = {path.resolve(): Links(path.read_text()) for path in site.rglob("*.html")}
    broken = []
    for path, links in pages.items():
        for address in (*links.followed, *links.loaded):
            if re.match(r"(?:https?|mailto|data):", address):
                continue
            name, _, place = address.partition("#")
            target = (path.parent / name.partition("?")[0]).resolve() if name else path
            if not target.is_file() or (place and target in pages and place not in pages[target].places):
                broken.append((path.relative_to(site).as_posix(), address))
    assert broken == []
    assert sum(len(links.followed) for links in pages.values()) > 200


def test_no_page_asks_another_machine_for_anything(site):
    outside = re.compile(r"^(?:[a-z]+:)?//", re.IGNORECASE)
    for path in site.rglob("*.html"):
        assert [address for address in Links(path.read_text()).loaded if outside.match(address)] == []
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:@import\s+|url\()\s*[\"']?(?:https?:)?//", path.read_text()) == []
    for path in site.rglob("*.js"):
        assert re.findall(r"(?:fetch|import|src\s*=|open)\s*\(?\s*[\"'`](?:https?:)?//", path.read_text()) == []


def test_a_browser_finds_all_it_needs_in_the_site(site):
    api = pytest.importorskip("playwright.sync_api", reason="the walk needs Playwright")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip(f"the walk needs {chromium}")
    asked, failed = [], []
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": 400, "height": 900}, locale="es-ES").new_page()
        tab.on("request", lambda one: asked.append(one.url))
        tab.on("requestfailed", lambda one: failed.append(one.url))
        tab.goto((site / "index.html").as_uri())
        tab.wait_for_url("**/es/index.html")
        for path in sorted(site.rglob("*.html")):
            tab.goto(path.as_uri())
            assert tab.evaluate("document.documentElement.scrollWidth") <= 400, path
        tab.goto((site / "es" / "search.html").as_uri() + "?q=residuales")
        tab.wait_for_selector("#search-results li")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert failed == []


def test_a_broken_link_ends_the_build(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("docs.site.build.LANGUAGES", {"en": "English"})
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "index.md").write_text("# Title\n\n[there](nowhere.md)\n")
    with pytest.raises(KitError, match="cannot be built: en"):
        build(tmp_path / "site", tmp_path)
    assert "nowhere.md" in capfd.readouterr().err
    assert not (tmp_path / "site").exists()


def test_what_is_not_the_kits_is_not_replaced(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(KitError, match="holds something else"):
        build(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_exercises_are_listed_in_each_language():
    one = find_exercise("halve-learning-rate")
    told = replace(one, records=(Recorded(metric="top1", value=0.85, interval=None, seconds=130.0, hardware="a CPU"),))
    english, spanish = (listed([told, find_exercise("fewer-doubles")], language) for language in ("en", "es"))
    for text, language in ((english, "en"), (spanish, "es")):
        assert text.index("## resnet50") < text.index(f"### {one.title[language]}") < text.index("## ssd300")
        assert f"```bash\n{one.command}\n```" in text
        assert "kit exercise check halve-learning-rate runs/halve-learning-rate\n" in text
    assert "- Expected: top1 0.8500\n- Training: 130 s on a CPU\n" in english
    assert "- Entrenamiento: te toca medirlo\n" in spanish
    assert listed((), "en") == ""
    assert WORDS["en"].keys() == WORDS["es"].keys()
    assert {*WORDS} == {*LANGUAGES}


def test_the_page_of_exercises_holds_every_one(site):
    for language, name in (("en", "exercises"), ("es", "ejercicios")):
        text = (site / language / f"{name}.html").read_text()
        assert [one.name for one in EXERCISES if one.name not in text] == []


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda one: one.name)
def test_an_exercise_is_in_its_language_and_its_commands_are_understood(exercise):
    for language in LANGUAGES:
        texts = "\n\n".join(part[language] for part in (exercise.title, exercise.text, exercise.hint))
        assert foreign(texts, language) == []
    for line in exercise.lines:
        if line.startswith("kit ") and "RUN" not in line:
            test_kit_understands(line)
