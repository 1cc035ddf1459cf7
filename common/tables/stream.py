"""An endless stream of rows from Parquet files, whose order is a function of seed, epoch and position alone."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import DataError
from common.machine.distributed import ALONE, World
from common.tables.parquet import Batch, Rows, check_columns, described, read_group, tensors_of
from common.tables.prefetch import prefetched


class _Group(NamedTuple):
    """A row group of a file."""

    path: Path
    place: int
    rows: int


class _Buffer(NamedTuple):
    """Rows in memory, the order in which they come, and where in the epoch the first of them comes."""

    key: tuple[int, int]
    begin: int
    rows: Rows
    order: np.ndarray


class TableStream:
    """Full batches without end: epochs laid end to end, each row once in every one, at any number of processes.

    An epoch lays all row groups end to end in a shuffled order, cuts them into buffers of about `buffer_rows`, and
    shuffles each. Step s holds the stream's rows from s times the batch size on, of which each process takes a
    stretch; so a run goes on at any step and on another number of processes. Each process decodes every row group.
    Numbers and lists of numbers become tensors of the file's own types: (row,), lists of one length n (row, n), and
    others values and offsets. Text is refused.
    """

    def __init__(
        self,
        files: tuple[Path, ...],
        columns: tuple[str, ...],
        *,
        seed: int = 0,
        world: World = ALONE,
        buffer_rows: int = 1 << 20,
        prefetch: int = 4,
    ) -> None:
        self._groups: list[_Group] = []
        for path in files:
            schema, sizes = described(path)
            check_columns(path, schema, list(columns))
            self._groups += [_Group(path, place, rows) for place, rows in enumerate(sizes) if rows]
        if not self._groups:
            raise DataError(f"There is no row in {len(files)} table files.", "At least one is needed.")
        self._columns, self._seed, self._world = columns, seed, world
        self._buffer_rows, self._prefetch = buffer_rows, prefetch
        self.num_rows = sum(group.rows for group in self._groups)

    def batches(self, first_step: int, batch_size: int, accumulation: int = 1) -> Iterator[Batch]:
        """This process's micro-batches, `accumulation` a step, from optimizer step `first_step` on.

        batch_size: rows per step over all processes, a multiple of their number times `accumulation`.
        """
        parts = self._world.size * accumulation
        if batch_size % parts:
            raise DataError(
                f"A batch of {batch_size:,} rows cannot be cut into {parts} equal parts.",
                "Each process, and each micro-batch, takes as many rows.",
            )
        return prefetched(lambda: self._batches(first_step, batch_size, accumulation), self._prefetch)

    def once(self, batch_size: int) -> Iterator[Batch]:
        """This process's share of all rows, in the files' order: every so manieth row group."""
        return prefetched(lambda: self._once(batch_size), self._prefetch)

    def _batches(self, first_step: int, batch_size: int, accumulation: int) -> Iterator[Batch]:
        local = batch_size // self._world.size
        micro = local // accumulation
        buffer: _Buffer | None = None
        step = first_step
        while True:
            for part in range(accumulation):
                begin = step * batch_size + self._world.rank * local + part * micro
                pieces: list[Rows] = []
                taken = 0
                while taken < micro:
                    epoch, position = divmod(begin + taken, self.num_rows)
                    buffer = self._buffer_at(epoch, position, buffer)
                    start = position - buffer.begin
                    places = buffer.order[start : start + micro - taken]
                    pieces.append(buffer.rows.take(places))
                    taken += len(places)
                yield tensors_of(pieces)
            step += 1

    def _once(self, batch_size: int) -> Iterator[Batch]:
        for group in self._groups[self._world.rank :: self._world.size]:
            rows = self._read(group)
            for begin in range(0, group.rows, batch_size):
                yield tensors_of([rows.take(np.arange(begin, min(begin + batch_size, group.rows)))])

    def _buffer_at(self, epoch: int, position: int, present: _Buffer | None) -> _Buffer:
        """The buffer that holds the position; where that is another than the present one, it takes its memory over."""
        begin = 0
        for number, groups in enumerate(self._buffers(epoch)):
            size = sum(group.rows for group in groups)
            if position < begin + size:
                if present is not None and present.key == (epoch, number):
                    return present
                order = np.random.default_rng([self._seed, epoch, 1, number]).permutation(size)
                rows = Rows.joined(map(self._read, groups), size, None if present is None else present.rows)
                return _Buffer((epoch, number), begin, rows, order)
            begin += size
        raise AssertionError(f"position {position} lies beyond the epoch")

    def _buffers(self, epoch: int) -> Iterator[list[_Group]]:
        order = np.random.default_rng([self._seed, epoch, 0]).permutation(len(self._groups))
        groups: list[_Group] = []
        for place in order:
            groups.append(self._groups[place])
            if sum(group.rows for group in groups) >= self._buffer_rows:
                yield groups
                groups = []
        if groups:
            yield groups

    def _read(self, group: _Group) -> Rows:
        return Rows.of(read_group(group.path, group.place, self._columns), self._columns)
