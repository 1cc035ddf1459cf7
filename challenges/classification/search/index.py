"""The index on the disk: vectors in a file that is mapped instead of read, and which file each of them is of.

Below LARGE vectors every one is compared with the question, AT_ONCE at a time. From there on they are sorted into cells
(faiss, as many as the root of their number), with a byte for every number; a question looks into the nearest cells, and
the best of what it finds there are compared exactly. So a search holds a byte a number and eight bytes a picture in
memory, 0.5 GB for a million of 512 numbers, and building it no more.
"""

import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DamagedFileError, KitError
from common.files import file_stamp, read_csv, read_json, sha256, write_csv, write_json

VECTORS, CELLS, FILES, RECORD = "vectors.npy", "cells.faiss", "files.csv", "index.json"
COLUMNS = ("path", "size", "mtime_ns")
FORMAT = 2  # of index.json; what has another is made anew
AT_ONCE = 65_536  # vectors in memory at a time, 128 MB of 512 numbers each
LARGE = 100_000  # vectors from which on a search looks into cells: comparing all takes 50 ms a question there
LEARNT_FROM = 64  # vectors for each cell, of which the cells are made
PROBED = 16  # one cell of so many is looked into
RERANKED = 10  # times as many as are asked for are compared exactly


class Rows:
    """Rows of several arrays (row, width) as one, gathered where they are read.

    arrays: kept in files or in memory. places: (row, 2) int64, which array and which of its rows.
    """

    def __init__(self, arrays: Sequence[np.ndarray], places: np.ndarray) -> None:
        self._arrays, self._places = arrays, places
        self.shape = (len(places), arrays[0].shape[1] if arrays else 0)

    def __getitem__(self, chosen: slice) -> np.ndarray:
        places = self._places[chosen]
        gathered = np.empty((len(places), self.shape[1]), np.float32)
        for number in np.unique(places[:, 0]).tolist():
            own = places[:, 0] == number
            gathered[own] = self._arrays[number][places[own, 1]]
        return gathered


@dataclass(frozen=True, eq=False)
class PictureIndex:
    """Vectors of pictures.

    graph:   sha256 of the exported graph that they come from.
    paths:   of the files, absolute. stamps: size in bytes and time of the last change of each, when it was embedded.
    vectors: (file, width) float32, of length one.
    cells:   faiss's file, where there are many.
    """

    graph: str
    paths: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    vectors: np.ndarray | Rows
    cells: Path | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def write(self, folder: Path) -> None:
        """Write the files; index.json, which vouches for the others, as the last."""
        (folder / RECORD).unlink(missing_ok=True)
        with _beside(folder / VECTORS) as path:
            mapped = np.lib.format.open_memmap(path, "w+", np.float32, self.vectors.shape)
            for begin in range(0, len(self), AT_ONCE):
                mapped[begin : begin + AT_ONCE] = self.vectors[begin : begin + AT_ONCE]
            mapped.flush()
        names = [VECTORS, FILES]
        if len(self) < LARGE:
            (folder / CELLS).unlink(missing_ok=True)
        else:
            with _beside(folder / CELLS) as path:
                _write_cells(np.load(folder / VECTORS, mmap_mode="r"), path)
            names.append(CELLS)
        rows = ((path, *stamp) for path, stamp in zip(self.paths, self.stamps, strict=True))
        write_csv(folder / FILES, COLUMNS, rows)
        digests = {name: sha256(folder / name) for name in names}
        write_json(folder / RECORD, {"format": FORMAT, "graph": self.graph, "sha256": digests})

    @staticmethod
    def read(folder: Path) -> "PictureIndex | None":
        """What `write` wrote; None where nothing was, or by another version. Raises DamagedFileError."""
        if not (folder / RECORD).is_file():
            return None
        remedy = f"Delete {folder}, then: kit index RUN FOLDER"
        record = read_json(folder / RECORD)
        try:
            if record.get("format") != FORMAT:
                return None
            for name, digest in record["sha256"].items():
                if sha256(folder / name) != digest:
                    raise DamagedFileError(folder / name, "it is not the file that was written", remedy)
            rows = read_csv(folder / FILES)
            return PictureIndex(
                graph=record["graph"],
                paths=tuple(row["path"] for row in rows),
                stamps=tuple((int(row["size"]), int(row["mtime_ns"])) for row in rows),
                vectors=np.load(folder / VECTORS, mmap_mode="r"),
                cells=folder / CELLS if CELLS in record["sha256"] else None,
            )
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DamagedFileError(folder / RECORD, f"it lacks something ({error!r})", remedy) from None

    def nearest(self, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and rows (query, count), the most alike first, of queries (query, width) of length one."""
        queries, count = np.ascontiguousarray(vectors, np.float32), min(count, len(self))
        found = None if self.cells is None else self._in_cells(queries, count)
        return found if found is not None else self._among_all(queries, count)

    def _among_all(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        faiss = load_faiss()
        cosines, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        for begin in range(0, len(self), AT_ONCE):
            part = np.ascontiguousarray(self.vectors[begin : begin + AT_ONCE])
            near, places = faiss.knn(queries, part, min(count, len(part)), faiss.METRIC_INNER_PRODUCT)
            cosines, rows = np.concatenate([cosines, near], 1), np.concatenate([rows, places + begin], 1)
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
            cosines, rows = np.take_along_axis(cosines, best, 1), np.take_along_axis(rows, best, 1)
        return cosines, rows

    def _in_cells(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """None where the cells that are looked into hold fewer than are asked for."""
        assert self.cells is not None, "asked where there are cells"
        cells = _opened(self.cells, file_stamp(self.cells))
        _, rows = cells.search(queries, min(RERANKED * count, len(self)))
        if (rows[:, :count] < 0).any():
            return None
        assert isinstance(self.vectors, np.ndarray), "cells belong to what was read"
        cosines = np.einsum("qkw,qw->qk", self.vectors[np.maximum(rows, 0)], queries)
        cosines = np.where(rows < 0, -np.inf, cosines)
        best = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(cosines, best, 1), np.take_along_axis(rows, best, 1)

    @staticmethod
    def join(
        graph: str, parts: "Sequence[PictureIndex]", stamps: Mapping[str, tuple[int, int]] | None = None
    ) -> "PictureIndex":
        """All parts as one, in order of paths; of a file that several have, the last counts.

        stamps: of the files that are wanted, as they are now; None: all as they were.
        """
        places: dict[str, tuple[int, int]] = {}
        for number, part in enumerate(parts):
            for row, (path, stamp) in enumerate(zip(part.paths, part.stamps, strict=True)):
                if stamps is None or stamps.get(path) == stamp:
                    places[path] = (number, row)
        paths = sorted(places)
        chosen = np.array([places[path] for path in paths], np.int64).reshape(-1, 2)
        return PictureIndex(
            graph,
            tuple(paths),
            tuple(parts[number].stamps[row] for number, row in chosen.tolist()),
            Rows([np.asarray(part.vectors) for part in parts], chosen),
        )


@contextmanager
def _beside(target: Path) -> Iterator[str]:
    """A file to be written, which takes the target's name at the end; without an end it goes."""
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    try:
        yield beside
        os.replace(beside, target)
    finally:
        Path(beside).unlink(missing_ok=True)


def _write_cells(vectors: np.ndarray, path: str) -> None:
    faiss = load_faiss()
    number = round(len(vectors) ** 0.5)
    cells = faiss.index_factory(vectors.shape[1], f"IVF{number},SQ8", faiss.METRIC_INNER_PRODUCT)
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), LEARNT_FROM * number)).astype(np.int64)
    cells.train(np.ascontiguousarray(vectors[rows]))
    for begin in range(0, len(vectors), AT_ONCE):
        cells.add(np.ascontiguousarray(vectors[begin : begin + AT_ONCE]))
    cells.nprobe = -(-number // PROBED)
    faiss.write_index(cells, path)


@functools.lru_cache(1)
def _opened(path: Path, _stamp: tuple[int, int]) -> Any:
    """The cells, as long as the file is the same."""
    return load_faiss().read_index(str(path))


def load_faiss() -> Any:
    """Import faiss; KitError with what to install where it is absent."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise KitError("faiss is not installed.", "Searching pictures needs it.", "pip install '.[similar]'") from None
    return faiss
