"""The index on the disk: vectors in faiss's file, and which file each of them is of."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import DamagedFileError, KitError
from common.files import read_csv, read_json, sha256, write_csv, write_json

VECTORS, FILES, RECORD = "index.faiss", "files.csv", "index.json"
COLUMNS = ("path", "size", "mtime_ns")


@dataclass(frozen=True, eq=False)
class PictureIndex:
    """Vectors of pictures.

    graph:   sha256 of the exported graph that they come from.
    paths:   of the files, absolute. stamps: size in bytes and time of the last change of each, when it was embedded.
    vectors: (file, width) float32, of length one.
    """

    graph: str
    paths: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def write(self, folder: Path) -> None:
        """Write three files; index.json, which vouches for the others, as the last."""
        faiss = load_faiss()
        found = faiss.IndexFlatIP(self.vectors.shape[1])
        found.add(np.ascontiguousarray(self.vectors, np.float32))
        (folder / RECORD).unlink(missing_ok=True)
        handle, beside = tempfile.mkstemp(dir=folder, prefix=f".{VECTORS}.", suffix=".part")
        os.close(handle)
        faiss.write_index(found, beside)
        os.replace(beside, folder / VECTORS)
        rows = ((path, *stamp) for path, stamp in zip(self.paths, self.stamps, strict=True))
        write_csv(folder / FILES, COLUMNS, rows)
        digests = {name: sha256(folder / name) for name in (VECTORS, FILES)}
        write_json(folder / RECORD, {"graph": self.graph, "width": self.vectors.shape[1], "sha256": digests})

    @staticmethod
    def read(folder: Path) -> "PictureIndex | None":
        """What `write` wrote; None where nothing was. Raises DamagedFileError."""
        if not (folder / RECORD).is_file():
            return None
        remedy = f"Delete {folder}, then: kit index RUN FOLDER"
        record = read_json(folder / RECORD)
        try:
            for name, digest in record["sha256"].items():
                if sha256(folder / name) != digest:
                    raise DamagedFileError(folder / name, "it is not the file that was written", remedy)
            rows = read_csv(folder / FILES)
            found = load_faiss().read_index(str(folder / VECTORS))
            return PictureIndex(
                graph=record["graph"],
                paths=tuple(row["path"] for row in rows),
                stamps=tuple((int(row["size"]), int(row["mtime_ns"])) for row in rows),
                vectors=found.reconstruct_n(0, found.ntotal),
            )
        except (OSError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFileError(folder / RECORD, f"it lacks something ({error!r})", remedy) from None

    def nearest(self, vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Cosines and rows (query, count), the most alike first, of queries (query, width) of length one."""
        found = load_faiss().IndexFlatIP(self.vectors.shape[1])
        found.add(self.vectors)
        cosines, rows = found.search(np.ascontiguousarray(vectors, np.float32), min(count, len(self)))
        return cosines, rows

    @staticmethod
    def join(graph: str, parts: "Sequence[PictureIndex]") -> "PictureIndex":
        """All parts as one, in order of paths; of a file that several have, the last counts."""
        place = {path: (part, row) for part in parts for row, path in enumerate(part.paths)}
        chosen = [place[path] for path in sorted(place)]
        return PictureIndex(
            graph,
            tuple(sorted(place)),
            tuple(part.stamps[row] for part, row in chosen),
            np.stack([part.vectors[row] for part, row in chosen]),
        )


def load_faiss() -> Any:
    """Import faiss; KitError with what to install where it is absent."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise KitError("faiss is not installed.", "Searching pictures needs it.", "pip install '.[similar]'") from None
    return faiss
