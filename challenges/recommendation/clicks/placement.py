"""Which process has which piece of every column's table, where tables are placed one by one (clicks/placed.py)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import Tensor

from challenges.recommendation.clicks.recipes import BLOCK
from common.training.shards import Shard


@dataclass(frozen=True)
class Piece:
    """A rectangle of a column's table, on one process."""

    column: int
    rank: int
    first_row: int
    rows: int
    first_number: int
    numbers: int

    @property
    def offset(self) -> tuple[int, int]:
        return self.first_row, self.first_number

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.numbers


@dataclass(frozen=True)
class Placement:
    """The pieces of every column's table: one of it all, or several that are cut by rows or by numbers.

    rows: of every column. A process has one piece of a column at most.
    """

    rows: tuple[int, ...]
    width: int
    pieces: tuple[Piece, ...]

    def of_column(self, column: int) -> list[Piece]:
        return [piece for piece in self.pieces if piece.column == column]

    def of_rank(self, rank: int) -> list[Piece]:
        return [piece for piece in self.pieces if piece.rank == rank]

    def most(self) -> int:
        """Numbers of the process that has the most."""
        held: dict[int, int] = {}
        for piece in self.pieces:
            held[piece.rank] = held.get(piece.rank, 0) + piece.rows * piece.numbers
        return max(held.values())

    def cut(self, column: int) -> Literal["table", "row", "column"]:
        """How a column's table is cut; `table`: it is not."""
        pieces = self.of_column(column)
        if len(pieces) == 1:
            return "table"
        return "column" if any(piece.numbers < self.width for piece in pieces) else "row"

    def shards(self, name: str, values: Mapping[int, Tensor], rank: int) -> dict[str, Shard]:
        """A process's values of every column that it has a piece of, (row, number) or (row,), as parts of the whole."""
        shards = {}
        for piece in self.of_rank(rank):
            own, whole = values[piece.column], (self.rows[piece.column], self.width)
            shards[f"{name}.{piece.column}"] = Shard(own, piece.offset[: own.ndim], whole[: own.ndim])
        return shards


def whole_tables(rows: Sequence[int], width: int, size: int) -> Placement:
    """Every column's table on one of `size` processes, the largest first, each to the one that has the least."""
    held, pieces = [0] * size, []
    for column in sorted(range(len(rows)), key=lambda column: -rows[column]):
        rank = held.index(min(held))
        held[rank] += rows[column]
        pieces.append(Piece(column, rank, 0, rows[column], 0, width))
    return Placement(tuple(rows), width, tuple(sorted(pieces, key=lambda piece: piece.column)))


def cut_columns(rows: Sequence[int], width: int, size: int) -> Placement:
    """Every column's table cut by its numbers over `size` processes, or as many as there are blocks of `BLOCK` numbers.

    Each table begins one process later than the one before, so that all have about as much.
    """
    parts = min(size, width // BLOCK)
    bounds = [width // BLOCK * part // parts * BLOCK for part in range(parts + 1)]
    pieces = [
        Piece(column, (column + part) % size, 0, count, first, end - first)
        for column, count in enumerate(rows)
        for part, (first, end) in enumerate(pairwise(bounds))
    ]
    return Placement(tuple(rows), width, tuple(pieces))
