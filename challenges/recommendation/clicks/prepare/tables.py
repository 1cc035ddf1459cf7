"""Parquet tables of one's own: cut at row groups."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from challenges.recommendation.clicks.prepare.job import Chunk
from challenges.recommendation.clicks.prepare.text import TextPart
from common.errors import DataError

CHUNK_ROWS = 1 << 18
UNPACKED_PER_PACKED = 3


@dataclass(frozen=True)
class ParquetTable:
    """A row group is read whole: those of other writers have 2**20 rows at most by default."""

    parts: tuple[TextPart, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(part.path for part in self.parts)

    @property
    def packed(self) -> tuple[Path, ...]:
        return ()

    def bytes_per_pass(self) -> int:
        return UNPACKED_PER_PACKED * sum(path.stat().st_size for path in self.files)

    def columns(self) -> list[str]:
        with _opened(self.files[0]) as file:
            return list(file.schema_arrow.names)

    def chunks(self, unpacked: dict[str, Path]) -> list[Chunk]:
        found = []
        for part in self.parts:
            with _opened(part.path) as file:
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            start, rows = 0, 0
            for group, size in enumerate(sizes):
                rows += size
                if rows >= CHUNK_ROWS or group == len(sizes) - 1:
                    found.append(Chunk(str(part.path), start, group + 1, part.split))
                    start, rows = group + 1, 0
        return found

    def read(self, chunk: Chunk, columns: tuple[str, ...]) -> pl.DataFrame:
        with _opened(Path(chunk.path)) as file:
            present = [name for name in columns if name in file.schema_arrow.names]
            try:
                table = file.read_row_groups(range(chunk.start, chunk.stop), columns=present)
            except (OSError, pa.ArrowInvalid) as error:
                raise DataError(f"{chunk.path} cannot be read: {str(error).splitlines()[0]}") from None
            if len(present) < len(columns):
                return pl.DataFrame(schema=file.schema_arrow.names)  # whoever asked says what is missing
        return pl.DataFrame(pl.from_arrow(table))

    def place(self, chunk: Chunk, row: int) -> str:
        with _opened(Path(chunk.path)) as file:
            before = sum(file.metadata.row_group(group).num_rows for group in range(chunk.start))
        return f"{chunk.path}, row {before + row + 1:,}"


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowInvalid) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{path} is no readable Parquet file: {told}", remedy="Copy or write it again.") from None
