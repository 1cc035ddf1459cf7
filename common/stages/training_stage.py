"""Training as a stage: the run prepared, trained to its end, resumed, or found as it is."""

import contextlib
import functools
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console

from common.challenge import CheckedData
from common.errors import DataError
from common.files import copy_file, write_json
from common.machine.device import repeat_exactly, select_device
from common.machine.distributed import Meeting, World, barrier, world_from_environment
from common.machine.environment import collect_environment, now
from common.machine.precision import select_precision
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.stages.judging import baselines
from common.stages.request import Request, checked, default_run, fitted, paced
from common.stages.run_page import LiveReport
from common.terminal.console import say
from common.training.forecast import Forecaster
from common.training.generators import seed_generators
from common.training.observers import JsonLines, Observer, Profiler, ProgressReport, TensorBoard
from common.training.task import DataModule
from common.training.trainer import Trainer


def train(request: Request, console: Console) -> RunDirectory:
    """Train to the end of the recipe, or find it trained; returns the run directory."""
    with trained(request, console, "train") as run:
        return run


@contextlib.contextmanager
def trained(request: Request, console: Console, verb: str) -> Iterator[RunDirectory]:
    """Train to the end of the recipe, or find it trained; the run is this process's until the block ends."""
    repeat_exactly(request.recipe.training.deterministic)
    world = world_from_environment()
    device = select_device(request.device, world.local_rank)
    console.quiet = console.quiet or not world.is_main
    meeting = Meeting(world)
    with contextlib.ExitStack() as held:
        with meeting.main_first(), checked(request, console, alone=world.is_main) as (found, folder):
            request = fitted(request, folder, console)
            run = RunDirectory(request.run or default_run(request, found))
            if world.is_main:
                held.enter_context(run.lock(verb))
            request = paced(request, run, folder, device, console)
            is_trained = _is_trained(run, request.recipe)
            if world.is_main and not is_trained:
                _prepare(run, request, found, folder)
                alone = request.challenge.open_data(request.recipe, run.data, device)
                baselines(request.challenge, request.recipe, run, alone)
        with meeting.joined(device):
            if is_trained:
                say(console, f"train: {run.path} is trained already, nothing to do.")
            else:
                _fit(run, request, device, world, console)
        yield run


def _prepare(run: RunDirectory, request: Request, checked: CheckedData, folder: Path) -> None:
    """Create the run directory, or confirm that it belongs to this very request, and keep the check in it."""
    description = {
        "model": request.challenge.model,
        "recipe": request.recipe_name,
        "command": shlex.join(["kit", *sys.argv[1:]]),
        "overrides": list(request.overrides),
        "asked": request.asked,
        "data": {"root": str(checked.root.resolve()), "fingerprint": checked.fingerprint, **checked.summary},
        "created": now(),
    }
    run.create(request.recipe, description)
    if run.description()["data"]["fingerprint"] != checked.fingerprint:
        raise DataError(
            f"The files under {checked.root} changed since the run in {run.path} began.",
            "A run belongs to one state of its data.",
            "Pass another --run, or leave --run out: changed data gets a new folder.",
        )
    _copy(folder, run.data)


def _copy(folder: Path, target: Path) -> None:
    """Copy a check's files, each whole or not at all, and check.json, which vouches for the others, as the last."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: (path.name == "check.json", path)):
        copy_file(path, target / path.relative_to(folder))


def _fit(run: RunDirectory, request: Request, device: torch.device, world: World, console: Console) -> None:
    challenge, recipe = request.challenge, request.recipe
    training = recipe.training
    torch.manual_seed(training.seed)
    precision = select_precision(training.precision, device)
    data = challenge.open_data(recipe, run.data, device, world)
    task = challenge.build_task(recipe, data)
    challenge.weights.start(task, data, recipe, console)
    if world.is_main:
        run.record_environment(
            collect_environment(device=str(device), precision=precision.name, world_size=world.size), now()
        )
        challenge.page.keep_samples(run, recipe, data)
        say(
            console,
            f"train: {challenge.model}/{request.recipe_name} on {device} in {precision.name}, "
            f"{data.num_train} training and {data.num_validation} validation {data.sample_unit}s, run {run.path}",
        )
    observers = _observers(request, data, device, console) if world.is_main else ()
    seed_generators(training.seed, world.rank)
    trainer = Trainer(task, data, recipe, run, device=device, precision=precision, world=world, observers=observers)
    outcome = trainer.fit()
    settled = outcome.task.eval().settle(data)
    if settled:
        say(console, settled)
    outcome.task.gather()
    if world.is_main:
        challenge.weights.save(outcome.task, data, recipe, run.weights_file)
        write_json(
            run.training_file,
            {
                "steps": outcome.steps,
                "epochs": outcome.epochs,
                "seconds": outcome.seconds,
                "samples_per_s": outcome.samples_per_s,
                "sample_unit": data.sample_unit,
                "other_rates": {
                    unit: outcome.samples_per_s * count for unit, count in outcome.task.other_units().items()
                },
                "raw_metrics": outcome.raw_metrics,
                "settled": settled,
            },
        )
    barrier()


def _observers(request: Request, data: DataModule, device: torch.device, console: Console) -> tuple[Observer, ...]:
    """Those of the main rank: they write down, show and forecast."""
    tell = functools.partial(say, console)
    samples, steps = (data.num_train, data.num_validation), request.recipe.training.profile_steps
    return (
        JsonLines(tell),
        TensorBoard(),
        ProgressReport(console),
        Forecaster(request.recipe, samples, tell, runs_late=device.type == "cuda"),
        LiveReport(request.challenge, console),
        *((Profiler(*steps),) if steps else ()),
    )


def _is_trained(run: RunDirectory, recipe: Recipe) -> bool:
    """Whether nothing is left to train; a run whose weights were deleted has to write them again."""
    if not (run.training_file.is_file() and run.weights_file.is_file()):
        return False
    return bool(run.description()["recipe_digest"] == recipe.digest())
