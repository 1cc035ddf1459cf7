"""A model of the registry, opened to be measured: its recipe, its data on a device, and what a record says of it.

Nothing here belongs to one model: its challenge brings data and task.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from benchmarks.measure import Clock, RankClock, clock_of
from benchmarks.record import DataKind, Like, Workload, environment_of
from benchmarks.worker import uuid_of
from challenges.registry import Entry, find_model, find_recipe
from common.errors import KitError
from common.machine.device import DeviceChoice, select_device
from common.machine.distributed import Meeting, World, from_all_ranks, world_from_environment
from common.machine.precision import Precision, select_precision
from common.machine.processes import usable_cores
from common.run.overrides import apply_overrides
from common.run.recipe import Recipe
from common.stages.request import Request, checked, fitted
from common.training.task import Batch, DataModule, Task

SMOKE_BATCH = 4  # samples of a rank: a step of every model takes less than a second on one core


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to measure.

    recipe: None: the demo's in a smoke run, else the first with a published target.
    batch:  samples per step over all processes; None: as the recipe has it, as far as data and memory reach.
    synthetic: made-up inputs instead of the data's, which stay in the device's memory; any batch is possible then.
    shrinks: whether a batch that is larger than the data becomes as large as that, instead of being refused.
    """

    model: str
    recipe: str | None = None
    data: Path | None = None
    batch: int | None = None
    overrides: tuple[str, ...] = ()
    device: DeviceChoice = "auto"
    synthetic: bool = False
    shrinks: bool = False
    like: Like | None = None


@dataclass(frozen=True)
class Bench:
    """An untrained model with its data, on a device."""

    asked: Asked
    entry: Entry
    recipe_name: str
    recipe: Recipe
    challenge: Any
    data: DataModule
    dataset: str
    device: torch.device
    precision: Precision
    world: World
    command: tuple[str, ...]

    @property
    def batch_size(self) -> int:
        return self.recipe.training.batch_size

    @property
    def share(self) -> int:
        return self.batch_size // self.world.size

    @property
    def data_kind(self) -> DataKind:
        if self.asked.synthetic:
            return "synthetic"
        return "demo" if self.asked.data is None else "real"

    def task(self) -> Task:
        """A task with untrained weights, the same ones every time."""
        torch.manual_seed(self.recipe.training.seed)
        task: Task = self.challenge.build_task(self.recipe, self.data)
        return task

    def with_batch(self, batch_size: int) -> "Bench":
        return replace(self, recipe=_with_batch(self.recipe, batch_size))

    def batches(self) -> Iterator[Batch]:
        return self.data.train_batches(0, self.batch_size, 1)

    def fixed_batch(self) -> Batch:
        """One batch that stays in the device's memory; made up where that was asked for, of the data's shapes."""
        if not self.asked.synthetic:
            return {name: value.clone() for name, value in next(self.batches()).items()}
        some = min(self.batch_size, self.data.num_train // self.world.size * self.world.size)
        batch = next(self.data.train_batches(0, some, 1))
        images = torch.channels_last if self.recipe.training.channels_last else torch.contiguous_format
        return {name: _made_up(value, self.share, some // self.world.size, images) for name, value in batch.items()}

    def clock(self) -> Clock:
        clock = clock_of(self.device)
        return clock if self.world.size == 1 else RankClock(clock, dist.new_group(backend="gloo"))

    def uuids(self) -> list[str]:
        """Of the CUDA devices of all ranks, in their order; all ranks call it."""
        return [uuid for uuid in from_all_ranks(uuid_of(self.device)) if uuid is not None]

    def environment(self) -> dict[str, Any]:
        return environment_of(device=str(self.device), precision=self.precision.name, world_size=self.world.size)

    def workload(self, engine: str = "torch", precision: str | None = None) -> Workload:
        training = self.recipe.training
        first = next(iter(next(self.data.train_batches(0, self.world.size, 1)).values()))
        return Workload(
            challenge=self.entry.folder,
            model=f"{self.asked.model}/{self.recipe_name}",
            engine=engine,
            batch=self.batch_size,
            input_shape=tuple(first.shape[1:]),
            precision=precision or self.precision.name,  # type: ignore[arg-type]  # one of precision.py's names
            sample_unit=self.data.sample_unit,
            data=self.data_kind,
            dataset=self.dataset,
            memory_format="channels_last" if training.channels_last and first.ndim == 4 else "contiguous",
            compile=training.compile,
            cuda_graphs=training.cuda_graphs,
            workers=(getattr(getattr(self.recipe, "data", None), "threads", None) or usable_cores()),
        )

    def details(self) -> dict[str, float]:
        """What the figures depend on besides the workload."""
        size = self.data.mean_file_bytes()
        told = {"training_samples": float(self.data.num_train)}
        return told if size is None else told | {"mean_file_kilobytes": size / 1000}


@contextlib.contextmanager
def opened(asked: Asked, console: Console, command: tuple[str, ...], *, smoke: bool = False) -> Iterator[Bench]:
    """Check the data, choose recipe, device, precision and batch, and join the other ranks while the block runs.

    Raises KitError where the model, recipe or device is none, and where the data has fewer samples than a batch.
    """
    entry, name, recipe = chosen_recipe(asked, smoke=smoke)
    world = world_from_environment()
    device = select_device(asked.device, world.local_rank)
    challenge, meeting = entry.load(), Meeting(world)
    request = Request(challenge, name, recipe, asked.data, device=asked.device, overrides=asked.overrides)
    console.quiet = console.quiet or not world.is_main
    with meeting.main_first(), checked(request, console, alone=world.is_main) as (found, folder):
        recipe = _sized(fitted(request, folder, console).recipe, asked.batch, 10**9)
        data = challenge.open_data(recipe, folder, device, world)
    endless = asked.synthetic or asked.shrinks
    if asked.batch is not None and data.num_train < asked.batch and not endless:
        raise KitError(
            f"A batch of {asked.batch} was asked for, and {found.root} has {data.num_train} training samples.",
            "A batch holds each sample once.",
            "Give a smaller --batch or more data.",
        )
    most = asked.batch if asked.batch and asked.synthetic else data.num_train // world.size * world.size
    recipe = _sized(recipe, asked.batch, min(most, SMOKE_BATCH * world.size) if smoke and not asked.batch else most)
    with meeting.joined(device):
        precision = select_precision(recipe.training.precision, device)
        dataset = found.root.resolve().name
        yield Bench(asked, entry, name, recipe, challenge, data, dataset, device, precision, world, command)


def chosen_recipe(asked: Asked, *, smoke: bool) -> tuple[Entry, str, Recipe]:
    """The model's entry, and the recipe that was asked for or is measured by default, with the overrides applied."""
    entry = find_model(asked.model)
    recipes = entry.recipes()
    published = next((name for name, recipe in recipes.items() if recipe.target and name != "demo"), "demo")
    name = asked.recipe or ("demo" if smoke else published)
    _, _, recipe = find_recipe(f"{asked.model}/{name}")
    return entry, name, apply_overrides(recipe, asked.overrides, "kit benchmark")


def _made_up(value: torch.Tensor, rows: int, given: int, images: torch.memory_format) -> torch.Tensor:
    """A batch's tensor with as many rows as a rank has: noise for images, the data's own values in turn for all else.

    Raises KitError where the tensor does not hold a sample in each of the `given` rows.
    """
    if rows != given and (value.ndim == 0 or len(value) != given):
        raise KitError(
            f"A batch of {rows} was asked for, and the data gives {given} samples that cannot be repeated.",
            "Give a smaller --batch or more data.",
        )
    repeated = value if rows == given else value[torch.arange(rows, device=value.device) % given]
    if value.is_floating_point() and value.ndim == 4:
        return torch.randn(repeated.shape, dtype=value.dtype, device=value.device).to(memory_format=images)
    return repeated.clone()


def _sized(recipe: Recipe, batch: int | None, most: int) -> Recipe:
    """The recipe with one forward pass per step, of as many samples as were asked for or its own passes have."""
    training = recipe.training
    own = training.micro_batch if isinstance(training.micro_batch, int) else training.batch_size
    return _with_batch(recipe, min(batch or own, most))


def _with_batch(recipe: Recipe, size: int) -> Recipe:
    return replace(recipe, training=replace(recipe.training, batch_size=size, micro_batch=size))
