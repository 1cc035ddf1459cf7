"""What a user asked to train: its data checked, its recipe fitted to them, its folder named."""

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from common.challenge import Challenge, CheckedData
from common.errors import RecipeError
from common.files import cache_folder, remove_leftovers
from common.machine.device import DeviceChoice
from common.machine.distributed import world_from_environment
from common.run import fitting
from common.run.overrides import chosen_fields
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.slug import slug
from common.stages.pace import within
from common.storage.run_lock import hold
from common.terminal.console import say


@dataclass(frozen=True)
class Request:
    """What the user asked to train."""

    challenge: Challenge[Any, Any, Any]
    recipe_name: str
    recipe: Recipe
    data: Path | None = None
    """None for the generated demo data."""
    run: Path | None = None
    """None for a folder under runs/ that the recipe and the data name."""
    device: DeviceChoice = "auto"
    overrides: tuple[str, ...] = ()
    asked: str | None = None
    """Digest of the recipe before its epochs were measured, where they were."""


@contextlib.contextmanager
def checked(request: Request, console: Console, *, alone: bool = True) -> Iterator[tuple[CheckedData, Path]]:
    """Scan the request's data; gives what was found and the folder that holds the manifest, as long as the block runs.

    alone: keep other processes from checking the same data in another way meanwhile.
    """
    challenge = request.challenge
    root = challenge.demo_data(console) if request.data is None else request.data
    output = _check_folder(root)
    output.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        if alone:
            reader = not os.access(output, os.W_OK)
            held.enter_context(hold(output, "check", shared=reader, waiting=functools.partial(say, console)))
            remove_leftovers(output)
        yield challenge.check(root, request.recipe, output, console), output


def fitted(request: Request, folder: Path, console: Console) -> Request:
    """The request with its recipe fitted to the data whose check is in `folder`, where the recipe asks for it."""
    if request.recipe.fit == "none":
        return request
    fits = request.challenge.fits(request.recipe, folder)
    recipe, told = fitting.apply(request.recipe, fits, chosen_fields(request.overrides))
    for line in told:
        say(console, line)
    return replace(request, recipe=recipe)


def paced(request: Request, run: RunDirectory, folder: Path, device: torch.device, console: Console) -> Request:
    """The request with its epochs measured, where it has minutes instead; a run that has begun keeps its own."""
    if request.recipe.training.minutes is None:
        return request
    if world_from_environment().size > 1:
        raise RecipeError(
            "training.minutes was given to several processes.", "Each would measure other epochs.",
            "Give --training.epochs.",
        )  # fmt: skip
    asked = request.recipe.digest()
    if run.run_file.is_file() and run.description().get("asked") == asked:
        return replace(request, recipe=run.recipe(request.challenge.recipe_class), asked=asked)
    recipe, told = within(request.challenge, request.recipe, folder, device, request.overrides)
    say(console, told)
    return replace(request, recipe=recipe, asked=asked)


def default_run(request: Request, checked: CheckedData) -> Path:
    """A folder name that the same command on the same data gives again, and no other does."""
    key = hashlib.sha256(f"{request.recipe.digest()} {checked.fingerprint}".encode()).hexdigest()[:8]
    parts = [request.challenge.model, request.recipe_name]
    if request.data is not None:
        parts.append(slug(request.data.resolve().name))
    return Path("runs") / "-".join([*parts, key])


def _check_folder(root: Path) -> Path:
    resolved = root.resolve()
    return cache_folder() / "checks" / f"{slug(resolved.name)}-{hashlib.sha256(os.fsencode(resolved)).hexdigest()[:8]}"
