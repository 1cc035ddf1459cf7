"""What a click model will need, known before any of it is allocated."""

from dataclasses import dataclass

import psutil
import torch

from challenges.recommendation.clicks.recipes import ClickRecipe
from common.errors import RecipeError
from common.machine.distributed import ALONE, World, from_all_ranks

BYTES = {"fp32": 4, "fp16": 2}
GIB = 2**30
COPIES = 6
"""Of the rows that a batch reads: themselves, their gradient and its sums, and what the network keeps of them."""
DENSE_STATES = 3  # the gradient and Adam's two moments, all as large as the tables


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes of each process."""

    tables: int
    optimizer: int
    batches: int

    @property
    def total(self) -> int:
        return self.tables + self.optimizer + self.batches


def memory_need(recipe: ClickRecipe, rows: int, columns: int, *, wide_rows: int = 0, ranks: int = 1) -> MemoryNeed:
    """For tables of `rows` rows altogether, read by `columns` columns, beside `wide_rows` weights of a wide part.

    ranks: processes, each of which has its share of the batch, and of rows that are cut.
    """
    config = recipe.tables
    numbers = -(-(rows * config.width + wide_rows) // (ranks if config.shard == "row" else 1))
    tables = numbers * BYTES[config.dtype]
    if config.optimizer == "dense":
        optimizer = DENSE_STATES * tables
    elif config.optimizer == "rowwise-adagrad":
        optimizer = 4 * -(-numbers // config.width)
    else:
        optimizer = 0
    return MemoryNeed(tables, optimizer, 4 * COPIES * recipe.training.batch_size // ranks * columns * config.width)


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
    is_cut = config.shard == "row"
    advice = []
    if config.optimizer == "dense":
        advice.append("--tables.optimizer rowwise-adagrad")
    elif config.dtype == "fp32" and need.total - need.tables // 2 <= free:
        advice.append("--tables.dtype fp16")
    if need.tables + need.optimizer > free:
        share = max(0, free - need.batches) / (need.tables + need.optimizer)
        narrower = int(config.width * share) // 4 * 4
        advice += [f"--tables.width {narrower}"] if narrower else []
        if config.optimizer != "dense" and free > 0:
            whole = need.total * ranks if is_cut else need.tables + need.optimizer + need.batches * ranks
            advice.append(f"--tables.shard row on {-(-whole // free)} processes with as much memory each")
        advice.append(f"prepare with fewer rows (kit prepare … --max-rows, {share:.0%} of these fit)")
    else:
        advice.append("a smaller --training.batch-size")
    who = "The model" if ranks == 1 else f"Each of {ranks} processes"
    raise RecipeError(
        f"{who} needs {need.total / GIB:.1f} GiB (tables {need.tables / GIB:.1f}, their optimizer "
        f"{need.optimizer / GIB:.1f}, batches {need.batches / GIB:.1f}), and {free / GIB:.1f} are free.",
        remedy=f"Use {', or '.join(advice)}.",
    )
