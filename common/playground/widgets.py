"""Gradio's components for the fields of a session: what holds each value, and when the model is asked with it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.language.telling import in_this_language, retell, tell
from common.playground import fields, texts
from common.playground.uploads import MAX_UPLOAD

CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-example], button[data-pick], button[data-drop]');
  if (!button) return;
  if ('example' in button.dataset) trigger('example', {example: button.dataset.example});
  else if ('pick' in button.dataset) trigger('pick', {pick: button.dataset.pick});
  else trigger('drop', {drop: button.dataset.drop});
});
"""
"""What a click on one of our buttons tells; what it means is decided in Python."""
ANSWERS = {"trigger_mode": "multiple", "api_visibility": "private"}
"""Of events that answer a click or a file. Gradio loses an answer where its stream closes just as a question comes; an
event that takes no second one while it waits would be dead from then on, and the next one brings both answers."""

Ask = Callable[..., list[Any]]
MOST_PICKS = 500
LONGEST_SEARCH = 100  # characters
MANY_FIELDS = 5
NARROW = 150  # pixels of a field at least, where they stand side by side


class Widget(ABC):
    """One field as components.

    value: the component that holds it. parts: what `set` gives updates for, in order.
    waits: whether there is nothing to ask before somebody gave something.
    """

    waits = False
    takes_picks = False

    def __init__(self, field: Any) -> None:
        self.field = field
        self.value: Any
        self.parts: list[Any]

    def set(self, value: Any) -> list[Any]:
        return [value]

    @abstractmethod
    def connect(self, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Ask whenever the field changes."""

    def on_change(self, then: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Call without asking whenever the field changes."""
        self.value.change(
            then, list(inputs), list(outputs), show_progress="hidden", trigger_mode="always_last",
            api_visibility="private",
        )  # fmt: skip

    def take_from(self, output: Any, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Add what is picked in an answer; only for fields that take picks."""
        raise NotImplementedError


class _Plain(Widget):
    """A component that holds the value itself."""

    def __init__(self, field: fields.Field, component: Any) -> None:
        super().__init__(field)
        self.value, self.parts = component, [component]

    def connect(self, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.value.input(
            ask, list(inputs), list(outputs), show_progress="minimal", trigger_mode="always_last",
            api_visibility="private",
        )  # fmt: skip


class _Picture(Widget):
    """A place to drop a picture on. What is brought goes into a state, and its file is deleted at once."""

    waits = True

    def __init__(self, field: fields.PictureField) -> None:
        import gradio

        super().__init__(field)
        self._drop = gradio.Image(
            label=f"{field.told}. {retell(field.help)}", sources=["upload", "clipboard", "webcam"], type="filepath",
            height=240, buttons=[],
        )  # fmt: skip
        self._drop.preprocess = path_of  # as it came: what the file holds is looked at by the kit
        self.value = gradio.State(None)
        self.parts = [self.value]

    def connect(self, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        def take(path: str | None) -> tuple[Any, Any]:
            if path is None:
                return None, None
            file = Path(path)
            try:
                with file.open("rb") as stream:
                    return None, stream.read(MAX_UPLOAD + 1)  # one more is enough to be refused
            finally:
                file.unlink(missing_ok=True)

        taken = self._drop.input(
            take, self._drop, [self._drop, self.value], show_progress="hidden", trigger_mode="always_last",
            queue=False, api_visibility="private",
        )  # fmt: skip
        taken.then(ask, list(inputs), list(outputs), show_progress="minimal", **ANSWERS)


class _Picks(Widget):
    """A search, what it finds as buttons, and the list so far as buttons that take a pick away."""

    takes_picks = True

    def __init__(self, field: fields.PicksField) -> None:
        import gradio

        super().__init__(field)
        markup(texts.inside(texts.hint(field.told)))
        self._list = markup(self._picked([]))
        self._search = gradio.Textbox(
            label=tell("Search, then click to add"), placeholder=tell("a title"), max_length=LONGEST_SEARCH
        )
        self._found = markup(self._options(""))
        self.value = gradio.State([])
        self.parts = [self.value, self._list]

    def set(self, value: Any) -> list[Any]:
        return [value or [], self._picked(value or [])]

    def connect(self, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        import gradio

        @in_this_language
        def drop(picks: list[str], event: gradio.EventData) -> list[Any]:
            return self.set([pick for pick in picks if pick != _told(event, "drop")])

        self._search.input(
            in_this_language(self._options), self._search, self._found, show_progress="hidden",
            trigger_mode="always_last", api_visibility="private",
        )  # fmt: skip
        dropped = self._list.drop(drop, self.value, self.parts, show_progress="hidden", **ANSWERS)
        dropped.then(ask, list(inputs), list(outputs), show_progress="minimal", **ANSWERS)
        self.take_from(self._found, ask, inputs, outputs)

    def take_from(self, output: Any, ask: Ask, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        import gradio

        @in_this_language
        def pick(picks: list[str], event: gradio.EventData) -> list[Any]:
            told = _told(event, "pick")
            return self.set([*picks, told] if told and told not in picks and len(picks) < MOST_PICKS else picks)

        picked = output.pick(pick, self.value, self.parts, show_progress="hidden", **ANSWERS)
        picked.then(ask, list(inputs), list(outputs), show_progress="minimal", **ANSWERS)

    def _options(self, text: str) -> str:
        found = self.field.find(str(text or "")[:LONGEST_SEARCH])
        return str(texts.pick_buttons(found, "pick", "+", tell("Nothing is called so.")))

    def _picked(self, picks: Sequence[str]) -> str:
        options = [fields.Option(pick, self.field.label_of(pick)) for pick in picks]
        return str(texts.pick_buttons(options, "drop", "×", tell("Nothing yet.")))


def markup(content: str = "") -> Any:
    """A component of our own HTML, whose buttons tell of clicks."""
    import gradio

    return gradio.HTML(str(content), js_on_load=CLICKS, apply_default_css=False)


def settings_of(controls: Sequence[Widget], given: Sequence[Any]) -> dict[str, Any]:
    """The values of controls by their names."""
    return {each.field.name: value for each, value in zip(controls, given, strict=False)}


def laid_out(given: Sequence[fields.Field]) -> list[Widget]:
    """The components of several fields, side by side where they are many."""
    import gradio

    if len(given) < MANY_FIELDS:
        return [widget_of(field) for field in given]
    with gradio.Row():
        return [widget_of(field) for field in given]


def widget_of(field: fields.Field) -> Widget:
    """The components of a field, laid out where this is called."""
    import gradio

    name = {"label": field.told, "info": retell(field.help) or None, "min_width": NARROW}
    if isinstance(field, fields.PictureField):
        return _Picture(field)
    if isinstance(field, fields.PicksField):
        return _Picks(field)
    if isinstance(field, fields.NumberField):
        return _Plain(field, gradio.Number(field.value, **name))
    if isinstance(field, fields.TextField):
        return _Plain(field, gradio.Textbox(field.value, max_length=1000, **name))
    if isinstance(field, fields.ChoiceField):
        choices = [(option.label, option.value) for option in field.options]
        drop = gradio.Dropdown(choices, value=field.value or None, allow_custom_value=field.is_open, **name)
        return _Plain(field, drop)
    if isinstance(field, fields.SliderField):
        return _Plain(field, gradio.Slider(field.low, field.high, field.value, step=field.step, **name))
    raise TypeError(f"The page has no component for {type(field).__name__}.")


def path_of(payload: Any) -> str | None:
    """Where Gradio keeps what was brought."""
    return getattr(payload, "path", None)


def _told(event: Any, name: str) -> str:
    """What a click told; empty where it told nothing of the kind."""
    try:
        return str(getattr(event, name))[:200]
    except AttributeError:
        return ""
