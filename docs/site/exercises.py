"""The exercises of challenges/exercises as a page's Markdown."""

from collections.abc import Mapping, Sequence
from typing import Protocol

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "check": "Check your result:",
        "expected": "Expected",
        "hint": "Hint",
        "time": "Time",
        "none": "yours to measure",
        "minutes": "{:.0f} min on two CPU cores",
        "seconds": "{:.0f} s on two CPU cores",
    },
    "es": {
        "check": "Comprueba tu resultado:",
        "expected": "Resultado esperado",
        "hint": "Pista",
        "time": "Tiempo",
        "none": "te toca medirlo",
        "minutes": "{:.0f} min con dos núcleos de CPU",
        "seconds": "{:.0f} s con dos núcleos de CPU",
    },
}
MINUTE = 60


class Exercise(Protocol):
    """What a page shows of an exercise; texts by language.

    expected: a figure; empty, and seconds None, where nobody has recorded one.
    """

    name: str
    model: str
    title: Mapping[str, str]
    text: Mapping[str, str]
    hint: Mapping[str, str]
    command: str
    expected: str
    seconds: float | None


def listed(exercises: Sequence[Exercise], language: str) -> str:
    """A heading for each model, in the order of the exercises, and below it what belongs to it."""
    parts = []
    for model in dict.fromkeys(exercise.model for exercise in exercises):
        parts.append(f"## {model}\n")
        parts += [_one(exercise, WORDS[language], language) for exercise in exercises if exercise.model == model]
    return "\n".join(parts)


def _one(exercise: Exercise, words: Mapping[str, str], language: str) -> str:
    title, text, hint = (part[language].strip() for part in (exercise.title, exercise.text, exercise.hint))
    parts = [
        f"### {title}",
        text,
        _box(exercise.command.strip()),
        f"- {words['expected']}: {exercise.expected or words['none']}\n"
        f"- {words['time']}: {_time(exercise.seconds, words)}\n"
        f"- {words['hint']}: {hint}",
        words["check"],
        _box(f"kit exercise check {exercise.name} RUN"),
    ]
    return "\n\n".join(parts) + "\n"


def _box(command: str) -> str:
    return f"```bash\n{command}\n```"


def _time(seconds: float | None, words: Mapping[str, str]) -> str:
    if seconds is None:
        return words["none"]
    return words["minutes"].format(seconds / MINUTE) if seconds >= MINUTE else words["seconds"].format(seconds)
