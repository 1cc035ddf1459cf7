"""Pictures that are there more than once, inside a split or in several: proposed by vectors, proven by their pixels."""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from challenges.classification.manifest import Manifest
from challenges.classification.search.embedding import normalised
from challenges.classification.search.index import load_faiss
from common.files import write_csv
from common.machine.processes import usable_cores
from common.terminal.console import plain, say
from common.terminal.progress import Counter as Progress
from common.vision.image_folders import displayed, identical_files
from common.vision.near_duplicates import COLOURS, SIDE, thumbnail
from common.vision.same_picture import SAME, Look, Part, open_upright

COMPARED = 50_000  # pairs in all, some 3 ms each: so many of the nearest of every picture are looked at,
NEIGHBOURS = 5  # and as many at least
KEPT = 128  # pictures kept ready to be laid over others, half a megabyte each
KINDS = {
    "identical": "identical files",
    "near-identical": "the same picture saved again",
    "part": "one cut from the other",
    "mirrored": "one the other's mirror image, cut or whole",
}
PAIRS, GROUPS = "copies.csv", "groups.csv"
"""In the folder of a check: every pair, and what must stay together, as `data.groups` reads it."""
SHOWN = 12  # pairs printed
SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Pair:
    """Two rows of a manifest that show one picture, the smaller one first, and how."""

    one: int
    other: int
    kind: str


def looks_of(manifest: Manifest) -> tuple[list[Look], np.ndarray]:
    """Every picture ready to be compared, 16 KB each at most, and the thumbnails (picture, level) uint8."""

    def seen(path: Path) -> tuple[Look, bytes]:
        picture = open_upright(path)
        return Look.of(picture), thumbnail(np.asarray(picture))

    with ThreadPoolExecutor(usable_cores()) as pool:
        found = list(pool.map(seen, (Path(manifest.root) / path for path in manifest.paths.tolist())))
    levels = np.frombuffer(b"".join(small for _, small in found), np.uint8)
    return [look for look, _ in found], levels.reshape(len(found), -1)


def thumbnail_vectors(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of thumbnails (picture, level) and of their mirror images, each (picture, level) float32 of length one."""
    green, colours = levels[:, : SIDE**2].reshape(-1, SIDE, SIDE), levels[:, SIDE**2 :]
    flipped = colours.reshape(-1, COLOURS, COLOURS, 3)[:, :, ::-1].reshape(len(levels), -1)
    mirrored = np.concatenate([green[:, :, ::-1].reshape(len(levels), -1), flipped], 1)
    own, turned = (given.astype(np.float32) - given.mean(1, keepdims=True) for given in (levels, mirrored))
    return normalised(own), normalised(turned)


def proposed(vectors: np.ndarray, *queries: np.ndarray) -> list[tuple[int, int]]:
    """Rows that are among each other's nearest, each pair once and in order; of few pictures all pairs.

    vectors, queries: (picture, width) of length one; vectors ask, and so does every further set of the same pictures.
    """
    neighbours = max(NEIGHBOURS, COMPARED // len(vectors))
    index = load_faiss().IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    pairs = set()
    for asking in (vectors, *queries):
        _, near = index.search(np.ascontiguousarray(asking), min(neighbours + 1, len(vectors)))
        pairs |= {(min(row, other), max(row, other)) for row, found in enumerate(near.tolist()) for other in found}
    return sorted(pair for pair in pairs if pair[0] != pair[1])


def proven(
    manifest: Manifest, looks: Sequence[Look], pairs: Sequence[tuple[int, int]], count: Progress
) -> Iterator[Pair]:
    """Those of the pairs that show one picture, and every pair of neighbours in a set of identical files."""
    same = {(one, other) for rows in identical_files(manifest.digests) for one, other in itertools.pairwise(rows)}
    yield from (Pair(one, other, "identical") for one, other in sorted(same))
    digests = manifest.digests

    @functools.lru_cache(KEPT)
    def part(row: int) -> Part:
        return looks[row].as_part()

    for done, (one, other) in enumerate(pairs, start=1):
        count(done, len(pairs))
        if digests[one] == digests[other]:
            continue
        cosine, kind = max(part(one).laid_over(looks[other]), part(other).laid_over(looks[one]))
        if cosine >= SAME:
            yield Pair(one, other, kind)


def groups_of(manifest: Manifest, pairs: Sequence[Pair]) -> dict[str, str]:
    """Path -> the first path of all that a chain of pairs joins, of the pictures that are in a pair."""
    above: dict[int, int] = {}

    def top(row: int) -> int:
        while row in above:
            row = above[row]
        return row

    for pair in pairs:
        ends = sorted({top(pair.one), top(pair.other)})
        above.update(dict.fromkeys(ends[1:], ends[0]))
    rows = sorted({row for pair in pairs for row in (pair.one, pair.other)})
    return {manifest.paths[row]: manifest.paths[top(row)] for row in rows}


def affected(manifest: Manifest, groups: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Split -> (its pictures that training has too, all its pictures), of the splits that judge."""
    splits = dict(zip(manifest.paths.tolist(), manifest.splits.tolist(), strict=True))
    learnt = {group for path, group in groups.items() if splits.get(path) == "train"}
    known = Counter(splits[path] for path, group in groups.items() if path in splits and group in learnt)
    sizes = Counter(splits.values())
    return {split: (known[split], sizes[split]) for split in ("val", "test") if sizes[split]}


def where(manifest: Manifest, pair: Pair) -> str:
    """Such as `inside training` or `training and validation`."""
    one, other = sorted((manifest.splits[pair.one], manifest.splits[pair.other]), key=tuple(SPLITS).index)
    return f"inside {SPLITS[one]}" if one == other else f"{SPLITS[one]} and {SPLITS[other]}"


def write_copies(manifest: Manifest, pairs: Sequence[Pair], groups: Mapping[str, str], folder: Path) -> None:
    rows = [(manifest.paths[pair.one], manifest.paths[pair.other], pair.kind, where(manifest, pair)) for pair in pairs]
    write_csv(folder / PAIRS, ("path", "other", "kind", "where"), rows)
    write_csv(folder / GROUPS, ("path", "group"), groups.items())


def print_copies(
    manifest: Manifest, pairs: Sequence[Pair], groups: Mapping[str, str], folder: Path, console: Console
) -> None:
    """How many there are of each kind and where, the first of them by name, and the shares of what judges."""
    if not pairs:
        say(console, "copies: none found.")
        return
    counts = Counter((pair.kind, where(manifest, pair)) for pair in pairs)
    table = Table("copies", "where", Column("pairs", justify="right"), "such as")
    for (kind, place), count in sorted(counts.items(), key=lambda item: (list(KINDS).index(item[0][0]), item[0][1])):
        first = next(pair for pair in pairs if (pair.kind, where(manifest, pair)) == (kind, place))
        table.add_row(KINDS[kind], place, f"{count:,}", plain(_named(manifest, first)))
    console.print(table)
    across = [pair for pair in pairs if manifest.splits[pair.one] != manifest.splits[pair.other]]
    for pair in across[:SHOWN]:
        say(console, f"{where(manifest, pair)}, {pair.kind}: {_named(manifest, pair)}")
    say(console, f"copies: all {len(pairs):,} pairs: {folder / PAIRS}")
    for split, (known, all_) in affected(manifest, groups).items():
        told = f"{known:,} of {all_:,} {SPLITS[split]} pictures ({known / all_:.1%}) are in training, too"
        say(console, f"copies: {told}" + (f"; the {SPLITS[split]} figures are too high." if known else "."))


def _named(manifest: Manifest, pair: Pair) -> str:
    return f"{displayed(manifest.paths[pair.one])} = {displayed(manifest.paths[pair.other])}"
