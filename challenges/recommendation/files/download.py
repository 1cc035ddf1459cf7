"""Downloading MovieLens from GroupLens, on request: resumed, compared with the published checksum, unpacked whole."""

import hashlib
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.errors import DataError
from common.files import read_json, write_json
from common.storage.fetching import PIECE, fetch
from common.storage.generated_folder import generate_folder
from common.terminal.progress import counting

ADDRESS = "https://files.grouplens.org/datasets/movielens"
MARKER = "download.json"
TERMS = (
    "MovieLens is GroupLens': for research, with acknowledgement (Harper and Konstan 2015, doi 10.1145/2827872), "
    "no redistribution, no commercial use without permission. Its README is in the folder."
)


@dataclass(frozen=True)
class Dataset:
    """One published archive.

    md5: as published beside it in <archive>.md5. megabytes: of archive and files. files: those that are kept.
    """

    archive: str
    md5: str
    megabytes: int
    files: tuple[str, ...]


DATASETS = {
    "ml-100k": Dataset("ml-100k.zip", "0e33842e24a9c977be4e0107933c0723", 20, ("u.data", "u.item", "README")),
    "ml-1m": Dataset("ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906", 31, ("ratings.dat", "movies.dat", "README")),
    "ml-20m": Dataset(
        "ml-20m.zip", "cd245b17a1ae2cc31bb14903e1204af3", 735, ("ratings.csv", "movies.csv", "README.txt")
    ),
    "ml-25m": Dataset(
        "ml-25m.zip", "6b51fb2759a8657d3bfcbfc42b592ada", 945, ("ratings.csv", "movies.csv", "README.txt")
    ),
}


def download(name: str, folder: Path, *, console: Console | None = None, address: str = ADDRESS) -> Path:
    """Fetch a MovieLens data set into `folder`, or find it there, and return `folder`.

    name: of DATASETS. console: where the terms and the progress are shown.
    What was fetched before an interruption is kept beside the folder and continued. Raises DataError when the server
    cannot be reached, when the archive is not the published one, or when the folder holds anything else.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set {name}.", f"Known are {', '.join(DATASETS)}.")
    dataset, folder = DATASETS[name], folder.absolute()

    def fill(fresh: Path) -> None:
        (console or Console(stderr=True)).print(TERMS, markup=False, highlight=False, soft_wrap=True)
        archive = folder.with_name(f".{folder.name}.{dataset.archive}.unfinished")
        with counting(f"downloading {dataset.archive}", console) as count:
            fetch(f"{address}/{dataset.archive}", archive, count)
        _verify(archive, dataset)
        fresh.mkdir()
        _unpack(archive, name, dataset, fresh)
        write_json(fresh / MARKER, {"name": name, "md5": dataset.md5, "address": f"{address}/{dataset.archive}"})
        archive.unlink()

    def is_whole() -> bool:
        try:
            known = read_json(folder / MARKER)["md5"] == dataset.md5
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return known and all((folder / file).is_file() for file in dataset.files)

    return generate_folder(folder, MARKER, f"files of {name}", dataset.megabytes, is_whole, fill)


def _verify(archive: Path, dataset: Dataset) -> None:
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != dataset.md5:
        archive.unlink()
        raise DataError(
            f"{dataset.archive} arrived with the MD5 sum {found}.",
            f"GroupLens publishes {dataset.md5}.",
            "It was deleted; try again. If that persists, something between here and GroupLens changes the file.",
        )


def _unpack(archive: Path, name: str, dataset: Dataset, folder: Path) -> None:
    """Take the named files, and no others, out of the archive's folder."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            for file in dataset.files:
                with zipped.open(f"{name}/{file}") as packed, (folder / file).open("wb") as stream:
                    shutil.copyfileobj(packed, stream, PIECE)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{dataset.archive} cannot be unpacked: {error}.", "A whole archive is needed.") from None
