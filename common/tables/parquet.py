"""Row groups of Parquet files, read with pyarrow, as rows in memory and as tensors."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from common.errors import DataError

Batch = dict[str, torch.Tensor]
VALUES, OFFSETS = "__values", "__offsets"
"""A ragged column `name` becomes two tensors: `name__values`, and `name__offsets` of (row + 1,)."""


def read_group(path: Path, group: int, columns: tuple[str, ...]) -> pa.Table:
    """One row group; DataError where it is damaged, by its pages' checksums if it has any, or has missing values."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(group, columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}, row group {group}, cannot be read: {str(error).splitlines()[0]}",
            remedy="Copy or write the file again.",
        ) from None
    for name in columns:
        if table.column(name).null_count:
            raise DataError(
                f"{path}, row group {group}: column {name} has missing values.",
                "Tensors have no place for them.",
                "Fill or drop them before writing the file.",
            )
    return table


@dataclass(frozen=True, eq=False)
class Rows:
    """Columns in memory: arrays of (row,), or (row, n) of lists of n; (offsets, values) of ragged ones."""

    flat: dict[str, np.ndarray]
    ragged: dict[str, tuple[np.ndarray, np.ndarray]]

    @staticmethod
    def of(table: pa.Table, columns: tuple[str, ...]) -> "Rows":
        flat, ragged = {}, {}
        for name in columns:
            column = table.column(name).combine_chunks()
            if _is_list(column.type):
                lengths = column.value_lengths().to_numpy(zero_copy_only=False)
                offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
                ragged[name] = (offsets, column.flatten().to_numpy(zero_copy_only=False))
            elif pa.types.is_fixed_size_list(column.type):
                flat[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
            else:
                flat[name] = column.to_numpy(zero_copy_only=False)
        return Rows(flat, ragged)

    @staticmethod
    def joined(parts: "Iterable[Rows]", count: int, memory: "Rows | None" = None) -> "Rows":
        """The `count` rows of all parts, one after the other; a part may be made when it is asked for.

        memory: joined rows that nobody needs any more, whose arrays are written over where these fit in. Fresh ones
        take longer, page by page, than decoding what goes into them.
        """
        flat: dict[str, np.ndarray] = {}
        ragged: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {}
        filled = 0
        for part in parts:
            stop = filled + len(part)
            for name, values in part.flat.items():
                if name not in flat:
                    flat[name] = _room(count, values, None if memory is None else memory.flat.get(name))
                flat[name][filled:stop] = values
            for name, (offsets, values) in part.ragged.items():
                all_offsets, all_values = ragged.setdefault(name, ([np.zeros(1, np.int64)], []))
                all_offsets.append(offsets[1:] + all_offsets[-1][-1])
                all_values.append(values)
            filled = stop
        return Rows(flat, {name: (np.concatenate(ends), np.concatenate(held)) for name, (ends, held) in ragged.items()})

    def __len__(self) -> int:
        if self.flat:
            return len(next(iter(self.flat.values())))
        return max((len(offsets) - 1 for offsets, _ in self.ragged.values()), default=0)

    def take(self, rows: np.ndarray) -> "Rows":
        flat = {name: values.take(rows, axis=0) for name, values in self.flat.items()}
        ragged = {}
        for name, (offsets, values) in self.ragged.items():
            lengths = offsets[rows + 1] - offsets[rows]
            taken = np.concatenate([[0], np.cumsum(lengths)])
            places = np.repeat(offsets[rows] - taken[:-1], lengths) + np.arange(taken[-1])
            ragged[name] = (taken, values[places])
        return Rows(flat, ragged)


def tensors_of(parts: list[Rows]) -> Batch:
    """All rows of the parts, one after the other."""
    rows = parts[0] if len(parts) == 1 else Rows.joined(parts, sum(map(len, parts)))
    batch: Batch = {name: torch.from_numpy(values) for name, values in rows.flat.items()}
    for name, (offsets, values) in rows.ragged.items():
        batch[name + VALUES], batch[name + OFFSETS] = torch.from_numpy(values), torch.from_numpy(offsets)
    return batch


def _room(count: int, like: np.ndarray, held: np.ndarray | None) -> np.ndarray:
    """An array for `count` of such values, in the one that `held` is or begins where it is large enough."""
    shape = (count, *like.shape[1:])
    whole = held if held is None or held.base is None else held.base
    if whole is not None and whole.dtype == like.dtype and whole.shape[1:] == shape[1:] and len(whole) >= count:
        return whole[:count]
    return np.empty(shape, like.dtype)


def described(path: Path) -> tuple[pa.Schema, list[int]]:
    """A file's columns and the rows of each of its groups."""
    try:
        with pq.ParquetFile(path) as file:
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            return file.schema_arrow, sizes
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path} is no readable Parquet file: {str(error).splitlines()[0]}", remedy="Copy or write it again."
        ) from None


def check_columns(path: Path, schema: pa.Schema, columns: list[str]) -> None:
    """Raise DataError where one is missing, or holds what no tensor holds."""
    for name in columns:
        if name not in schema.names:
            raise DataError(f"{path} has no column {name}.", f"Its columns are {', '.join(schema.names)}.")
        kind = schema.field(name).type
        value = kind.value_type if _is_list(kind) or pa.types.is_fixed_size_list(kind) else kind
        if not (pa.types.is_integer(value) or pa.types.is_floating(value) or pa.types.is_boolean(value)):
            raise DataError(
                f"{path}: column {name} is {kind}.",
                "Numbers, and lists of numbers, become tensors.",
                "Number its values before writing the file, or leave the column out.",
            )


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
