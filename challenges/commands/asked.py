"""What verbs make of the flags they were given: data, a run, a request, a question."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenges.registry import CLICKS, HISTORIES, Entry, find_model, find_recipe
from common.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console

    from common.challenge import Challenge
    from common.question import Question
    from common.run.run_directory import RunDirectory
    from common.stages.request import Request


def bring_data(options: argparse.Namespace) -> None:
    """Copy data that lies in S3 here, or fetch a data set by its name, before a verb reads it.

    An instance of AWS reads S3 by itself, and what is only planned fetches nothing.
    """
    is_rent = options.verb == "aws"
    if is_rent and (options.action != "run" or options.dry_run):
        return
    given = getattr(options, "data", None)
    if given:
        options.data = given if is_rent and given.startswith("s3://") else _brought(given)
    folders = getattr(options, "folders", None)
    if folders:
        options.folders = [*map(_brought, folders)]


def _brought(given: str) -> str:
    """The path of data that was given by a path, an address or a name."""
    if given.startswith("s3://"):
        from common.storage.s3 import local_copy

        return str(local_copy(given, new_console()))
    from challenges.data_sets.naming import resolved

    return resolved(given, new_console())


def request_of(options: argparse.Namespace, identifier: str, overrides: tuple[str, ...]) -> "Request | None":
    """What to train; None after help was printed. Everything a user can get wrong is found before torch is imported."""
    entry, name, recipe = find_recipe(identifier)
    from common.run.overrides import apply_overrides, print_overrides

    overrides = (*overrides, *columns_of(options, entry))
    program = f"kit {options.verb_parser.prog.split()[-1]} {identifier}"
    if options.help:
        options.verb_parser.print_help()
        print(f"\n{identifier}: {recipe.summary}\nits fields:")
        print_overrides(recipe, program)
        return None
    recipe = apply_overrides(recipe, overrides, program)
    if options.data is not None:
        require_data(entry, options.data)
    from common.stages.request import Request

    return Request(
        entry.load(),
        name,
        recipe,
        data=Path(options.data) if options.data is not None else None,
        run=Path(options.run) if options.run else None,
        device=options.device,
        overrides=overrides,
    )


def columns_of(options: argparse.Namespace, entry: Entry) -> tuple[str, ...]:
    """--columns as the recipe's field."""
    if options.columns is None:
        return ()
    if entry.wing != HISTORIES:
        raise DataError(
            f"--columns was given to {entry.summary}.",
            "It says where the users, items, ratings and times of histories are.",
            "For a click log: kit prepare csv DATA --label NAME --out PREPARED" if entry.wing == CLICKS else "",
        )
    return "--history.columns", options.columns


def require_data(entry: Entry, given: str) -> None:
    """Raises DataError where there is nothing that the model could read."""
    path = Path(given)
    if not path.is_dir() and not (entry.takes_files and path.is_file()):
        kind = "a file" if path.is_file() else "missing"
        allowed = "Data is a folder or a file." if entry.takes_files else "Data is a folder."
        raise DataError(f"{path} is {kind}.", allowed, "Check the path, or name a data set: kit data list")


def question_of(options: argparse.Namespace) -> "Question":
    """What a verb was asked, by those fields that it has."""
    from common.question import Question

    given = {name: value for name, value in vars(options).items() if name in Question.__dataclass_fields__}
    return Question(**given | {"inputs": tuple(map(Path, options.inputs)), "history": tuple(options.history)})


def open_run(given: str) -> "tuple[Challenge[Any, Any, Any], RunDirectory]":
    """The run at a path, and the challenge that it is of."""
    from common.run.run_directory import RunDirectory

    run = RunDirectory.open(Path(given))
    return find_model(run.description()["model"]).load(), run


def say(console: "Console", line: str) -> None:
    """Print a line as it is, whatever is in it."""
    from common.terminal.console import say

    say(console, line)


def new_console() -> "Console":
    """Rich's, made where a verb first needs it."""
    from common.terminal.console import SafeConsole

    return SafeConsole()
