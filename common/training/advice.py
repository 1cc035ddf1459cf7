"""What would make a long training a short one: flags, from what a step and an evaluation were measured to take."""

import math
import shlex
from dataclasses import replace

from common.errors import RecipeError
from common.run.recipe import Recipe

SHORT_SECONDS = 600.0


def ten_minutes(recipe: Recipe, steps_per_epoch: float, step_seconds: float, evaluation_seconds: float) -> str:
    """One sentence with the flags under which the run takes about ten minutes, as it is and with less work a sample."""
    ways = [_flags(recipe, (), 1.0, steps_per_epoch * step_seconds, evaluation_seconds)]
    lighter = recipe.lighter()
    if lighter is not None:
        ways.append(_flags(recipe, *lighter, steps_per_epoch * step_seconds, evaluation_seconds))
    told = [shlex.join(flags) for flags in ways if flags is not None]
    if not told:
        return "nothing shortens this recipe to ten minutes here: take fewer data, or a GPU"
    return f"ten minutes would be the same command with {', or with '.join(told)}"


def _flags(
    recipe: Recipe, flags: tuple[str, ...], work: float, epoch_seconds: float, evaluation_seconds: float
) -> tuple[str, ...] | None:
    """`flags` and the epochs that fit; None where a single evaluation takes too long or the recipe takes more epochs.

    work: share of the recipe's work that a sample takes with `flags`.
    """
    training = recipe.training
    epoch, evaluation = work * epoch_seconds, work * evaluation_seconds
    epochs = SHORT_SECONDS / (epoch + evaluation / training.evaluate_every)
    if epochs < training.evaluate_every:  # it is evaluated at the end alone
        epochs = min(training.evaluate_every, (SHORT_SECONDS - evaluation) / epoch)
    if epochs >= training.epochs:
        return flags or None
    shown = _rounded_down(epochs)
    if float(shown) <= 0:
        return None
    if not flags:
        try:
            replace(recipe, training=replace(training, epochs=float(shown)))
        except RecipeError:  # some recipes take a number of epochs at least
            return None
    return (*flags, "--training.epochs", shown)


def _rounded_down(value: float) -> str:
    """Two digits, never more than the value: 12, 3.4, 0.056."""
    if value <= 0:
        return "0"
    scale = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.floor(value / scale + 1e-9) * scale:.6g}"
