"""The exercises of challenges/exercises as a page's Markdown."""

import re
from collections.abc import Mapping, Sequence

from challenges.exercises import Exercise

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "check": "Check your result:",
        "expected": "Expected",
        "hint": "Hint",
        "time": "Training",
        "none": "yours to measure",
        "minutes": "{:.0f} min on {}",
        "seconds": "{:.0f} s on {}",
    },
    "es": {
        "check": "Comprueba tu resultado:",
        "expected": "Resultado esperado",
        "hint": "Pista",
        "time": "Entrenamiento",
        "none": "te toca medirlo",
        "minutes": "{:.0f} min en {}",
        "seconds": "{:.0f} s en {}",
    },
}
MINUTE = 60
LONG = 3 * MINUTE
"""Seconds from which on minutes are told."""


def listed(exercises: Sequence[Exercise], language: str) -> str:
    """A heading for each model, in the order of the exercises, and below it what belongs to it."""
    parts = []
    for model in dict.fromkeys(exercise.model for exercise in exercises):
        parts.append(f"## {model}\n")
        parts += [_one(exercise, WORDS[language], language) for exercise in exercises if exercise.model == model]
    return "\n".join(parts)


def _one(exercise: Exercise, words: Mapping[str, str], language: str) -> str:
    title, text, hint = (part[language].strip() for part in (exercise.title, exercise.text, exercise.hint))
    run = re.search(r"--run (\S+)", exercise.command)
    parts = [
        f"### {title}",
        text,
        _box(exercise.command.strip()),
        f"- {words['expected']}: {exercise.expected or words['none']}\n"
        f"- {words['time']}: {_times(exercise, words)}\n"
        f"- {words['hint']}: {hint}",
        words["check"],
        _box(f"kit exercise check {exercise.name} {run[1] if run else 'RUN'}"),
    ]
    return "\n\n".join(parts) + "\n"


def _box(command: str) -> str:
    return f"```bash\n{command}\n```"


def _times(exercise: Exercise, words: Mapping[str, str]) -> str:
    """Of every record, with its hardware."""
    told = [
        words["minutes" if record.seconds >= LONG else "seconds"].format(
            record.seconds / (MINUTE if record.seconds >= LONG else 1), record.hardware
        )
        for record in exercise.records
    ]
    return "; ".join(told) or words["none"]
