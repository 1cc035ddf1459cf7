"""`kit lr-find`: the learning-rate finder on a request's data, with its curve and what to try."""

import contextlib
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from common.errors import TrainingError
from common.files import atomic_writer
from common.machine.device import select_device
from common.machine.precision import select_precision
from common.report.lr_sweep import draw_sweep
from common.run.run_directory import RunDirectory
from common.stages.request import Request, checked, fitted
from common.terminal.console import say
from common.training.lr_finder import Sweep, find_lr

SWEEP_STEPS = 100


def sweep_lr(request: Request, console: Console) -> None:
    """Run the learning-rate finder on the request's data and draw its curve."""
    with contextlib.ExitStack() as held:
        if request.run is not None:
            held.enter_context(RunDirectory(request.run).lock("lr-find"))
        found, folder = held.enter_context(checked(request, console))
        request = fitted(request, folder, console)
        sweep = _sweep(request, folder, console)
        picture = (request.run or Path("runs")) / f"lr-find-{request.challenge.model}-{request.recipe_name}.png"
        with atomic_writer(picture) as stream:
            stream.write(draw_sweep(sweep))
    batch = request.recipe.training.batch_size
    say(console, f"Steepest fall at {sweep.suggestion:.2g} ({found.root}, batch {batch}): {picture}")
    say(console, f"Try: --optimizer.peak-lr {sweep.suggestion:.2g}")


def _sweep(request: Request, folder: Path, console: Console) -> Sweep:
    device, recipe = select_device(request.device), request.recipe
    torch.manual_seed(recipe.training.seed)
    data = request.challenge.open_data(recipe, folder, device)
    task = request.challenge.build_task(recipe, data)
    request.challenge.weights.start(task, data, recipe, console)
    precision = select_precision(recipe.training.precision, device)
    sweep: Sweep | None = None
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("learning rates", total=SWEEP_STEPS)
        for done, so_far in find_lr(task, data, recipe, device, precision, SWEEP_STEPS):
            sweep = so_far
            progress.update(bar, completed=done)
    if sweep is None:
        raise TrainingError("The very first loss was not finite.", remedy="Check the data and the starting weights.")
    return sweep
