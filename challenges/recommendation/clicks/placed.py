"""Tables that TorchRec places: each whole on one process, or cut by its rows or numbers; updated inside backward.

TorchRec and FBGEMM are imported here alone, and this module where they are chosen: the extra `clicks`.
Embeddings are read by their keys: the order in which TorchRec lays them side by side is the plan's.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torch import Tensor, nn
from torch.distributed._shard.sharding_spec import EnumerableShardingSpec, ShardMetadata
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, PoolingType
from torchrec.distributed.batched_embedding_kernel import BatchedFusedEmbeddingBag
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder, ShardedEmbeddingBagCollection
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation
from torchrec.distributed.planner.types import KernelConfig, PlannerError, TopologyFactory, TrainerConfig
from torchrec.distributed.sharding_plan import placement as place_name
from torchrec.distributed.types import ParameterSharding, ShardingEnv, ShardingType

from challenges.recommendation.clicks.placement import Piece, Placement
from challenges.recommendation.clicks.recipes import ClickRecipe, TablesConfig
from challenges.recommendation.clicks.sparse_optimizers import ROW_EPS, TableOptimizer
from challenges.recommendation.clicks.tables import Bag, FusedTable, Tables, drawn
from common.errors import RecipeError
from common.machine.distributed import World, from_all_ranks, group_device

OPTIMIZERS = {
    "rowwise-adagrad": EmbOptimType.EXACT_ROWWISE_ADAGRAD,
    "adagrad": EmbOptimType.EXACT_ADAGRAD,
    "sgd": EmbOptimType.EXACT_SGD,
}
TYPES = {"table": ShardingType.TABLE_WISE, "row": ShardingType.ROW_WISE, "column": ShardingType.COLUMN_WISE}
FUSED = EmbeddingComputeKernel.FUSED.value


class _Sharder(EmbeddingBagCollectionSharder):  # type: ignore[misc]  # TorchRec's is not looked at
    """TorchRec's, which on a CPU does not offer to cut rows, although its kernels do so there, too."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        return [TYPES["table"].value, TYPES["row"].value]


def planned(rows: Sequence[int], recipe: ClickRecipe, world: World, *, free: int) -> Placement:
    """What TorchRec's planner finds best: every table whole on one process or cut by rows, within `free` bytes on each.

    Numbers are never cut here, since row-wise Adagrad's sums are of whole rows.
    Raises RecipeError where it finds no plan.
    """
    config, device = recipe.tables, group_device(world)
    trainer = TrainerConfig(
        world_size=world.size,
        local_world_size=world.local_size,
        hbm_cap_bytes=free if device.type == "cuda" else 0,
        ddr_cap_bytes=free,
    )
    planner = EmbeddingShardingPlanner(
        topology=TopologyFactory.create_topology(trainer, kernel_config=KernelConfig(compute_device=device.type)),
        batch_size=recipe.training.batch_size // world.size,
        storage_reservation=FixedPercentageStorageReservation(0.0),
        constraints={_name(column): _choices(count, world.size) for column, count in enumerate(rows)},
        debug=False,
    )
    try:
        plan = planner.plan(_Collections(rows, config.width), [_Sharder(fused_params=_fused(config))])
    except PlannerError as error:
        raise RecipeError(
            f"TorchRec found no plan for tables of {sum(rows):,} rows in {free / 2**30:.1f} GiB of each of "
            f"{world.size} processes.",
            remedy="Use --tables.shard row, more processes, or fewer rows (kit prepare … --max-rows).",
        ) from error
    placed = Placement(tuple(rows), config.width, tuple(_pieces(plan.plan["tables"], len(rows))))
    first: Placement = from_all_ranks(placed)[0]
    return first


def _choices(rows: int, size: int) -> ParameterConstraints:
    """Stretches of rows where every process has one: FBGEMM's kernels fail at tables without rows."""
    ways = ["table", "row"] if rows > -(-rows // size) * (size - 1) else ["table"]
    return ParameterConstraints(sharding_types=[TYPES[way].value for way in ways], compute_kernels=[FUSED])


class PlacedTable(Tables):
    """This process's pieces of the tables of all columns, which start as those of one process do.

    Every process calls it as often as the others; a batch may be empty. What it gives is a leaf of the network's graph:
    `PlacedOptimizer` hands that leaf's gradient on.
    """

    placement: Placement

    def __init__(self, placement: Placement, config: TablesConfig, world: World, *, bags: int) -> None:
        super().__init__()
        self.placement, self.world, self.bags = placement, world, bags
        self.columns, self.width = len(placement.rows), placement.width
        self.given: list[Tensor] = [torch.empty(0, requires_grad=True)]
        self._rows: Tensor | None = None
        with torch.random.fork_rng(devices=[]):  # TorchRec draws numbers of its own, for rows that `_start` overwrites
            # In a tuple it is no child: neither DDP nor the trainer's checkpoints are to find its parameters.
            self._hidden = (_sharded(placement, config, world),)
        parts = (part for lookup in self._sharded._lookups for part in lookup.modules())
        self._kernels = [part for part in parts if isinstance(part, BatchedFusedEmbeddingBag)]
        self._start(config.spread)

    @property
    def _sharded(self) -> ShardedEmbeddingBagCollection:
        return self._hidden[0]

    def forward(self, ids: Tensor, bags: Sequence[Bag] | Tensor = ()) -> Tensor:
        assert not isinstance(bags, Tensor), "graphs are made of whole tables"
        found = self._sharded(_keyed(ids, bags))
        parts = [found[_name(column)] for column in range(self.columns)]
        for column, bag in enumerate(bags, start=ids.shape[1]):
            parts[column] = parts[column] / bag.offsets.diff().clamp(min=1)[:, None]
        rows = torch.stack(parts, 1).float()
        if not torch.is_grad_enabled():
            return rows
        self._rows, leaf = rows, rows.detach().requires_grad_()
        self.given[:] = [leaf]
        return leaf

    def __deepcopy__(self, memo: dict[int, Any]) -> "PlacedTable":
        """A moving average of the network has these tables, too."""
        return self

    def own_optimizer(self, lr: float) -> TableOptimizer:
        return PlacedOptimizer(self, lr)

    def learn(self, lr: float) -> None:
        """Update the rows that the last batch read, by the gradient of what it got; all processes together."""
        assert self._rows is not None
        for kernel in self._kernels:
            kernel.emb_module.set_learning_rate(lr)
        self._rows.backward(self.given[0].grad)
        self._rows = None

    def kept(self) -> dict[str, dict[int, Tensor]]:
        found: dict[str, dict[int, Tensor]] = {}
        for kernel in self._kernels:
            module, tables = kernel.emb_module, kernel.config.embedding_tables
            states = module.split_optimizer_states() or [()] * len(tables)  # SGD has none
            for table, weight, state in zip(tables, module.split_embedding_weights(), states, strict=True):
                column = _column(table.name)
                found.setdefault("", {})[column] = weight.detach()
                if state:
                    found.setdefault(".sum", {})[column] = state[0]
        return found

    def whole(self) -> Tables:
        """On the main process a table on the CPU; on the others this one."""
        own = self.kept().get("", {})
        if not self.world.is_main:
            for piece in self.placement.of_rank(self.world.rank):
                dist.send(own[piece.column].contiguous(), 0)
            return self
        table = FusedTable(self.placement.rows, self.width, bags=self.bags, spread=0.0)
        columns = table.weight.data.split(self.placement.rows)
        for rank in range(self.world.size):
            for piece in self.placement.of_rank(rank):
                part = own[piece.column] if rank == 0 else torch.empty(piece.shape, device=group_device(self.world))
                if rank > 0:
                    dist.recv(part, rank)
                _within(columns[piece.column], piece).copy_(part)
        return table

    def _start(self, spread: float | None) -> None:
        """Draw what one process draws and keep the pieces' part of it."""
        own, pieces = (
            self.kept().get("", {}),
            {piece.column: piece for piece in self.placement.of_rank(self.world.rank)},
        )
        for column, first, values in _starts(self.placement.rows, self.width, spread):
            if column not in pieces:
                continue
            piece = pieces[column]
            begin, end = max(first, piece.first_row), min(first + len(values), piece.first_row + piece.rows)
            if begin < end:
                numbers = slice(piece.first_number, piece.first_number + piece.numbers)
                own[column][begin - piece.first_row : end - piece.first_row] = values[
                    begin - first : end - first, numbers
                ]


class PlacedOptimizer(TableOptimizer):
    """Has TorchRec update a PlacedTable; its one parameter is what the table gave for the last batch.

    So the schedule sets its rate, and the scaler sees those gradients, undoes their scale, and keeps the tables from a
    step that is not finite, as it does with any other optimizer, although the update is one with the backward pass.
    """

    def __init__(self, table: PlacedTable, lr: float) -> None:
        super().__init__(table.given, {"lr": lr})
        self.param_groups[0]["params"] = table.given
        self._table = table

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # none would know of the processes
        self._table.learn(self.param_groups[0]["lr"])


def _name(column: int) -> str:
    return f"c{column}"


def _column(name: str) -> int:
    return int(name[1:])


def _collection(rows: Sequence[int], width: int) -> EmbeddingBagCollection:
    """Of all columns, without memory; bags are added up, and divided by their lengths in `forward`."""
    tables = [
        EmbeddingBagConfig(
            name=_name(column), embedding_dim=width, num_embeddings=count, feature_names=[_name(column)],
            pooling=PoolingType.SUM, init_fn=_as_it_is,
        )
        for column, count in enumerate(rows)
    ]  # fmt: skip
    return EmbeddingBagCollection(tables=tables, device=torch.device("meta"))


class _Collections(nn.Module):
    """What the planner walks over."""

    def __init__(self, rows: Sequence[int], width: int) -> None:
        super().__init__()
        self.tables = _collection(rows, width)


def _as_it_is(weight: Tensor) -> Tensor:
    return weight


def _fused(config: TablesConfig) -> dict[str, Any]:
    return {"optimizer": OPTIMIZERS[config.optimizer], "learning_rate": config.peak_lr, "eps": ROW_EPS}


def _sharded(placement: Placement, config: TablesConfig, world: World) -> ShardedEmbeddingBagCollection:
    device = group_device(world)
    plan = {
        _name(column): ParameterSharding(
            sharding_type=TYPES[placement.cut(column)].value,
            compute_kernel=FUSED,
            ranks=[piece.rank for piece in placement.of_column(column)],
            sharding_spec=EnumerableShardingSpec(
                [
                    ShardMetadata(
                        shard_offsets=list(piece.offset),
                        shard_sizes=list(piece.shape),
                        placement=place_name(device.type, piece.rank, world.local_size),
                    )
                    for piece in placement.of_column(column)
                ]
            ),
        )
        for column in range(len(placement.rows))
    }
    assert dist.group.WORLD is not None
    env = ShardingEnv.from_process_group(dist.group.WORLD)
    sharder = _Sharder(fused_params=_fused(config))
    return sharder.shard(_collection(placement.rows, placement.width), plan, env, device)


def _pieces(plan: Mapping[str, ParameterSharding], columns: int) -> Iterator[Piece]:
    for column in range(columns):
        spec = plan[_name(column)].sharding_spec
        for shard in spec.shards:
            (first_row, first_number), (rows, numbers) = shard.shard_offsets, shard.shard_sizes
            yield Piece(column, shard.placement.rank(), first_row, rows, first_number, numbers)


def _keyed(ids: Tensor, bags: Sequence[Bag]) -> KeyedJaggedTensor:
    """The values of every column, one column after the other, and how many each sample has."""
    batch, singles = ids.shape
    lengths = [ids.new_ones(singles * batch), *(bag.offsets.diff() for bag in bags)]
    values = [ids.t().flatten(), *(bag.values for bag in bags)]
    keys = [_name(column) for column in range(singles + len(bags))]
    return KeyedJaggedTensor(
        keys, torch.cat(values).long(), lengths=torch.cat([part.int() for part in lengths]), stride=batch
    )


def _within(table: Tensor, piece: Piece) -> Tensor:
    """A piece of a column's whole table."""
    rows = table[piece.first_row : piece.first_row + piece.rows]
    return rows[:, piece.first_number : piece.first_number + piece.numbers]


def _starts(rows: Sequence[int], width: int, spread: float | None) -> Iterator[tuple[int, int, Tensor]]:
    """As `drawn`, with the column of every stretch, and its first row counted from there."""
    column, before = 0, 0
    for first, values in drawn(rows, width, spread, torch.float32):
        while first >= before + rows[column]:
            before += rows[column]
            column += 1
        yield column, first - before, values


# Of what TorchRec 1.8 calls, torch 2.13 says at every exchange that it has another name by now.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.c10d_logger")
