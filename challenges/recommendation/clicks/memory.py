"""What a click model will need, known before any of it is allocated."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import psutil
import torch

from challenges.recommendation.clicks.placement import Placement, cut_columns, whole_tables
from challenges.recommendation.clicks.recipes import ClickRecipe, TablesConfig
from common.errors import RecipeError
from common.machine.distributed import ALONE, World, from_all_ranks, group_device

BYTES = {"fp32": 4, "fp16": 2}
GIB = 2**30
COPIES = 6
"""Of the rows that a batch reads: themselves, their gradient and its sums, and what the network keeps of them."""
DENSE_STATES = 3  # the gradient and Adam's two moments, all as large as the tables


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of each process; `everywhere`: of all together, were the tables shared out evenly."""

    tables: int
    optimizer: int
    batches: int
    everywhere: int

    @property
    def total(self) -> int:
        return self.tables + self.optimizer + self.batches


def memory_need(
    recipe: ClickRecipe,
    rows: int,
    columns: int,
    *,
    wide_rows: int = 0,
    ranks: int = 1,
    placement: Placement | None = None,
) -> MemoryNeed:
    """For tables of `rows` rows altogether, read by `columns` columns, beside `wide_rows` weights of a wide part.

    ranks:     processes, each of which has its share of the batch, and of rows that are cut.
    placement: where TorchRec places the tables: the need is that of the process with the most.
    """
    config = recipe.tables
    parts = 1 if config.shard == "none" else ranks
    whole = rows * config.width + wide_rows
    numbers = -(-whole // parts) if placement is None else placement.most() + -(-wide_rows // parts)
    batches = 4 * COPIES * recipe.training.batch_size // ranks * columns * config.width
    tables, optimizer = _bytes(config, numbers)
    return MemoryNeed(tables, optimizer, batches, sum(_bytes(config, whole)) + batches * ranks)


def _bytes(config: TablesConfig, numbers: int) -> tuple[int, int]:
    """Of so many numbers in tables, and of their optimizer."""
    tables = numbers * BYTES[config.dtype]
    optimizers = {
        "dense": DENSE_STATES * tables,
        "rowwise-adagrad": 4 * -(-numbers // config.width),
        "adagrad": 4 * numbers,
        "sgd": 0,
    }
    return tables, optimizers[config.optimizer]


def placed_within_memory(
    recipe: ClickRecipe, rows: Sequence[int], wide_rows: int, device: torch.device, world: World = ALONE
) -> Placement | None:
    """Which process has what of every column, where TorchRec places tables of so many `rows` each, and None elsewhere.

    Raises RecipeError where a process would need more memory than it has, or TorchRec is absent.
    """
    config, size, total = recipe.tables, world.size, sum(rows)
    if not config.is_placed or size == 1:
        need = memory_need(recipe, total, len(rows), wide_rows=wide_rows, ranks=size)
        require_memory(recipe, need, free_memory(device, world), size)
        return whole_tables(rows, config.width, 1) if config.is_placed else None
    require_torchrec(config.shard)
    free = free_memory(group_device(world), world)
    if config.shard == "auto":
        placement = _planned(recipe, rows, wide_rows, free, world)
    else:
        placement = (whole_tables if config.shard == "table" else cut_columns)(rows, config.width, size)
    need = memory_need(recipe, total, len(rows), wide_rows=wide_rows, ranks=size, placement=placement)
    require_memory(recipe, need, free, size)
    return placement


def _planned(recipe: ClickRecipe, rows: Sequence[int], wide_rows: int, free: int, world: World) -> Placement:
    least = memory_need(recipe, sum(rows), len(rows), wide_rows=wide_rows, ranks=world.size)
    require_memory(recipe, least, free, world.size)
    from challenges.recommendation.clicks.placed import planned

    return planned(rows, recipe, world, free=free - least.batches)


def require_torchrec(shard: str) -> None:
    """Raise RecipeError where the extra `clicks` is not installed."""
    if find_spec("torchrec") is None or find_spec("fbgemm_gpu") is None:
        raise RecipeError(
            f"tables.shard {shard} was chosen, and TorchRec is not installed.",
            "It places whole tables and parts of rows on several processes; sharing out rows takes nothing more.",
            "Use --tables.shard row, or install it: make torchrec.",
        )


def free_memory(device: torch.device, world: World = ALONE) -> int:
    """Bytes that each process can still allocate there, the least of all; those of one machine share its memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = psutil.virtual_memory().available // world.local_size
    return min(from_all_ranks(free))


def require_memory(recipe: ClickRecipe, need: MemoryNeed, free: int, ranks: int = 1) -> None:
    """Raise RecipeError, with what would fit, where it is more than is free for each of `ranks` processes."""
    if need.total <= free:
        return
    config = recipe.tables
    advice = []
    if config.optimizer == "dense":
        advice.append("--tables.optimizer rowwise-adagrad")
    elif config.dtype == "fp32" and not config.is_placed and need.total - need.tables // 2 <= free:
        advice.append("--tables.dtype fp16")
    if need.tables + need.optimizer > free:
        share = max(0, free - need.batches) / (need.tables + need.optimizer)
        narrower = int(config.width * share) // 4 * 4
        advice += [f"--tables.width {narrower}"] if narrower else []
        if config.optimizer != "dense" and free > 0:
            advice.append(f"--tables.shard row on {-(-need.everywhere // free)} processes with as much memory each")
        advice.append(f"prepare with fewer rows (kit prepare … --max-rows, {share:.0%} of these fit)")
    else:
        advice.append("a smaller --training.batch-size")
    who = "The model" if ranks == 1 else f"{'The fullest' if config.is_placed else 'Each'} of {ranks} processes"
    raise RecipeError(
        f"{who} needs {need.total / GIB:.1f} GiB (tables {need.tables / GIB:.1f}, their optimizer "
        f"{need.optimizer / GIB:.1f}, batches {need.batches / GIB:.1f}), and {free / GIB:.1f} are free.",
        remedy=f"Use {', or '.join(advice)}.",
    )
