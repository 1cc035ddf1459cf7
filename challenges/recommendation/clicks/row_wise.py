"""Tables whose rows are dealt out to the processes: ids travel to the process that has their row, rows come back.

Row r lies in slice r % SLICES, and each process has a stretch of slices: a column's common values, which come first,
are spread over all. Equal ids of a process travel once, as do the sums of their gradients on the way back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.parallel import DistributedDataParallel

from challenges.recommendation.clicks.sparse_optimizers import RowOptimizer, TableOptimizer
from challenges.recommendation.clicks.tables import (
    Bag,
    FusedTable,
    Tables,
    drawn,
    equal_together,
    for_each,
    gather,
    sums_of_rows,
)
from common.machine.distributed import World
from common.machine.precision import DeviceScaler
from common.training.shards import Shard
from common.training.step import TrainStep
from common.training.task import ScheduledOptimizer, StepSettings, Task

SLICES = 1024
"""Far more than processes, so that these have nearly as many rows each."""


@dataclass(frozen=True)
class RowCut:
    """Which of `rows` rows each of `size` processes has, in their order."""

    rows: int
    size: int

    def slices(self, rank: int) -> tuple[int, int]:
        """The first slice of a process, and the first of the next one."""
        return SLICES * rank // self.size, SLICES * (rank + 1) // self.size

    def count(self, rank: int) -> int:
        """How many rows a process has."""
        first, end = self.slices(rank)
        return self.rows // SLICES * (end - first) + max(0, min(end, self.rows % SLICES) - first)

    def own(self, row: Tensor, rank: int) -> Tensor:
        """(row,) bool: whether a process has it."""
        first, end = self.slices(rank)
        return (row % SLICES >= first) & (row % SLICES < end)

    def bounds(self) -> Tensor:
        """(rank + 1,): each process's first row, where their rows lie one process after the other."""
        return torch.tensor([0, *(self.count(rank) for rank in range(self.size))]).cumsum(0)

    def places(self) -> tuple[Tensor, Tensor]:
        """For each slice the place of its first row in that order, and from there to its next one."""
        first, step = torch.empty(SLICES, dtype=torch.int64), torch.empty(SLICES, dtype=torch.int64)
        for rank, start in enumerate(self.bounds()[:-1]):
            begin, end = self.slices(rank)
            first[begin:end] = start + torch.arange(end - begin)
            step[begin:end] = end - begin
        return first, step

    def shards(self, name: str, values: Tensor, rank: int) -> dict[str, Shard]:
        """A process's (row, ...) values as a rectangle of (turn, slice, ...), and one of the last turn's slices."""
        (first, end), turns, rest = self.slices(rank), self.rows // SLICES, self.rows % SLICES
        split, beyond = turns * (end - first), (0,) * (values.ndim - 1)
        body = values[:split].unflatten(0, (turns, end - first))
        return {
            name: Shard(body, (0, first, *beyond), (turns, SLICES, *values.shape[1:])),
            f"{name}.last": Shard(values[split:], (first, *beyond), (rest, *values.shape[1:])),
        }


class ShardedTable(FusedTable):
    """This process's rows of a FusedTable, which start as those of one process do.

    Every process calls it as often as the others; a batch may be empty.
    """

    bounds: Tensor
    first_places: Tensor
    steps: Tensor

    def __init__(
        self,
        rows: Sequence[int],
        width: int,
        world: World,
        *,
        bags: int = 0,
        spread: float | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.world, self.cut = world, RowCut(sum(rows), world.size)
        super().__init__(rows, width, bags=bags, spread=spread, dtype=dtype)
        first, step = self.cut.places()
        self.register_buffer("bounds", self.cut.bounds(), persistent=False)
        self.register_buffer("first_places", first, persistent=False)
        self.register_buffer("steps", step, persistent=False)

    def whole(self) -> FusedTable:
        """On the main process a table on the CPU; on the others this one."""
        own = self.weight.detach()
        if not self.world.is_main:
            dist.send(own.contiguous(), 0)
            return self
        table = FusedTable(self.rows, self.width, bags=self.bags, spread=0.0, dtype=own.dtype)
        row = torch.arange(self.cut.rows)
        for rank in range(self.world.size):
            part = own
            if rank > 0:
                part = own.new_empty(self.cut.count(rank), self.width)
                dist.recv(part, rank)
            table.weight.data[self.cut.own(row, rank)] = part.cpu()
        return table

    def _started(self, spread: float | None, dtype: torch.dtype) -> Tensor:
        rank, done = self.world.rank, 0
        weight = torch.empty(self.cut.count(rank), self.width, dtype=dtype)
        for first, values in drawn(self.rows, self.width, spread, dtype):
            own = values[self.cut.own(torch.arange(first, first + len(values)), rank)]
            weight[done : done + len(own)] = own
            done += len(own)
        return weight

    def _read(self, index: Tensor, starts: Tensor | None) -> Tensor:
        place = self.first_places[index % SLICES] + index // SLICES * self.steps[index % SLICES]
        read: Tensor = _Fetch.apply(self.weight, place, starts, self.bounds, self.world.rank)  # type: ignore[no-untyped-call]  # torch's
        return read

    def _padded(self, ids: Tensor, bags: Sequence[Bag] | Tensor) -> Tensor:
        raise AssertionError("graphs are made of whole tables")


class _Route:
    """How many values this process sends to each process and gets from each, there and back.

    wanted: (row,) in order; of these each process has those from its bound to the next.
    """

    def __init__(self, wanted: Tensor, bounds: Tensor) -> None:
        out = torch.searchsorted(wanted, bounds.to(wanted.dtype)).diff()
        into = torch.empty_like(out)
        dist.all_to_all_single(into, out)
        self._out, self._into = out.tolist(), into.tolist()

    def there(self, values: Tensor) -> Tensor:
        return self._exchanged(values, self._out, self._into)

    def back(self, values: Tensor) -> Tensor:
        return self._exchanged(values, self._into, self._out)

    def _exchanged(self, values: Tensor, out: list[int], into: list[int]) -> Tensor:
        got = values.new_empty((sum(into), *values.shape[1:]))
        dist.all_to_all_single(got, values.contiguous(), into, out)
        return got


class _Fetch(torch.autograd.Function):
    """Sums of rows of all processes; the gradient of this one's is sparse, and that of the mean over the processes."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, place: Tensor, starts: Tensor | None, bounds: Tensor, rank: int) -> Tensor:
        wanted, order, firsts = equal_together(place, int(bounds[-1]))
        route = _Route(wanted, bounds)
        own = route.there(wanted).long() - bounds[rank]
        rows = route.back(gather(weight, own, weight.dtype))
        which = torch.empty_like(order)
        which[order] = for_each(torch.arange(len(firsts), device=order.device), firsts, len(order))
        ctx.save_for_backward(own, order, firsts, *(() if starts is None else (starts,)))
        ctx.route, ctx.shape, ctx.size = route, weight.shape, len(bounds) - 1
        return gather(rows, which) if starts is None else sums_of_rows(rows, which, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, errors: Tensor) -> tuple[Tensor, None, None, None, None]:
        own, order, firsts, *starts = ctx.saved_tensors
        if starts:
            errors = for_each(errors, starts[0], len(order))
        sums = ctx.route.there(sums_of_rows(errors, order, firsts) / ctx.size)
        return torch.sparse_coo_tensor(own[None], sums, ctx.shape, check_invariants=False), None, None, None, None


class _SharedScaler(DeviceScaler):
    """Finds a gradient that is not finite where any process has one.

    torch's ShardedGradScaler does the same, and cannot be told of fused optimizers beside others (2.13).
    """

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        super().unscale_(optimizer)
        for found in self._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values():
            dist.all_reduce(found, dist.ReduceOp.MAX)

    def _maybe_opt_step(
        self, optimizer: torch.optim.Optimizer, optimizer_state: dict[str, Any], *args: Any, **kwargs: Any
    ) -> float | None:
        if isinstance(optimizer, TableOptimizer):  # whose rows are not in its parameters, to be put back
            return torch.amp.GradScaler._maybe_opt_step(self, optimizer, optimizer_state, *args, **kwargs)
        return super()._maybe_opt_step(optimizer, optimizer_state, *args, **kwargs)


class RowStep(TrainStep):
    """A step with tables whose rows have optimizers of their own, which checkpoints keep by their shards.

    Of several processes each updates the rows that it has; the network's gradients meet as they always do. Gradients
    that are not finite on one process keep all from updating.
    """

    def __init__(self, task: Task, optimizers: Sequence[ScheduledOptimizer], settings: StepSettings) -> None:
        super().__init__(task, optimizers, settings)
        self._alike = [one.optimizer for one in optimizers if not isinstance(one.optimizer, TableOptimizer)]
        if settings.world_size > 1:
            scale, interval = self.scaler.get_scale(), self.scaler.get_growth_interval()
            self.scaler = _SharedScaler(settings.device.type, init_scale=scale, growth_interval=interval)

    def wrapped(self) -> nn.Module:
        cut = [f"{name}.weight" for name, module in self.task.named_modules() if isinstance(module, ShardedTable)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.task, cut)
        return super().wrapped()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizers": [optimizer.state_dict() for optimizer in self._alike]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for optimizer, saved in zip(self._alike, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])


def table_shards(
    tables: Mapping[str, Tables], optimizers: Sequence[ScheduledOptimizer], world: World
) -> dict[str, Shard]:
    """This process's part of the tables, and of what their optimizers keep for each row."""
    shards: dict[str, Shard] = {}
    for name, table in tables.items():
        if isinstance(table, FusedTable) and table.placement is None:
            cut = RowCut(sum(table.rows), world.size)
            for kind, values in _kept(table, optimizers).items():
                shards |= cut.shards(name + kind, values, world.rank)
            continue
        assert table.placement is not None
        of_columns = table.kept()
        if isinstance(table, FusedTable):
            of_columns = {k: dict(enumerate(v.split(table.rows))) for k, v in _kept(table, optimizers).items()}
        for kind, columns in of_columns.items():
            shards |= table.placement.shards(name + kind, columns, world.rank)
    return shards


def _kept(table: FusedTable, optimizers: Sequence[ScheduledOptimizer]) -> dict[str, Tensor]:
    """A table's rows, named "", and what an optimizer keeps for each of them, named with a dot before it."""
    kept = {"": table.weight.detach()}
    for optimizer in (scheduled.optimizer for scheduled in optimizers):
        if isinstance(optimizer, RowOptimizer) and optimizer.updates(table.weight):
            kept |= {f".{kind}": values for kind, values in optimizer.kept(table.weight).items()}
    return kept
