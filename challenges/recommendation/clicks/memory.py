"""What a click model will need, known before any of it is allocated."""

from dataclasses import dataclass

import psutil
import torch

from challenges.recommendation.clicks.recipes import ClickRecipe
from common.errors import RecipeError

BYTES = {"fp32": 4, "fp16": 2}
GIB = 2**30
COPIES = 6
"""Of the rows that a batch reads: themselves, their gradient and its sums, and what the network keeps of them."""
DENSE_STATES = 3  # the gradient and Adam's two moments, all as large as the tables


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes."""

    tables: int
    optimizer: int
    batches: int

    @property
    def total(self) -> int:
        return self.tables + self.optimizer + self.batches


def memory_need(recipe: ClickRecipe, rows: int, columns: int, *, wide_rows: int = 0) -> MemoryNeed:
    """For tables of `rows` rows altogether, read by `columns` columns, beside `wide_rows` weights of a wide part."""
    config = recipe.tables
    numbers = rows * config.width + wide_rows
    tables = numbers * BYTES[config.dtype]
    if config.optimizer == "dense":
        optimizer = DENSE_STATES * tables
    elif config.optimizer == "rowwise-adagrad":
        optimizer = 4 * -(-numbers // config.width)
    else:
        optimizer = 0
    return MemoryNeed(tables, optimizer, 4 * COPIES * recipe.training.batch_size * columns * config.width)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated there."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def require_memory(recipe: ClickRecipe, need: MemoryNeed, free: int) -> None:
    """Raise RecipeError, with what would fit, where it is more than is free."""
    if need.total <= free:
        return
    config = recipe.tables
    advice = []
    if config.optimizer == "dense":
        advice.append("--tables.optimizer rowwise-adagrad")
    elif config.dtype == "fp32" and need.total - need.tables // 2 <= free:
        advice.append("--tables.dtype fp16")
    if need.tables + need.optimizer > free:
        share = max(0, free - need.batches) / (need.tables + need.optimizer)
        narrower = int(config.width * share) // 4 * 4
        advice += [f"--tables.width {narrower}"] if narrower else []
        advice.append(f"prepare with fewer rows (kit prepare … --max-rows, {share:.0%} of these fit)")
    else:
        advice.append("a smaller --training.batch-size")
    raise RecipeError(
        f"The model needs {need.total / GIB:.1f} GiB (tables {need.tables / GIB:.1f}, their optimizer "
        f"{need.optimizer / GIB:.1f}, batches {need.batches / GIB:.1f}), and {free / GIB:.1f} are free.",
        remedy=f"Use {', or '.join(advice)}.",
    )
