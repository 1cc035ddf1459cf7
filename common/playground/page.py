"""The page itself, on Gradio: fields, examples, answers and corrections of sessions of which it knows nothing else."""

import asyncio
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import KitError
from common.language.telling import in_this_language, tell
from common.playground import texts
from common.playground.fields import PictureField, Values
from common.playground.film_page import lay_out_films
from common.playground.films import Shelf
from common.playground.session import Engine, Session
from common.playground.widgets import ANSWERS, Widget, laid_out, markup, settings_of, widget_of

KEPT_SECONDS = 3600  # an answer is kept for its controls so long after its page was last heard of


@dataclass(frozen=True, eq=False)
class Shown:
    """A run as the page has it.

    corrections: the folder that corrections go to. lock: engines answer one question at a time.
    """

    session: Session
    engine: Engine
    corrections: Path
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, values: Values) -> tuple[Any, Any]:
        """The answer and nothing, or nothing and what to tell instead."""

        def asked() -> Any:
            with self.lock:
                return self.session.ask(values)

        return self.guarded(asked)

    def guarded(self, ask: Callable[[], Any]) -> tuple[Any, Any]:
        """What is asked and nothing, or nothing and what to tell instead."""
        try:
            return ask(), None
        except KitError as error:
            return None, texts.told(error)
        except Exception as error:
            traceback.print_exception(error)
            return None, texts.told(error)

    def show(self, answer: Any, controls: Values) -> str:
        return str(texts.inside(self.session.show(answer, controls)))


def groups_of(shown: Sequence[Shown]) -> list[list[Shown]]:
    """Runs of one kind that take any picture side by side, to be asked the same; each other one alone.

    Forms and catalogues belong to the data of one run.
    """
    groups: dict[Any, list[Shown]] = {}
    for number, one in enumerate(shown):
        takes_pictures = all(isinstance(each, PictureField) for each in one.session.fields)
        groups.setdefault(type(one.session) if takes_pictures else number, []).append(one)
    return list(groups.values())


def build(shown: Sequence[Shown], shelf: Shelf | None = None) -> Any:
    """The page over these runs in the language that is spoken, as Gradio's Blocks; nothing is served yet.

    shelf: where what is made of videos lies; None: the page takes no videos.
    """
    return asyncio.run(_built(shown, shelf))  # Gradio opens a loop for each lock where none runs, and closes none


async def _built(shown: Sequence[Shown], shelf: Shelf | None) -> Any:
    import gradio

    groups = groups_of(shown)
    title = tell("Trained models: {names}", names=", ".join(one.session.name for one in shown))
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(300, 300)) as page:
        markup(texts.title(title))
        if len(groups) == 1:
            _Group(groups[0], shelf).lay_out(page)
        else:
            with gradio.Tabs():
                for group in groups:
                    with gradio.Tab(group[0].session.name):
                        _Group(group, shelf).lay_out(page)
    return page


class _Group:
    """Runs that are asked together: their fields once, their answers side by side."""

    def __init__(self, shown: Sequence[Shown], shelf: Shelf | None) -> None:
        self._shown, self._shelf = shown, shelf
        self._first = shown[0].session

    def lay_out(self, page: Any) -> None:
        import gradio

        examples = markup(texts.example_buttons(self._first.examples()))
        with gradio.Row():
            with gradio.Column(scale=1, min_width=300):
                fields = laid_out(self._first.fields)
            with gradio.Column(scale=2, min_width=320):
                controls = [widget_of(each) for each in self._first.controls]
                with gradio.Row():
                    columns = [self._column(one) for one in self._shown]
        films = [one for one in self._shown if one.session.videos is not None]
        if self._shelf is not None and films:
            lay_out_films(films, self._shelf, controls)
        self._connect(page, examples, fields, controls, columns)

    def _column(self, one: Shown) -> "_Column":
        import gradio

        with gradio.Column(min_width=300):
            markup(texts.heading(one.session, one.engine.label))
            answer = gradio.State(None, time_to_live=KEPT_SECONDS)
            output = markup()
            right = save = status = None
            if one.session.verdict_kind is not None:
                several = one.session.verdict_kind == "several"
                with gradio.Group(visible=False) as box:
                    right = gradio.CheckboxGroup([], label="") if several else gradio.Dropdown([], label="")
                    save = gradio.Button(tell("Keep for training"), size="sm")
                status = markup()
                return _Column(one, answer, output, box, right, save, status)
        return _Column(one, answer, output)

    def _connect(
        self, page: Any, examples: Any, fields: Sequence[Widget], controls: Sequence[Widget], columns: "list[_Column]"
    ) -> None:
        asked = [each.value for each in fields]
        turned = [each.value for each in controls]
        outputs = [part for column in columns for part in column.parts]

        @in_this_language
        def ask(*given: Any) -> list[Any]:
            values = {each.field.name: value for each, value in zip(fields, given, strict=False)}
            settings = settings_of(controls, given[len(fields) :])
            return [part for column in columns for part in column.ask(values, settings)]

        @in_this_language
        def choose(number: int) -> list[Any]:
            found = self._first.examples()
            values: Mapping[str, Any] = self._first.example(number) if 0 <= number < len(found) else {}
            return [update for each in fields for update in each.set(values.get(each.field.name))]

        for each in fields:
            each.connect(ask, [*asked, *turned], outputs)
        on_example(examples, choose, [part for each in fields for part in each.parts]).then(
            ask, [*asked, *turned], outputs, show_progress="minimal", **ANSWERS
        )
        for column in columns:
            column.connect(controls, turned)
            picks = [each for each in fields if each.takes_picks]
            for each in picks:
                each.take_from(column.output, ask, [*asked, *turned], outputs)
        if not any(each.waits for each in fields):
            page.load(ask, [*asked, *turned], outputs, show_progress="hidden", api_visibility="private")


def on_example(examples: Any, choose: Callable[[int], list[Any]], outputs: Sequence[Any]) -> Any:
    """Call `choose` with the number of the example that was clicked."""
    import gradio

    def clicked(event: gradio.EventData) -> Any:
        try:
            number = int(event.example)
        except (AttributeError, TypeError, ValueError, OverflowError):
            number = -1
        found = choose(number)
        return found if len(found) > 1 else found[0]

    return examples.example(clicked, None, outputs, show_progress="hidden", **ANSWERS)


@dataclass(frozen=True, eq=False)
class _Column:
    """One run's answer, and what a person says of it."""

    shown: Shown
    answer: Any
    output: Any
    box: Any = None
    right: Any = None
    save: Any = None
    status: Any = None

    @property
    def parts(self) -> list[Any]:
        """What an answer changes."""
        return [self.answer, self.output, *([self.box, self.right, self.status] if self.box is not None else [])]

    def ask(self, values: Values, settings: Values) -> list[Any]:
        answer, problem = self.shown.ask(values)
        if problem is not None:
            return [None, str(texts.inside(problem)), *self._verdict(None, settings)]
        return [answer, self.shown.show(answer, settings), *self._verdict(answer, settings)]

    def connect(self, controls: Sequence[Widget], turned: Sequence[Any]) -> None:
        @in_this_language
        def turn(answer: Any, *given: Any) -> list[Any]:
            settings = settings_of(controls, given)
            if answer is None:
                return ["", *self._verdict(None, settings)]
            return [self.shown.show(answer, settings), *self._verdict(answer, settings)]

        @in_this_language
        def keep(answer: Any, right: Any, *given: Any) -> str:
            if answer is None:
                return str(texts.inside(texts.hint(tell("Ask again, then correct the answer."))))
            chosen = list(right) if isinstance(right, list | tuple) else [right] if right else []
            try:
                said = self.shown.session.keep(answer, settings_of(controls, given), chosen, self.shown.corrections)
            except (KitError, OSError, ValueError, TypeError) as error:
                return str(texts.inside(texts.told(error)))
            return str(texts.inside(texts.hint(said)))

        for each in controls:
            each.on_change(turn, [self.answer, *turned], self.parts[1:])
        if self.save is not None:
            self.save.click(keep, [self.answer, self.right, *turned], self.status, **ANSWERS)

    def _verdict(self, answer: Any, settings: Values) -> list[Any]:
        """Updates of the box, of what is chosen in it and of the line below."""
        import gradio

        if self.box is None:
            return []
        verdict = None if answer is None else self.shown.session.verdict(answer, settings)
        if verdict is None:
            return [gradio.update(visible=False), gradio.update(), ""]
        choices = [(option.label, option.value) for option in verdict.options]
        several = self.shown.session.verdict_kind == "several"
        value: Any = list(verdict.right) if several else next(iter(verdict.right), None)
        return [
            gradio.update(visible=bool(choices)),
            gradio.update(choices=choices, value=value, label=verdict.question),
            "",
        ]
