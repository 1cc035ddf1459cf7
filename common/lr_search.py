"""`kit lr-find`: the learning-rate finder on a request's data, with its curve and what to try."""

from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress

from common.device import select_device
from common.errors import TrainingError
from common.files import atomic_writer
from common.lr_finder import Sweep, find_lr
from common.precision import select_precision
from common.report.lr_sweep import draw_sweep
from common.workflow import Request, check

SWEEP_STEPS = 100


def sweep_lr(request: Request, console: Console) -> None:
    """Run the learning-rate finder on the request's data and draw its curve."""
    device = select_device(request.device)
    checked, folder = check(request, console)
    recipe = request.recipe
    torch.manual_seed(recipe.training.seed)
    data = request.challenge.open_data(recipe, folder, device)
    task = request.challenge.build_task(recipe, data)
    request.challenge.load_starting_weights(task, recipe, console)
    precision = select_precision(recipe.training.precision, device)
    sweep: Sweep | None = None
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("learning rates", total=SWEEP_STEPS)
        for done, so_far in find_lr(task, data, recipe, device, precision, steps=SWEEP_STEPS):
            sweep = so_far
            progress.update(bar, completed=done)
    if sweep is None:
        raise TrainingError("The very first loss was not finite.", remedy="Check the data and the starting weights.")
    picture = (request.run or Path("runs")) / f"lr-find-{request.challenge.model}-{request.recipe_name}.png"
    with atomic_writer(picture) as stream:
        stream.write(draw_sweep(sweep))
    console.print(
        f"Steepest fall at {sweep.suggestion:.2g} ({checked.root}, batch {recipe.training.batch_size}): {picture}",
        f"Try: --optimizer.peak-lr {sweep.suggestion:.2g}",
        sep="\n",
        soft_wrap=True,
    )
