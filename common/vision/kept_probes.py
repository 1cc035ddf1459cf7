"""What probing found out about files, kept: a folder that has grown or is parted anew is not opened as a whole."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nvidia.nvimgcodec
import PIL
import pyarrow as pa
import pyarrow.parquet as pq

from common.files import atomic_writer
from common.vision.image_depth import SampleRange
from common.vision.images import ImageFacts

FILE = ".probes.parquet"
VERSION = 1  # another number means that `probe` tells other things of the same file
MADE_BY = f"{VERSION} nvimgcodec {nvidia.nvimgcodec.__version__} Pillow {PIL.__version__}".encode()
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "format": pa.string(),
        "mode": pa.string(),
        "bytes": pa.int64(),
        "mtime_ns": pa.int64(),
        "sha256": pa.string(),
        "notes": pa.list_(pa.string()),
        "orientation": pa.int8(),
        "samples": pa.struct({"smallest": pa.int32(), "largest": pa.int32(), "brightness": pa.float64()}),
        "thumbnail": pa.binary(),
    },
    metadata={"made by": MADE_BY},
)


class KeptProbes:
    """Those of the files under `root`, in a file of `folder`; a damaged one counts as empty."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._root, self._file = root, folder / FILE
        self._facts = self._read()

    def unchanged(self, path: str) -> ImageFacts | None:
        """What is known of a file by its path below the root, if its size and time are as they were."""
        facts = self._facts.get(path)
        if facts is None:
            return None
        try:
            status = os.stat(facts.path)
        except OSError:
            return None
        return facts if (status.st_size, status.st_mtime_ns) == (facts.bytes, facts.mtime_ns) else None

    def write(self, facts: Mapping[str, ImageFacts]) -> None:
        """Keep these, by their paths below the root, and no others."""
        rows = [{**asdict(fact), "path": path} for path, fact in facts.items()]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_writer(self._file) as stream:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), stream)

    def _read(self) -> dict[str, ImageFacts]:
        try:
            table = pq.read_table(self._file)
            rows = table.to_pylist() if table.schema.metadata == SCHEMA.metadata else []
        except (OSError, pa.ArrowException):
            return {}
        return {row["path"]: self._facts_of(**row) for row in rows}

    def _facts_of(self, path: str, notes: list[str], samples: Mapping[str, Any] | None, **fields: Any) -> ImageFacts:
        depth = None if samples is None else SampleRange(**samples)
        return ImageFacts(path=self._root / path, notes=tuple(notes), samples=depth, **fields)
