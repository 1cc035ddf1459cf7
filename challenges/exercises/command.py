"""`kit exercise`: what can be tried, one exercise at length, and whether a run shows it."""

import argparse
import os
import shlex
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from challenges.exercises import EXERCISES, Exercise, Recorded, find
from challenges.exercises.checks import judge
from challenges.registry import find_model
from common.errors import DataError
from common.language.telling import language_of
from common.terminal.console import plain, say
from common.terminal.duration import duration

WORDS: Mapping[str, Mapping[str, str]] = {
    "en": {
        "exercises": "Exercises", "name": "name", "title": "what", "expected": "expected",
        "time": "training", "measure": "measure it", "hint": "Hint", "then": "Then", "commands": "Commands",
        "more": "One at length: kit exercise show NAME",
    },
    "es": {
        "exercises": "Ejercicios", "name": "nombre", "title": "qué", "expected": "cifra esperada",
        "time": "entrenamiento", "measure": "mídelo", "hint": "Pista", "then": "Después", "commands": "Órdenes",
        "more": "Uno entero: kit exercise show NOMBRE",
    },
}  # fmt: skip


def run(options: argparse.Namespace, console: Console) -> None:
    """Raises NotYetError where a run does not show what was asked for, DataError where something is not said."""
    language = options.lang or language_of(os.environ)
    if options.action == "list":
        _list(options.name, language, console)
        return
    if options.name is None:
        raise DataError(
            f"kit exercise {options.action} names no exercise.",
            f"There are: {', '.join(exercise.name for exercise in EXERCISES)}.",
            "See kit exercise list",
        )
    exercise = find(options.name)
    if options.action == "show":
        _show(exercise, language, console)
        return
    if options.run is None:
        raise DataError(
            f"It is not said which run shows {exercise.name}.",
            "An exercise is judged by a finished run.",
            f"Run: kit exercise check {exercise.name} RUN",
        )
    say(console, judge(exercise, Path(options.run)))


def _list(model: str | None, language: str, console: Console) -> None:
    if model is not None:
        find_model(model)
    words = WORDS[language]
    columns = (Column(words["name"], no_wrap=True), words["title"], words["expected"], words["time"])
    table = Table(*columns, title=words["exercises"], title_justify="left")
    for name, group in groupby(EXERCISES, key=lambda exercise: exercise.model):
        if model in (None, name):
            table.add_section()
            table.add_row(Text(name, style="bold"))
            for exercise in group:
                table.add_row(exercise.name, exercise.title[language], *_told(exercise, words))
    console.print(table)
    say(console, words["more"])


def _told(exercise: Exercise, words: Mapping[str, str]) -> tuple[str, str]:
    """The expected figure and the time, or that they are to be measured."""
    time = _time(exercise.records[0]) if exercise.records else words["measure"]
    return exercise.expected or words["measure"], time


def _time(record: Recorded) -> str:
    return f"{duration(record.seconds)}, {record.hardware}"


def _show(exercise: Exercise, language: str, console: Console) -> None:
    words = WORDS[language]
    say(console, f"{exercise.name} ({exercise.model}): {exercise.title[language]}")
    say(console, "")
    console.print(plain(exercise.text[language].strip()))
    say(console, "")
    say(console, f"{words['commands']}:")
    for line in exercise.lines:
        say(console, f"  {line}")
    for expected, time in [(str(record), _time(record)) for record in exercise.records] or [_told(exercise, words)]:
        say(console, f"{words['expected']}: {expected}; {words['time']}: {time}")
    console.print(plain(f"{words['hint']}: {exercise.hint[language].strip()}"))
    say(console, f"{words['then']}: kit exercise check {exercise.name} {shlex.quote(exercise.asked.run or 'RUN')}")
