"""Sentences and pieces of the page that no model has a part in."""

import re
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from common.errors import KitError
from common.failures import explain
from common.language.telling import retell, tell
from common.playground.fields import Example, Option
from common.playground.session import Session
from common.report.elements import join, notice, picture

_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s/:;,'\"<>]+/)+([^\s/:;,'\"<>]*)")
"""An absolute path of two parts or more, whose last part is kept."""


def without_paths(text: str) -> str:
    """The text with absolute paths cut down to their last part: a page is shown to others."""
    return _PATH.sub(lambda found: found[1] or "…", text)


def told(error: Exception) -> Markup:
    """What went wrong, as a notice of the page; its sentences are told again in the page's language."""
    known = error if isinstance(error, KitError) else explain(error)
    if known is None:
        told_instead = tell("This could not be answered; what happened stands in the terminal. Try something else.")
        return notice(told_instead, "bad")
    text = " ".join(retell(part) for part in (known.given, known.allowed, known.remedy) if part)
    return notice(without_paths(text))


def title(text: str) -> Markup:
    return inside(Markup("<h1>{}</h1>").format(without_paths(text)))


def heading(session: Session, engine: str) -> Markup:
    about = tell("It {about}. Answers come from {engine}.", about=retell(session.about), engine=retell(engine))
    return inside(Markup('<h3>{}</h3><p class="about">{}</p>').format(session.name, about))


def inside(content: str) -> Markup:
    """Content in the element whose look style.css describes; readers of screens are told when it changes."""
    return Markup('<div class="kit" aria-live="polite">{}</div>').format(content)


def hint(text: str) -> Markup:
    return Markup('<p class="hint">{}</p>').format(text)


def example_buttons(examples: Sequence[Example]) -> Markup:
    """The examples as buttons, which carry their number."""
    if not examples:
        return inside("")
    buttons = join(
        Markup('<button type="button" data-example="{}">{}{}</button>').format(
            number,
            picture(example.picture, "") if example.picture else "",
            example.caption or tell("Example {number}", number=number + 1),
        )
        for number, example in enumerate(examples)
    )
    return inside(
        Markup('{}<div class="examples">{}</div>').format(
            hint(tell("Examples from the validation data, the hardest first:")), buttons
        )
    )


def pick_buttons(options: Iterable[Option], act: str, sign: str, empty: str) -> Markup:
    """Options as buttons, each with a sign for what a click does.

    act: pick or drop.
    """
    buttons = join(
        Markup('<button type="button" data-{}="{}" aria-label="{} {}">{} {}</button>').format(
            act, option.value, tell("Add") if act == "pick" else tell("Take away"), option.label, sign, option.label
        )
        for option in options
    )
    return inside(Markup('<div class="picks">{}</div>').format(buttons) if buttons else hint(empty))
