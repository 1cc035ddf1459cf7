"""A toy task whose table is cut over the processes and learns inside backward, as large embedding tables do."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.machine.distributed import World, from_all_ranks, mean_over_ranks
from common.run.recipe import Recipe
from common.training.sharded_checkpoint import ShardedCheckpoints
from common.training.shards import Shard
from common.training.step import TrainStep
from common.training.task import Batch, ScheduledOptimizer, StepSettings
from tests.toy import ToyTask

ROWS, WIDTH = 50, 8


class Table:
    """Rows for `ROWS` points, a stretch of them on each process, with AdaGrad's sums beside them."""

    def __init__(self, world: World) -> None:
        self.world, self.lr, self.counts = world, 0.0, torch.ones(())
        self.first, end = (ROWS * rank // world.size for rank in (world.rank, world.rank + 1))
        whole = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(3))
        self.rows = whole[self.first : end].clone()
        self.sums = torch.zeros_like(self.rows)

    def shards(self) -> dict[str, Shard]:
        offset, shape = (self.first, 0), (ROWS, WIDTH)
        return {"table": Shard(self.rows, offset, shape), "sums": Shard(self.sums, offset, shape)}

    def own(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Where in all processes' indices this one's rows are asked for, and which of its rows."""
        place = index - self.first
        asked = ((place >= 0) & (place < len(self.rows))).nonzero()[:, 0]
        return asked, place[asked]


class Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, index: Tensor, table: Table) -> Tensor:
        everyone = torch.cat(from_all_ranks(index))
        asked, place = table.own(everyone)
        found = torch.zeros(len(everyone), WIDTH)
        found[asked] = table.rows[place]
        ctx.table, ctx.asked, ctx.place = table, asked, place
        return _sum(found).chunk(table.world.size)[table.world.rank].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        table, everyone = ctx.table, torch.cat(from_all_ranks(gradients[0])) / ctx.table.world.size
        gradient = torch.zeros_like(table.rows).index_add_(0, ctx.place, everyone[ctx.asked])
        gradient = torch.where(table.counts > 0, gradient, 0)
        table.sums += gradient.square()
        table.rows -= table.lr * gradient / (table.sums.sqrt() + 1e-6)
        return None, None, None


def _sum(value: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(value)
    return value


class FusedStep(TrainStep):
    """The table's rate is the others', and a step counts for it only where every process's loss is finite."""

    task: "ShardedTask"

    def set_lr(self, step: int) -> None:
        super().set_lr(step)
        self.task.table.lr = self.lr(step)

    def backward(self, losses: dict[str, Tensor], share: float) -> None:
        finite = losses["loss"].detach().isfinite().float()
        self.task.table.counts = (mean_over_ranks(finite) == 1).float()
        super().backward(losses, share)


class ShardedTask(ToyTask):
    """The toy with a row of its table added to each point; `poison`: a step whose loss is NaN on the last process."""

    def __init__(self, recipe: Recipe, world: World, poison: int | None = None) -> None:
        super().__init__(recipe, normalised=False)
        self.table, self._anchor, self._poison = Table(world), torch.zeros((), requires_grad=True), poison
        self._world, self._step = world, 0

    def prepare_batch(self, batch: Batch, step: int) -> Batch:
        self._step = step
        return batch

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        added = Lookup.apply(self._anchor, batch["index"], self.table)
        loss = nn.functional.cross_entropy(self.model(batch["features"] + added), batch["label"])
        is_bad = self._step == self._poison and self._world.rank == self._world.size - 1
        return {"loss": loss * torch.nan if is_bad else loss}

    def own_step(self, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> FusedStep:
        return FusedStep(self, optimizers, settings)

    def own_checkpoints(self, folder: Path, keep: int) -> ShardedCheckpoints:
        return ShardedCheckpoints(folder, keep, self.table.shards, self._world)
