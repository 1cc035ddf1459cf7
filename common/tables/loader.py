"""Batches of columns from tables too large for memory, in an order that depends on the seed and the position alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.errors import DataError
from common.machine.distributed import ALONE, World

Batch = dict[str, Tensor]
VALUES, OFFSETS = "__values", "__offsets"
"""A ragged column `name` becomes two tensors: `name__values`, and `name__offsets` of (row + 1,)."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Which columns are read, and how they are cut.

    batch_size:  rows per batch over all processes. columns: names, all by default.
    buffer_rows: rows that are shuffled among each other; the row groups they come from are shuffled in any case.
    drop_last:   leave out the last, smaller batch. With several processes it makes their batches as many and as large.
    prefetch:    batches that are made ahead by a thread; 0 makes them when they are asked for.
    """

    batch_size: int
    columns: tuple[str, ...] | None = None
    shuffle: bool = True
    seed: int = 0
    buffer_rows: int = 1 << 20
    drop_last: bool = True
    prefetch: int = 4

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.buffer_rows < 1 or self.prefetch < 0:
            raise ValueError("batch_size and buffer_rows start at 1, prefetch at 0.")


class TableLoader(ABC):
    """Rows of Parquet files as batches: {column: (row, ...) tensor}, ragged columns as values and offsets.

    Of an epoch, every row comes in exactly one batch of exactly one process (but for what drop_last leaves out).
    """

    num_rows: int

    def __init__(self, files: tuple[Path, ...], config: TableConfig, world: World = ALONE) -> None:
        if not files:
            raise DataError("No table files were given.", "At least one Parquet file is needed.")
        if config.batch_size % world.size:
            raise DataError(
                f"A batch of {config.batch_size:,} rows cannot be cut among {world.size} processes.",
                "The batch size is a multiple of their number.",
            )
        self.files, self.config, self.world = files, config, world

    @property
    def local_batch(self) -> int:
        return self.config.batch_size // self.world.size

    @property
    def my_rows(self) -> range:
        """This process's rows of an epoch, counted in the epoch's order of row groups."""
        rank, size = self.world.rank, self.world.size
        return range(self.num_rows * rank // size, self.num_rows * (rank + 1) // size)

    @property
    def batches_per_epoch(self) -> int:
        """Of this process; with drop_last the same on all."""
        if self.config.drop_last:
            return self.num_rows // self.world.size // self.local_batch
        return -(-len(self.my_rows) // self.local_batch)

    @abstractmethod
    def epoch(self, number: int, first_batch: int = 0) -> Iterator[Batch]:
        """This process's batches of one epoch, from `first_batch` on: what a whole epoch gives from there."""

    def batches(self, first_batch: int = 0) -> Iterator[Batch]:
        """Epoch after epoch without end; first_batch: counted over all epochs, so that a run resumes anywhere."""
        if not self.batches_per_epoch:
            raise DataError(
                f"{self.num_rows:,} rows do not fill a batch of {self.config.batch_size:,}.",
                "With drop_last only whole batches are given.",
                "Lower the batch size.",
            )
        number, first = divmod(first_batch, self.batches_per_epoch)
        while True:
            yield from self.epoch(number, first)
            number, first = number + 1, 0
