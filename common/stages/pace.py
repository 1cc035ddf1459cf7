"""A training that is told its minutes: its epochs follow from how long a few steps take, which teach nothing."""

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from common.challenge import Challenge
from common.errors import RecipeError
from common.machine.precision import select_precision
from common.run.overrides import apply_overrides, chosen_fields
from common.run.recipe import Recipe
from common.training.averages import MovingAverage
from common.training.forecast import EVALUATION_WORK
from common.training.step import build_step
from common.training.task import StepSettings

WARM_STEPS = 2  # not timed: loaders fill up, kernels are chosen
TIMED_STEPS, TIMED_SHARE = (4, 30), 0.02  # at least and at most, and the share of the time after which they are enough
EVALUATIONS, EVALUATION_SHARE = 8, 0.05  # at most, and of the time that training itself takes
clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Length:
    """Epochs of a training, and those between its evaluations."""

    epochs: float
    evaluate_every: float


def within(
    challenge: Challenge[Any, Any, Any], recipe: Recipe, folder: Path, device: torch.device, given: tuple[str, ...]
) -> tuple[Recipe, str]:
    """The recipe with as many epochs as its minutes hold, and a line about them; `given`: the user's overrides.

    Where a recipe is fitted to its data and the user did not choose how heavy its samples are, they are made lighter
    unless as many epochs as the recipe itself asks for would fit even so. The lightest are measured first: what is
    heavier would take time that they train in.
    """
    assert recipe.training.minutes is not None
    end = clock() + 60 * recipe.training.minutes
    asked, why = recipe.training.epochs, ""
    ways = challenge.lighter(recipe, folder) if recipe.fit == "data" else ()
    for flags, work in reversed(ways):
        if not _are_free(flags, given):
            continue
        light = apply_overrides(recipe, flags, "kit train")
        length, each = _measured(challenge, light, folder, device, end)
        if length.epochs < asked:
            full = work * length.epochs
            why = f", with {' '.join(flags)} since about {full:.1f} of the {asked:g} asked for would fit otherwise"
            recipe = light
            break
    else:
        length, each = _measured(challenge, recipe, folder, device, end)
    told = (
        f"pace: {length.epochs:.4g} epochs in {recipe.training.minutes:g} minutes, {1000 * each:.3g} ms a sample{why}"
    )
    training = replace(recipe.training, epochs=length.epochs, evaluate_every=length.evaluate_every)
    return replace(recipe, training=training), told


def affordable(seconds: float, each: float, num_train: int, num_validation: int, *, extra: int, batch: int) -> Length:
    """What fits into `seconds` where a training sample takes `each`.

    extra: evaluations at the end beside the last one.
    Raises RecipeError where the time is over before a step is taken.
    """
    evaluation = EVALUATION_WORK * each * num_validation
    room = seconds - extra * evaluation
    count = min(EVALUATIONS, max(1, math.floor(EVALUATION_SHARE * room / evaluation))) if evaluation else EVALUATIONS
    epochs = (room - count * evaluation) / (each * num_train)
    if epochs * num_train < batch:
        needed = (1 + extra) * evaluation + each * batch
        raise RecipeError(
            f"training.minutes leaves {max(0.0, seconds):.0f} s after the speed was measured.",
            f"A step and the evaluation after it take {needed:.0f} s here.",
            "Give more minutes, or --training.epochs instead.",
        )
    return Length(epochs, epochs / count)


def _measured(
    challenge: Challenge[Any, Any, Any], recipe: Recipe, folder: Path, device: torch.device, end: float
) -> tuple[Length, float]:
    """The length that ends at `end` by the clock, and the seconds of a sample."""
    data = challenge.open_data(recipe, folder, device)
    each = _sample_seconds(challenge, recipe, data, device, TIMED_SHARE * (end - clock()))
    extra = int(recipe.training.ema_decay is not None)  # the last weights are judged beside their average
    samples = data.num_train, data.num_validation
    return affordable(end - clock(), each, *samples, extra=extra, batch=recipe.training.batch_size), each


def _sample_seconds(
    challenge: Challenge[Any, Any, Any], recipe: Recipe, data: Any, device: torch.device, enough: float
) -> float:
    """Of training, its loading and checkpoints included; the network that is trained for it is thrown away."""
    training = recipe.training
    task = challenge.build_task(recipe, data).place(device, channels_last=training.channels_last).train()
    optimizers = task.optimizers(TIMED_STEPS[1], 1)
    task.set_trainable(TIMED_STEPS[1])
    precision = select_precision(training.precision, device)
    decay = training.ema_decay
    average = None if decay is None else MovingAverage(task, decay, task.unaveraged())
    settings = StepSettings(precision, device, clip_norm=recipe.optimizer.clip_norm, average=average)
    step = build_step(task, optimizers, settings)
    parts = training.accumulation(1)
    batches = data.train_batches(0, training.batch_size, parts)

    def run(number: int) -> None:
        step([next(batches) for _ in range(parts)], number)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for number in range(WARM_STEPS):
        run(number)
    started, fewest, most = clock(), *TIMED_STEPS
    for done in range(1, most + 1):
        run(done)
        if done >= fewest and clock() - started >= enough:
            break
    each = (clock() - started) / done
    started = clock()
    kept = [task, *([average] if average else []), *(scheduled.optimizer for scheduled in optimizers)]
    torch.save([part.state_dict() for part in kept], io.BytesIO())
    return (each + (clock() - started) / training.checkpoint_every) / training.batch_size


def _are_free(flags: tuple[str, ...], given: tuple[str, ...]) -> bool:
    """Whether none of the flags' fields, nor a part that holds it, was given."""
    chosen = chosen_fields(given)
    fields = chosen_fields(flags)
    return not any(field == name or field.startswith(f"{name}.") for field in fields for name in chosen)
