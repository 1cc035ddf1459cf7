"""Messages in the language that is spoken at the moment.

Messages are their English text with named places for values, as `str.format` has them, and are looked up by gettext.
"""

import functools
import gettext
import re
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

Language = Literal["en", "es"]
Call = TypeVar("Call", bound=Callable[..., Any])
LANGUAGES: tuple[Language, ...] = get_args(Language)
FOLDER = Path(__file__).parent
NARROW_BLANK = "\u202f"  # between digits in groups, where a comma would be read as the decimal sign
VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
"""Of the environment, in the order in which gettext asks them."""
LEAST_LETTERS = 2  # of a message beside its places, for texts to be known by them
FEW_SIGNS = 4  # beside its places, below which a message is known only with a single word in each

QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
"""What `!r` makes of a text."""
NUMBER = r"-?(?:[\d.,]+(?:e[-+]?\d+)?|inf|nan)%?"
"""What a format specification such as `,` or `.1%` makes of a number."""
NUMERIC = re.compile(r",?(\.\d+)?[defg%]?")

_spoken: ContextVar[Language] = ContextVar("language", default="en")


def language() -> Language:
    """What is spoken here."""
    return _spoken.get()


@contextmanager
def speaking(chosen: Language) -> Iterator[None]:
    """Speak this language as long as the block runs, and nowhere else."""
    before = _spoken.set(chosen)
    try:
        yield
    finally:
        _spoken.reset(before)


def in_this_language(function: Call) -> Call:
    """The function, which speaks the language that is spoken now whenever and wherever it is called."""
    spoken = language()

    @functools.wraps(function)
    def speaks(*arguments: Any, **named: Any) -> Any:
        with speaking(spoken):
            return function(*arguments, **named)

    return cast(Call, speaks)


def tell(message: str, **values: Any) -> str:
    """The message in the language that is spoken, its places filled where values are given."""
    translated = _catalogue(language()).gettext(message)
    return _FORMATTER.vformat(translated, (), values) if values else translated


def tell_count(one: str, many: str, count: int, **values: Any) -> str:
    """The message for that many things; `count` is among the values."""
    translated = _catalogue(language()).ngettext(one, many, count)
    return _FORMATTER.vformat(translated, (), {"count": count, **values})


def english(message: str, **values: Any) -> str:
    """The message in English, to be kept in a file or printed; `retell` tells it again in another language."""
    return message.format(**values) if values else message


def retell(text: str) -> str:
    """An English text that `english` made, or several with commas between, in the language that is spoken.

    Any other text stays as it is.
    """
    spoken = language()
    if spoken == "en" or not text:
        return text
    translated = _catalogue(spoken).gettext(text)
    if translated != text:
        return translated
    parts = [_by_template(part) for part in text.split(", ")]
    return ", ".join(parts) if all(parts) else _by_template(text) or text


def _by_template(text: str) -> str:
    """The text by the message with places that it was made of; empty where there is none."""
    spoken = language()
    for template in _templates(spoken):
        found = template.pattern.fullmatch(text) if text.startswith(template.begin) else None
        if found:
            values = {name: _regrouped(value, template.specs[name]) for name, value in found.groupdict().items()}
            return _Filled().vformat(_catalogue(spoken).gettext(template.message), (), values)
    return ""


def grouped(number: int) -> str:
    """A whole number with its digits in groups of three."""
    return _FORMATTER.format_field(number, ",")


def language_of(environment: Mapping[str, str]) -> Language:
    """What the environment asks for, as gettext reads it; English where that is none of ours."""
    asked = next((environment[name] for name in VARIABLES if environment.get(name)), "")
    return _first_known(asked.split(":"))


def language_accepted(header: str) -> Language:
    """What a browser's Accept-Language asks for; English where that is none of ours."""
    weighed = []
    for place, part in enumerate(header.split(",")):
        name, _, weight = part.partition(";q=")
        try:
            weighed.append((-float(weight or 1), place, name.strip()))
        except ValueError:
            continue
    return _first_known([name for weight, _, name in sorted(weighed) if weight < 0])


def _first_known(names: list[str]) -> Language:
    shortened = [re.split(r"[-_.@]", name.lower())[0] for name in names]
    return next((known for name in shortened for known in LANGUAGES if known == name), "en")


class _Formatter(string.Formatter):
    """Groups digits as the language does."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = format(value, format_spec)
        return text.replace(",", NARROW_BLANK) if "," in format_spec and language() != "en" else text


class _Filled(string.Formatter):
    """Takes values that are text already, whatever form a place asks for."""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        return value

    def format_field(self, value: Any, format_spec: str) -> str:
        return str(value)


_FORMATTER = _Formatter()


class _Template:
    """A message with places, by which its texts are known."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.specs: dict[str, str] = {}
        parsed = list(string.Formatter().parse(message))
        said = "".join(literal for literal, *_ in parsed)
        self.letters, self.begin = sum(map(str.isalpha, said)), parsed[0][0]
        anything = ".+?" if len("".join(said.split())) >= FEW_SIGNS else r"\S+"
        parts = []
        for literal, name, spec, conversion in parsed:
            parts.append(re.escape(literal))
            if name:
                value = QUOTED if conversion == "r" else NUMBER if spec and NUMERIC.fullmatch(spec) else anything
                parts.append(f"(?P={name})" if name in self.specs else f"(?P<{name}>{value})")
                self.specs[name] = spec or ""
        self.pattern = re.compile("".join(parts), re.DOTALL)


@functools.cache
def _catalogue(spoken: Language) -> gettext.NullTranslations:
    if spoken == "en":
        return gettext.NullTranslations()
    with (FOLDER / f"{spoken}.mo").open("rb") as stream:
        return gettext.GNUTranslations(stream)


@functools.cache
def _templates(spoken: Language) -> list[_Template]:
    """Those with places, the wordiest first: what they have in common is told by the one that says more."""
    known: dict[Any, str] = vars(_catalogue(spoken))["_catalog"]
    messages = {key if isinstance(key, str) else key[0] for key in known}
    made = [_Template(message) for message in sorted(messages) if "{" in message]
    return sorted((one for one in made if one.letters >= LEAST_LETTERS), key=lambda one: -one.letters)


def _regrouped(value: str, spec: str) -> str:
    """What was filled in, told again where it is a message of its own; a place with `:s` holds the data's own words."""
    if spec == "s":
        return value
    return value.replace(",", NARROW_BLANK) if "," in spec else retell(value)
