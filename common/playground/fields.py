"""What a person gives a model on the page, one field each, and what is told of examples to begin with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from common.language.telling import retell

Values = Mapping[str, Any]
"""Field name -> what was given: the bytes of a file, text, a number, or a list of picks; None for nothing."""


class Option(NamedTuple):
    """Something to choose.

    value: what the model is told. label: what is read.
    """

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One thing that is asked with.

    name: of its value. label: above it, in English, or what the data calls it where that is the name, too.
    help: in an English sentence, empty for none.
    """

    name: str
    label: str
    help: str = ""

    @property
    def told(self) -> str:
        return self.label if self.label == self.name else retell(self.label)


@dataclass(frozen=True, kw_only=True)
class PictureField(Field):
    """An image file, dropped, pasted, chosen or from a camera; its value is the file's bytes."""


@dataclass(frozen=True, kw_only=True)
class NumberField(Field):
    """A number, or nothing."""

    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class TextField(Field):
    """A line of text."""

    value: str = ""


@dataclass(frozen=True, kw_only=True)
class ChoiceField(Field):
    """One of several options, or, where they are only the commonest, a text of one's own."""

    options: tuple[Option, ...]
    value: str = ""
    is_open: bool = False


@dataclass(frozen=True, kw_only=True)
class SliderField(Field):
    """A number within bounds."""

    low: float
    high: float
    step: float
    value: float


@dataclass(frozen=True, kw_only=True)
class PicksField(Field):
    """A list that grows by picking from what a search finds; its value is the list of the options' values.

    find:  the options that a text finds, the likeliest first; of the empty text, those to begin with.
    label_of: what is read of a value.
    """

    find: Callable[[str], Sequence[Option]]
    label_of: Callable[[str], str]


class Example(NamedTuple):
    """A question to begin with.

    caption: what is known of it. picture: as a data URI, empty for none.
    """

    caption: str
    picture: str = ""
