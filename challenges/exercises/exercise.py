"""What an exercise is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from challenges.exercises.commanded import Commanded, commanded

LANGUAGES = ("es", "en")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a committed outcome says that the exercise's run reached.

    interval: of 95 %. seconds: of the training alone. hardware: such as AMD EPYC, 2 cores.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None
    seconds: float
    hardware: str

    def __str__(self) -> str:
        between = "" if self.interval is None else f" ({self.interval[0]:.4f} – {self.interval[1]:.4f})"
        return f"{self.metric} {self.value:.4f}{between}"


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One exercise; title, text and hint by language.

    command:     what is typed, one command a line; the first one trains.
    checks:      what a run has to show, names of challenges/exercises/checks.py; their order is that of telling.
    application: what the exercise is an example of in the world outside; empty for those on the training itself.
    records:     of runs by the very command, a CPU's first.
    promise:     what the recipe's target asks for, where it has one; empty otherwise.
    """

    name: str
    model: str
    title: dict[str, str]
    text: dict[str, str]
    hint: dict[str, str]
    command: str
    checks: tuple[str, ...]
    application: str = ""
    records: tuple[Recorded, ...] = ()
    promise: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name: small letters, digits and single hyphens make one.")
        parts: Mapping[str, Mapping[str, str]] = {"title": self.title, "text": self.text, "hint": self.hint}
        for part, texts in parts.items():
            if set(texts) != set(LANGUAGES) or not all(text.strip() for text in texts.values()):
                raise ValueError(f"{part} of {self.name} is not in each of {', '.join(LANGUAGES)}.")
        if not self.checks:
            raise ValueError(f"{self.name} has no check.")

    @property
    def expected(self) -> str:
        """The figure of a committed record, else of the recipe's target; empty where it has to be measured."""
        return str(self.records[0]) if self.records else self.promise

    @property
    def seconds(self) -> float | None:
        """Of the recorded training; None where it has to be measured."""
        return self.records[0].seconds if self.records else None

    @property
    def lines(self) -> tuple[str, ...]:
        """The commands one by one."""
        return tuple(self.command.strip().splitlines())

    @property
    def asked(self) -> Commanded:
        """What the first command trains."""
        return commanded(self.lines[0])
