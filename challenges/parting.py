"""`kit check` with --similar or --resplit: photographs that are there more than once, and splits that keep them so."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from challenges.registry import MODELS
from common.challenge import Challenge, Trained
from common.errors import DataError
from common.run.overrides import apply_overrides
from common.run.run_directory import RunDirectory
from common.stages.request import Request, checked
from common.terminal.console import say

Opened = tuple[Challenge[Any, Any, Any], RunDirectory]


def check_copies(request: Request, is_asked: bool, run: Opened | None, resplit: str | None, console: Console) -> None:
    """Check the request's data, find copies where that `is_asked`, and part the data anew where `resplit` says how.

    run: whose network proposes copies; None: thumbnails do. Raises DataError where the model or the run reads none.
    """
    search = request.challenge.search
    judged = run[0] if run and search else request.challenge
    if search is None or judged.search is None:
        able = [name for name, entry in MODELS.items() if entry.load().search is not None]
        raise DataError(
            f"Copies were asked for with {judged.model}.",
            "They are found among photographs in folders of classes.",
            f"Check with one of: {', '.join(f'--model {name}' for name in able)}, and a run of such a model.",
        )
    root = request.data
    assert root is not None, "a check is of data"
    groups: Path | None = None
    with checked(request, console) as (_, folder):
        say(console, f"Manifest and quarantine list: {folder}")
        if is_asked:
            if run:
                with run[1].lock("check", shared=True):
                    groups = search.copies(folder, Trained.load(*run), console)
            else:
                groups = search.copies(folder, None, console)
    given = shlex.quote(str(root))
    if resplit is None:
        proposer = f" {shlex.quote(str(run[1].path))}" if run else ""
        say(console, f"To keep copies in one split: kit check {given} --similar{proposer} --resplit by-group")
        return
    parted = ("--data.split", resplit, *(("--data.groups", str(groups)) if groups else ()))
    with checked(replace(request, recipe=apply_overrides(request.recipe, parted, "kit check")), console):
        command = ("kit", "challenge", request.challenge.model, "--data", str(root), *parted)
        say(console, f"To train so: {shlex.join(command)}")
