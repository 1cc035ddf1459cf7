"""Bringing an index up to date with folders: what is known is kept, the rest embedded in parts that survive a kill."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from challenges.classification.search.embedding import Embed
from challenges.classification.search.index import PictureIndex
from common.errors import DataError
from common.files import atomic_writer, file_stamp
from common.terminal.console import say
from common.terminal.progress import counting
from common.vision.images import EXTENSIONS, ImageFacts, ImageProblem, probe_all

PART = 512  # files between two savings
ALONE = 64  # files up to which starting processes takes longer than looking at them here


def pictures_in(folders: Sequence[Path]) -> list[Path]:
    """Every image file below the folders, absolute and once; DataError where there is none."""
    found = {
        path.resolve()
        for folder in folders
        for path in (folder.rglob("*") if folder.is_dir() else [folder])
        if path.suffix.lower() in EXTENSIONS and path.is_file()
    }
    if not found:
        raise DataError(
            f"There is no image among: {', '.join(map(str, folders))}.",
            f"Images are files ending in {', '.join(sorted(EXTENSIONS))}.",
            "Name folders of them: kit index RUN FOLDER",
        )
    return sorted(found)


def brought_up_to_date(
    embed: Embed, graph: str, paths: Sequence[Path], folder: Path, console: Console
) -> tuple[PictureIndex, dict[str, int]]:
    """The index of these files, and how many were known, embedded and left out; parts are kept in `folder` meanwhile.

    Raises DataError where none can be read.
    """
    parts = [part for part in (PictureIndex.read(folder), *_parts(folder)) if part is not None and part.graph == graph]
    stamps = {str(path): file_stamp(path) for path in paths}
    known = {path: stamp for part in parts for path, stamp in zip(part.paths, part.stamps, strict=True)}
    wanted = [path for path in paths if known.get(str(path)) != stamps[str(path)]]
    embedded = 0
    with counting("embedding", console) as count:
        for begin in range(0, len(wanted), PART):
            sound = _readable(wanted[begin : begin + PART], console)
            if sound:
                names = tuple(str(path) for path in sound)
                part = PictureIndex(graph, names, tuple(stamps[name] for name in names), embed(sound))
                parts.append(_read_part(_write_part(folder, part)))
            embedded += len(sound)
            count(min(begin + PART, len(wanted)), len(wanted))
    index = PictureIndex.join(graph, parts, stamps)
    if not len(index):
        raise DataError("None of the images can be read.", remedy="See above what is wrong with each.")
    told = {"known": len(paths) - len(wanted), "embedded": embedded, "left out": len(wanted) - embedded}
    return index, told


def forget_parts(folder: Path) -> None:
    """Delete what a whole index has taken in."""
    for path in (*folder.glob("part-*.npz"), *folder.glob("part-*.npy")):
        path.unlink()


def _readable(paths: Sequence[Path], console: Console) -> list[Path]:
    answers = {one.path: one for one in probe_all(paths, workers=0 if len(paths) <= ALONE else None)}
    for path in paths:
        problem = answers[path]
        if isinstance(problem, ImageProblem):
            say(console, f"left out: {path}: {problem.reason}")
    return [path for path in paths if isinstance(answers[path], ImageFacts)]


def _write_part(folder: Path, part: PictureIndex) -> Path:
    """The vectors, and then, in the file that is returned, whose they are."""
    path = folder / f"part-{sum(1 for _ in folder.glob('part-*.npz')):06}.npz"
    with atomic_writer(path.with_suffix(".npy")) as stream:
        np.save(stream, part.vectors[:], allow_pickle=False)
    with atomic_writer(path) as stream:
        np.savez(
            stream, allow_pickle=False, graph=np.array(part.graph), paths=np.array(part.paths, str),
            stamps=np.array(part.stamps, np.int64).reshape(-1, 2),
        )  # fmt: skip
    return path


def _parts(folder: Path) -> list[PictureIndex]:
    return [_read_part(path) for path in sorted(folder.glob("part-*.npz"))]


def _read_part(path: Path) -> PictureIndex:
    """Its vectors stay in their file until they are wanted."""
    with np.load(path) as arrays:
        stamps = tuple((int(size), int(time)) for size, time in arrays["stamps"])
        paths, graph = tuple(arrays["paths"].tolist()), str(arrays["graph"])
    return PictureIndex(graph, paths, stamps, np.load(path.with_suffix(".npy"), mmap_mode="r"))
