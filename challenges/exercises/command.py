"""`kit exercise`: what can be tried, one exercise at length, and whether a run shows it."""

import argparse
import shlex
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from challenges.exercises import EXERCISES, Exercise, Recorded, find
from challenges.exercises.checks import judge
from challenges.registry import find_model
from common.errors import DataError
from common.language.telling import language, tell
from common.terminal.console import plain, say
from common.terminal.duration import duration


def run(options: argparse.Namespace, console: Console) -> None:
    """Raises NotYetError where a run does not show what was asked for, DataError where something is not said."""
    if options.action == "list":
        _list(options.name, console)
        return
    if options.name is None:
        raise DataError(
            f"kit exercise {options.action} names no exercise.",
            f"There are: {', '.join(exercise.name for exercise in EXERCISES)}.",
            "See kit exercise list",
        )
    exercise = find(options.name)
    if options.action == "show":
        _show(exercise, console)
        return
    if options.run is None:
        raise DataError(
            f"It is not said which run shows {exercise.name}.",
            "An exercise is judged by a finished run.",
            f"Run: kit exercise check {exercise.name} RUN",
        )
    say(console, judge(exercise, Path(options.run)))


def _list(model: str | None, console: Console) -> None:
    if model is not None:
        find_model(model)
    columns = (Column(tell("name"), no_wrap=True), tell("what"), tell("expected"), tell("training"))
    table = Table(*columns, title=tell("Exercises"), title_justify="left")
    for name, group in groupby(EXERCISES, key=lambda exercise: exercise.model):
        if model in (None, name):
            table.add_section()
            table.add_row(Text(name, style="bold"))
            for exercise in group:
                table.add_row(exercise.name, exercise.title[language()], *_told(exercise))
    console.print(table)
    say(console, tell("One at length: kit exercise show NAME"))


def _told(exercise: Exercise) -> tuple[str, str]:
    """The expected figure and the time, or that they are to be measured."""
    time = _time(exercise.records[0]) if exercise.records else tell("measure it")
    return exercise.expected or tell("measure it"), time


def _time(record: Recorded) -> str:
    return f"{duration(record.seconds)}, {record.hardware}"


def _show(exercise: Exercise, console: Console) -> None:
    say(console, f"{exercise.name} ({exercise.model}): {exercise.title[language()]}")
    say(console, "")
    console.print(plain(exercise.text[language()].strip()))
    say(console, "")
    say(console, tell("Commands:"))
    for line in exercise.lines:
        say(console, f"  {line}")
    for expected, time in [(str(record), _time(record)) for record in exercise.records] or [_told(exercise)]:
        say(console, tell("expected: {expected}; training: {time}", expected=expected, time=time))
    console.print(plain(tell("Hint: {hint}", hint=exercise.hint[language()].strip())))
    check = f"kit exercise check {exercise.name} {shlex.quote(exercise.asked.run or 'RUN')}"
    say(console, tell("Then: {command}", command=check))
